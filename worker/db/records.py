"""What the repository hands out and takes: rows as values that no query changes any more."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row

from worker.domain.calls import NotificationState
from worker.domain.job import (
    FINAL,
    PLANS,
    TRANSITIONS,
    JobKind,
    JobQueue,
    JobState,
    StepName,
    StepState,
    read_step_name,
    read_word,
)
from worker.domain.spec import ImportSpec
from worker.domain.values import NumberStatus

_STEPS: Final = frozenset(StepName)
_STEP_STATES: Final = frozenset(StepState)
#: What a request may hold that this release can do.
REQUEST_FIELDS: Final = ImportSpec.__dataclass_fields__.keys()


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
class NotificationRecord:
    """One row of notifications, as its organisation may see it."""

    id: UUID
    type: str
    state: NotificationState
    attempts: int
    #: When it is tried next; None once it is not.
    due_at: datetime | None
    error: str | None
    created_at: datetime
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class JobRecord:
    """One row of import_jobs with its steps."""

    id: UUID
    organization_id: UUID
    kind: JobKind
    import_id: UUID | None
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
    notify: bool
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
    #: The batch that it came with, if it did.
    batch_id: UUID | None = None
    #: When the sweep steps in; None for a job that is final or held.
    due_at: datetime | None = None
    #: Whether its messages go by the queue of those who wait for others of their organisation.
    backlog: bool = False
    #: What its callback_url was told of its end, where that was asked for.
    notifications: Sequence[NotificationRecord] = ()

    @property
    def brought_in_by(self) -> UUID:
        """The import whose name everything outside carries."""
        return self.import_id or self.id

    @property
    def is_final(self) -> bool:
        """Whether nothing moves the job on by itself."""
        return self.state in FINAL

    @property
    def shown_steps(self) -> tuple[StepName, ...]:
        """The steps of the job's kind in their order; then what only a newer release knows."""
        plan = PLANS.get(self.kind, ())
        return (*plan, *(step for step in self.steps if step not in _STEPS))

    @property
    def is_understood(self) -> bool:
        """Whether this release knows every word of the job; else only a newer one may work on it.

        A step that it does not know may have made what only that release can undo.
        """
        return (
            self.kind in PLANS
            and self.state in TRANSITIONS
            and (self.step is None or self.step in PLANS[self.kind])
            and self.steps.keys() <= _STEPS
            and {record.state for record in self.steps.values()} <= _STEP_STATES
            and self.request.keys() <= REQUEST_FIELDS
        )

    @property
    def queue(self) -> JobQueue:
        """Which queue its messages go through."""
        return JobQueue(self.provider, self.backlog)

    @property
    def is_held(self) -> bool:
        """Whether it waits for a place, without any message."""
        return self.state in (JobState.QUEUED, JobState.UNDOING) and self.due_at is None


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
    #: The LiveKit agent_name of its fallback agent, if it has one.
    fallback_dispatch_name: str | None = None


@dataclass(frozen=True, kw_only=True)
class NumberRecord:
    """One row of phone_numbers."""

    id: UUID
    organization_id: UUID
    import_id: UUID
    job_id: UUID | None
    e164: str
    provider: str
    ownership: str
    status: NumberStatus
    credential_id: UUID
    agent_id: UUID | None
    user_id: UUID | None
    friendly_name: str | None
    routing_mode: str
    supports_inbound: bool
    supports_outbound: bool
    provider_number_id: str | None
    country: str | None
    sms_capable: bool | None
    inbound_trunk_id: str | None
    outbound_trunk_id: str | None
    dispatch_rule_id: str | None
    details: Mapping[str, Any]
    checked_at: datetime | None
    diagnosis: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime

    @property
    def set_up_by(self) -> UUID:
        """The job whose request and steps say what there should be outside."""
        return self.job_id or self.import_id


@dataclass(frozen=True, kw_only=True)
class Setup:
    """A number with everything that says what there should be outside for it."""

    number: NumberRecord
    job: JobRecord
    credential_sealed: bytes
    #: What a rotation has replaced, while signatures made with it are still good.
    replaced_sealed: bytes | None
    agent_dispatch_name: str | None
    fallback_dispatch_name: str | None


@dataclass(frozen=True, kw_only=True)
class NumberFacts:
    """What a number is once its job is active: columns of phone_numbers, and its next check."""

    agent_id: UUID | None = None
    friendly_name: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    provider_number_id: str | None = None
    country: str | None = None
    sms_capable: bool | None = None
    inbound_trunk_id: str | None = None
    outbound_trunk_id: str | None = None
    dispatch_rule_id: str | None = None
    #: After how many seconds it is checked; None for never.
    check_in: float | None = None


class NoClaim(Enum):
    """Why a message leads to no work."""

    #: The step is done: the next one may be tried at once.
    PASSED = "passed"
    #: Somebody else works on the job, or it is elsewhere: this copy of the chain ends here.
    NOT_OURS = "not_ours"
    #: The job has just begun to be undone: the undo chain takes over.
    UNDOING = "undoing"
    #: The cursor has just been put where this release begins: a chain from there takes over.
    MOVED = "moved"


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
    notify: bool
    warnings: Sequence[str]
    #: The batch that it comes with, if it does.
    batch_id: UUID | None = None


@dataclass(frozen=True, kw_only=True)
class NewChange:
    """What a job on an active number is to be; the rest it has from the job before."""

    id: UUID
    kind: JobKind
    organization_id: UUID
    api_key_id: UUID | None
    phone_number_id: UUID
    #: The request as it is to be from now on, and its secrets; None: as it was.
    request: Mapping[str, Any] | None = None
    sealed: bytes | None = None
    #: Only with a request.
    agent_id: UUID | None = None
    notify: bool = False
    #: When the number that the request was made from had last changed.
    seen: datetime | None = None


def with_values(job: JobRecord, **values: Any) -> JobRecord:  # noqa: ANN401 -- fields of the record
    """Returns the record with some fields changed."""
    return JobRecord(**{**vars(job), **values})


def read_step(row: Mapping[str, Any]) -> StepRecord:
    """Reads a row of job_steps."""
    values = {name: row[name] for name in StepRecord.__dataclass_fields__}
    return StepRecord(
        **{
            **values,
            "step": read_step_name(row["step"]),
            "state": read_word(StepState, row["state"]),
        },
    )


def read_notification(row: Row[Any]) -> NotificationRecord:
    """Reads a row of notifications."""
    values = {name: getattr(row, name) for name in NotificationRecord.__dataclass_fields__}
    return NotificationRecord(**{**values, "state": read_word(NotificationState, row.state)})


#: Columns of import_jobs that a record has.
JOB_FIELDS: Final = tuple(
    name for name in JobRecord.__dataclass_fields__ if name not in ("steps", "notifications")
)


def read_job(
    row: Row[Any],
    steps: Mapping[StepName, StepRecord],
    notifications: Sequence[NotificationRecord] = (),
) -> JobRecord:
    """Reads a row of import_jobs."""
    values = {name: getattr(row, name) for name in JOB_FIELDS}
    for name in ("step", "error_step", "undo_error_step"):
        values[name] = None if values[name] is None else read_step_name(values[name])
    values |= {"kind": read_word(JobKind, row.kind), "state": read_word(JobState, row.state)}
    return JobRecord(**values, steps=steps, notifications=notifications)


def read_number(row: Row[Any]) -> NumberRecord:
    """Reads a row of phone_numbers."""
    values = {name: getattr(row, name) for name in NumberRecord.__dataclass_fields__}
    return NumberRecord(**{**values, "status": read_word(NumberStatus, row.status)})
