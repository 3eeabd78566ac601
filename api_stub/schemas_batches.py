"""What the API answers of batches, and what it takes."""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field

from api_stub.bodies import ImportBody
from api_stub.schemas import JobErrorOut, Timestamp
from worker.domain.job import JobState
from worker.domain.values import format_id
from worker.service import BatchRecord, RowRecord

_BATCH_ID: Final = "bat_01890a5d000070008000000000000006"
_TIME: Final = "2026-01-31T12:00:00.123456Z"
_CREDENTIAL_ID: Final = "cred_01890a5d000070008000000000000003"

#: States that somebody still moves on.
_GOING_ON: Final = (JobState.QUEUED, JobState.RUNNING, JobState.UNDOING)


class RowStatus(StrEnum):
    """Where a row of a batch is: refused at once, or where its import is."""

    REFUSED = "refused"
    QUEUED = "queued"
    RUNNING = "running"
    ACTIVE = "active"
    UNDOING = "undoing"
    FAILED = "failed"
    CANCELLED = "cancelled"
    STUCK = "stuck"


assert set(RowStatus) == {"refused", *JobState} - {"released"}, "an import is never released"


class BatchStatus(StrEnum):
    """Whether anything of a batch still goes on."""

    RUNNING = "running"
    FINISHED = "finished"


class BatchBody(BaseModel):
    """Many imports; each item is what `POST /v1/imports` takes, and overrides the defaults."""

    model_config = ConfigDict(
        title="BatchRequest",
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "defaults": {"provider": "twilio", "credential_id": _CREDENTIAL_ID},
                    "items": [
                        {"phone_number": "+14155550100", "friendly_name": "Front desk"},
                        {"phone_number": "+14155550101"},
                    ],
                }
            ]
        },
    )

    items: list[ImportBody] = Field(min_length=1, max_length=10_000)
    defaults: dict[str, Any] = Field(
        default_factory=dict, description="Fields of an import that the items need not repeat."
    )
    callback_url: str | None = Field(
        default=None, max_length=2048, description="The default of every import's."
    )


class BatchRowOut(BaseModel):
    """One number of a batch, and where its import is."""

    line: int = Field(description="Line of the CSV on which it begins; in JSON its place, from 1.")
    phone_number: str | None = Field(description="null where the row has no well-formed number.")
    import_id: str | None = Field(description="null where the row was refused.")
    status: RowStatus
    error: JobErrorOut | None

    @classmethod
    def from_record(cls, row: RowRecord) -> Self:
        """Formats a row as the database knows it."""
        error = None
        if row.error_code is not None:
            error = JobErrorOut(
                code=row.error_code, message=row.error_message or "", step=row.error_step
            )
        return cls(
            line=row.line,
            phone_number=row.e164,
            import_id=None if row.job_id is None else format_id("imp", row.job_id),
            status=RowStatus.REFUSED if row.state is None else RowStatus(row.state),
            error=error,
        )


class BatchSummary(BaseModel):
    """A batch without its numbers."""

    id: str
    status: BatchStatus
    total: int = Field(description="How many rows it has.")
    counts: dict[RowStatus, int] = Field(description="How many of them are where; all add up.")
    cancel_requested_at: Timestamp | None
    created_at: Timestamp

    @classmethod
    def from_record(cls, batch: BatchRecord) -> Self:
        """Formats a batch as the database knows it."""
        return cls(**_batch_fields(batch))


class BatchOut(BatchSummary):
    """A batch with a page of its numbers."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _BATCH_ID,
                    "status": "running",
                    "total": 2,
                    "counts": {**dict.fromkeys(RowStatus, 0), "queued": 1, "refused": 1},
                    "cancel_requested_at": None,
                    "created_at": _TIME,
                    "items": [
                        {
                            "line": 2,
                            "phone_number": "+14155550100",
                            "import_id": "imp_01890a5d000070008000000000000001",
                            "status": "queued",
                            "error": None,
                        },
                        {
                            "line": 3,
                            "phone_number": None,
                            "import_id": None,
                            "status": "refused",
                            "error": {
                                "code": "invalid_phone_number",
                                "message": "Give the phone number in E.164 format.",
                                "step": None,
                            },
                        },
                    ],
                    "next_cursor": None,
                }
            ]
        }
    )

    items: list[BatchRowOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")

    @classmethod
    def from_records(cls, batch: BatchRecord, rows: list[RowRecord], limit: int) -> Self:
        """Formats a batch with a page of its rows; one row more says that there is another page."""
        page = rows[:limit]
        return cls(
            **_batch_fields(batch),
            items=[BatchRowOut.from_record(row) for row in page],
            next_cursor=str(page[-1].line) if len(rows) > limit else None,
        )


class BatchPage(BaseModel):
    """Some batches, newest first."""

    items: list[BatchSummary]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


def _batch_fields(batch: BatchRecord) -> dict[str, Any]:
    counts = {status: batch.counts.get(status, 0) for status in RowStatus}
    going_on = any(counts[RowStatus(state)] for state in _GOING_ON)
    return {
        "id": format_id("bat", batch.id),
        "status": BatchStatus.RUNNING if going_on else BatchStatus.FINISHED,
        "total": sum(counts.values()),
        "counts": counts,
        "cancel_requested_at": batch.cancel_requested_at,
        "created_at": batch.created_at,
    }
