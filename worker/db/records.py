"""What the repository hands out and takes: rows as values that no query changes any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from worker.domain.job import FINAL, JobState, StepName, StepState


@dataclass(frozen=True, kw_only=True)
class StepRecord:
    """One row of job_steps."""

    step: StepName
    state: StepState
    attempts: int
    undo_attempts: int
    objects: Mapping[str, str]
    output: Mapping[str, Any]
    sealed: bytes | None
    unsettled_until: datetime | None
    error_code: str | None
    error_message: str | None
    started_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One row of import_jobs with its steps."""

    id: UUID
    organization_id: UUID
    state: JobState
    provider: str
    e164: str
    credential_id: UUID
    account_ref: str
    agent_id: UUID | None
    user_id: UUID | None
    phone_number_id: UUID | None
    request: Mapping[str, Any]
    sealed: bytes
    warnings: Sequence[str]
    step: StepName | None
    next_attempt_at: datetime | None
    lease_until: datetime | None
    cancel_requested_at: datetime | None
    error_code: str | None
    error_message: str | None
    error_step: StepName | None
    undo_error_code: str | None
    undo_error_message: str | None
    undo_error_step: StepName | None
    version: int
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    steps: Mapping[StepName, StepRecord]

    @property
    def is_final(self) -> bool:
        """Whether nothing moves the job on by itself."""
        return self.state in FINAL


@dataclass(frozen=True, kw_only=True)
class Claim:
    """The right to work on one step of one job, and all that the work needs to know."""

    job: JobRecord
    step: StepName
    undo: bool
    #: Which attempt at this step this is: 1, 2, …
    attempt: int
    fence: int
    credential_sealed: bytes
    #: The LiveKit agent_name of the job's agent, if it has one.
    agent_dispatch_name: str | None
    #: The same of its fallback agent.
    fallback_dispatch_name: str | None = None


class NoClaim(Enum):
    """Why a message leads to no work."""

    #: The step is done: the next one may be tried at once.
    PASSED = "passed"
    #: Somebody else works on the job, or it is elsewhere: this copy of the chain ends here.
    NOT_OURS = "not_ours"
    #: The job has just begun to be undone: the undo chain takes over.
    UNDOING = "undoing"


@dataclass(frozen=True, kw_only=True)
class NewJob:
    """What submit stores."""

    id: UUID
    organization_id: UUID
    api_key_id: UUID | None
    idempotency_key: str | None
    provider: str
    e164: str
    credential_id: UUID
    account_ref: str
    agent_id: UUID | None
    user_id: UUID | None
    phone_number_id: UUID
    request: Mapping[str, Any]
    sealed: bytes
    warnings: Sequence[str]


def with_values(job: JobRecord, **values: Any) -> JobRecord:  # noqa: ANN401 -- fields of the record
    """Returns the record with some fields changed."""
    return JobRecord(**{**vars(job), **values})


def read_step(row: Row[Any]) -> StepRecord:
    """Reads a row of job_steps."""
    values = dict(row._mapping)  # noqa: SLF001 -- SQLAlchemy's documented accessor
    del values["job_id"]
    return StepRecord(
        **{**values, "step": StepName(row.step), "state": StepState(row.state)},
    )


_JOB_FIELDS: Final = tuple(name for name in JobRecord.__dataclass_fields__ if name != "steps")


def read_job(row: Row[Any], steps: Mapping[StepName, StepRecord]) -> JobRecord:
    """Reads a row of import_jobs."""
    values = {name: getattr(row, name) for name in _JOB_FIELDS}
    for name in ("step", "error_step", "undo_error_step"):
        values[name] = None if values[name] is None else StepName(values[name])
    return JobRecord(**{**values, "state": JobState(row.state), "steps": steps})
