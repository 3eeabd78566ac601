"""How the counts of an organisation's jobs look."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, Field

from api_stub.schemas import Timestamp
from worker.domain.job import OPEN, JobState
from worker.service import TALLY_HOURS, Tally


class OpenState(StrEnum):
    """States of jobs that still work on their number, or wait for an operator to let them."""

    QUEUED = "queued"
    RUNNING = "running"
    UNDOING = "undoing"
    STUCK = "stuck"


class EndedState(StrEnum):
    """States of jobs that have ended."""

    ACTIVE = "active"
    FAILED = "failed"
    CANCELLED = "cancelled"
    RELEASED = "released"


assert {str(state) for state in OpenState} == OPEN, "a state is missing from those counted"
assert {*OpenState, *EndedState} == {*JobState}, "a state is missing from those counted"


class ImportCounts(BaseModel):
    """How many jobs of an organisation are in each state."""

    open: dict[OpenState, int] = Field(description="All that have not ended, or are stuck.")
    ended: dict[EndedState, int] = Field(description="All that ended since `ended_since`.")
    ended_since: Timestamp = Field(description=f"{TALLY_HOURS} hours ago.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "open": {**dict.fromkeys(OpenState, 0), "running": 2},
                    "ended": {**dict.fromkeys(EndedState, 0), "active": 40, "failed": 1},
                    "ended_since": "2026-01-31T12:00:00.123456Z",
                }
            ]
        }
    )

    @classmethod
    def from_record(cls, tally: Tally) -> Self:
        """Formats what was counted, also the states in which there is no job."""
        return cls(
            open={state: tally.jobs.get(state, 0) for state in OpenState},
            ended={state: tally.jobs.get(state, 0) for state in EndedState},
            ended_since=tally.ended_since,
        )
