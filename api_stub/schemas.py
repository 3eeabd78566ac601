"""What the API answers: records of the database as their callers see them.

Ids carry a prefix that tells what they name, times are RFC 3339 in UTC, and no field ever holds a
secret: the records' ``sealed`` columns have no counterpart here.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Self
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from worker.domain.calls import EVENT_FIELDS, EventKind, NotificationState
from worker.domain.job import JobKind, JobState, StepName, StepState
from worker.domain.values import Ownership, ProviderName, RoutingMode, format_id
from worker.service import (
    CredentialRecord,
    JobRecord,
    NotificationRecord,
    NumberRecord,
    StoredEvent,
)

#: Written with a Z, whatever time zone the database session has.
Timestamp = Annotated[datetime, AfterValidator(lambda value: value.astimezone(UTC))]

_IMPORT_ID: Final = "imp_01890a5d000070008000000000000001"
_NUMBER_ID: Final = "num_01890a5d000070008000000000000002"
_CREDENTIAL_ID: Final = "cred_01890a5d000070008000000000000003"
_AGENT_ID: Final = "agt_01890a5d000070008000000000000004"
_ACCOUNT_SID: Final = "AC00000000000000000000000000000000"
_TIME: Final = "2026-01-31T12:00:00.123456Z"


class FieldError(BaseModel):
    """What is wrong with one field of a request."""

    field: str = Field(description="Where: names joined by dots, or the name of a header.")
    message: str


class Problem(BaseModel):
    """A refusal or a failure, after RFC 9457."""

    type: str = Field(description="`urn:trunkline:problem:` and the code.")
    title: str
    status: int
    detail: str = Field(description="What happened and what to do, for a person.")
    code: str = Field(description="What happened, for a program; never changes its meaning.")
    step: str | None = Field(default=None, description="The step of the import that failed.")
    import_id: str | None = Field(default=None, description="The import that failed.")
    errors: list[FieldError] | None = None


class ErrorOut(BaseModel):
    """Why a step was not done, or why its next attempt is needed."""

    code: str
    message: str


class JobErrorOut(ErrorOut):
    """Why an import ended."""

    step: StepName | None


class StepOut(BaseModel):
    """One step of an import."""

    name: StepName
    state: StepState
    attempts: int
    undo_attempts: int
    started_at: Timestamp | None
    finished_at: Timestamp | None
    error: ErrorOut | None


class NotificationOut(BaseModel):
    """What a callback_url was or is to be told."""

    id: str = Field(description="The `webhook-id` that it comes with, the same on every attempt.")
    type: str = Field(examples=["import.active"])
    state: NotificationState
    attempts: int
    next_attempt_at: Timestamp | None
    error: str | None = Field(description="Why the last attempt failed.")
    finished_at: Timestamp | None

    @classmethod
    def from_record(cls, one: NotificationRecord) -> Self:
        """Formats a notification."""
        return cls(
            id=format_id("msg", one.id),
            type=one.type,
            state=one.state,
            attempts=one.attempts,
            next_attempt_at=one.due_at,
            error=one.error,
            finished_at=one.finished_at,
        )


class JobSummary(BaseModel):
    """An import without its steps."""

    id: str
    kind: JobKind
    status: JobState
    phone_number: str
    provider: ProviderName
    routing_mode: RoutingMode
    supports_inbound: bool
    supports_outbound: bool
    friendly_name: str | None
    agent_id: str | None
    user_id: str | None
    credential_id: str
    phone_number_id: str | None = Field(description="The number's id once it is imported.")
    error: JobErrorOut | None = Field(description="What made the import fail.")
    undo_error: JobErrorOut | None = Field(description="Why it is stuck: what could not be undone.")
    next_attempt_at: Timestamp | None = Field(description="When a step is tried again.")
    cancel_requested_at: Timestamp | None
    warnings: list[str]
    metadata: dict[str, Any]
    price: float | None
    carrier: dict[str, str] | None = Field(
        default=None,
        description="For a SIP carrier: what to set on its side. The password is the one you sent.",
    )
    created_at: Timestamp
    updated_at: Timestamp
    started_at: Timestamp | None
    finished_at: Timestamp | None

    @classmethod
    def from_record(cls, job: JobRecord) -> Self:
        """Formats a job as the database knows it."""
        return cls(**_job_fields(job))


class JobOut(JobSummary):
    """An import with every step, in their order, also those that have not begun."""

    steps: list[StepOut]
    notifications: list[NotificationOut] = Field(
        default=[], description="What the callback_url is told of its end."
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _IMPORT_ID,
                    "kind": "import",
                    "status": "running",
                    "phone_number": "+14155550100",
                    "provider": "twilio",
                    "routing_mode": "webhook",
                    "supports_inbound": True,
                    "supports_outbound": True,
                    "friendly_name": "Front desk",
                    "agent_id": _AGENT_ID,
                    "user_id": None,
                    "credential_id": _CREDENTIAL_ID,
                    "phone_number_id": None,
                    "error": None,
                    "undo_error": None,
                    "next_attempt_at": None,
                    "cancel_requested_at": None,
                    "warnings": [],
                    "metadata": {},
                    "price": None,
                    "created_at": _TIME,
                    "updated_at": _TIME,
                    "started_at": _TIME,
                    "finished_at": None,
                    "steps": [
                        {
                            "name": name,
                            "state": "waiting" if place else "running",
                            "attempts": 0 if place else 1,
                            "undo_attempts": 0,
                            "started_at": None if place else _TIME,
                            "finished_at": None,
                            "error": None,
                        }
                        for place, name in enumerate(StepName)
                    ],
                }
            ]
        }
    )

    @classmethod
    def from_record(cls, job: JobRecord) -> Self:
        """Formats a job as the database knows it."""
        return cls(
            **_job_fields(job),
            steps=[_step(job, name) for name in job.shown_steps],
            notifications=[NotificationOut.from_record(one) for one in job.notifications],
        )


class ImportPage(BaseModel):
    """Some imports, newest first."""

    items: list[JobSummary]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


class NumberOut(BaseModel):
    """A number that is imported and active."""

    id: str
    phone_number: str
    provider: ProviderName
    status: str
    ownership: Ownership
    routing_mode: RoutingMode
    supports_inbound: bool
    supports_outbound: bool
    sms_capable: bool | None
    friendly_name: str | None
    country: str | None = Field(description="ISO 3166 alpha-2, if the number belongs to one.")
    agent_id: str | None
    user_id: str | None
    credential_id: str
    import_id: str = Field(description="The import that brought it in.")
    checked_at: Timestamp | None = Field(description="When it was last compared with what is set.")
    verdict: str | None = Field(
        description="What that found: `ok`, `drifted` or `unknown`; POST …/check tells the rest."
    )
    provider_number_id: str | None = Field(description="The provider's own id of the number.")
    inbound_trunk_id: str | None
    outbound_trunk_id: str | None
    dispatch_rule_id: str | None
    metadata: dict[str, Any]
    price: float | None
    carrier: dict[str, str] | None = Field(
        default=None,
        description="For a SIP carrier: what to set on its side. The password is the one you sent.",
    )
    created_at: Timestamp
    updated_at: Timestamp

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _NUMBER_ID,
                    "phone_number": "+14155550100",
                    "provider": "twilio",
                    "status": "active",
                    "ownership": "proven",
                    "routing_mode": "webhook",
                    "supports_inbound": True,
                    "supports_outbound": True,
                    "sms_capable": True,
                    "friendly_name": "Front desk",
                    "country": "US",
                    "agent_id": _AGENT_ID,
                    "user_id": None,
                    "credential_id": _CREDENTIAL_ID,
                    "import_id": _IMPORT_ID,
                    "checked_at": _TIME,
                    "verdict": "ok",
                    "provider_number_id": "PN00000000000000000000000000000000",
                    "inbound_trunk_id": "ST_example",
                    "outbound_trunk_id": "ST_example2",
                    "dispatch_rule_id": "SDR_example",
                    "metadata": {},
                    "price": None,
                    "created_at": _TIME,
                    "updated_at": _TIME,
                }
            ]
        }
    )

    @classmethod
    def from_record(cls, number: NumberRecord) -> Self:
        """Formats a number as the database knows it."""
        return cls(
            id=format_id("num", number.id),
            phone_number=number.e164,
            provider=ProviderName(number.provider),
            status=number.status,
            ownership=Ownership(number.ownership),
            routing_mode=RoutingMode(number.routing_mode),
            supports_inbound=number.supports_inbound,
            supports_outbound=number.supports_outbound,
            sms_capable=number.sms_capable,
            friendly_name=number.friendly_name,
            country=number.country,
            agent_id=_id("agt", number.agent_id),
            user_id=_id("usr", number.user_id),
            credential_id=format_id("cred", number.credential_id),
            import_id=format_id("imp", number.import_id),
            checked_at=number.checked_at,
            verdict=(number.diagnosis or {}).get("verdict"),
            provider_number_id=number.provider_number_id,
            inbound_trunk_id=number.inbound_trunk_id,
            outbound_trunk_id=number.outbound_trunk_id,
            dispatch_rule_id=number.dispatch_rule_id,
            metadata=number.details.get("metadata") or {},
            price=number.details.get("price"),
            carrier=number.details.get("carrier"),
            created_at=number.created_at,
            updated_at=number.updated_at,
        )


class NumberPage(BaseModel):
    """Some numbers, newest first."""

    items: list[NumberOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


class EventOut(BaseModel):
    """What a provider reported of a call, a message or a recording."""

    id: str
    kind: EventKind
    received_at: Timestamp
    data: dict[str, str | int | None] = Field(
        description=" ".join(
            f"`{kind}`: {', '.join(names)}." for kind, names in EVENT_FIELDS.items()
        )
    )

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": "evt_01890a5d000070008000000000000005",
                    "kind": "call",
                    "received_at": _TIME,
                    "data": {
                        "call_id": "CA00000000000000000000000000000000",
                        "status": "completed",
                        "direction": "inbound",
                        "from": "+12025550123",
                        "to": "+14155550100",
                        "duration_seconds": 42,
                    },
                }
            ]
        }
    )

    @classmethod
    def from_record(cls, event: StoredEvent) -> Self:
        """Formats an event."""
        return cls(
            id=format_id("evt", event.id),
            kind=event.kind,
            received_at=event.received_at,
            data=event.data,
        )


class EventPage(BaseModel):
    """Some events of a number, newest first."""

    items: list[EventOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


class CredentialOut(BaseModel):
    """A provider account; its secrets can be written, never read."""

    id: str
    provider: ProviderName
    account_ref: str = Field(description="The provider's own id of the account.")
    label: str
    stored: bool = Field(description="False if an import brought it inline: it is not listed.")
    created_at: Timestamp
    updated_at: Timestamp
    warnings: list[str] = Field(default=[], description="What a rotation should know.")

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "id": _CREDENTIAL_ID,
                    "provider": "twilio",
                    "account_ref": _ACCOUNT_SID,
                    "label": "Main account",
                    "stored": True,
                    "created_at": _TIME,
                    "updated_at": _TIME,
                }
            ]
        }
    )

    @classmethod
    def from_record(cls, credential: CredentialRecord, warnings: Sequence[str] = ()) -> Self:
        """Formats a credential as the database knows it, without what is sealed."""
        return cls(
            id=format_id("cred", credential.id),
            provider=ProviderName(credential.provider),
            account_ref=credential.account_ref,
            label=credential.label,
            stored=credential.stored,
            created_at=credential.created_at,
            updated_at=credential.updated_at,
            warnings=list(warnings),
        )


class CredentialPage(BaseModel):
    """Some stored credentials, newest first."""

    items: list[CredentialOut]
    next_cursor: str | None = Field(description="Give it as `cursor` for the next page.")


def _job_fields(job: JobRecord) -> dict[str, Any]:
    request = job.request
    return {
        "id": format_id("imp", job.id),
        "kind": job.kind,
        "status": job.state,
        "phone_number": job.e164,
        "provider": job.provider,
        "routing_mode": request["routing_mode"],
        "supports_inbound": request["supports_inbound"],
        "supports_outbound": request["supports_outbound"],
        "friendly_name": request["friendly_name"],
        "agent_id": _id("agt", job.agent_id),
        "user_id": _id("usr", job.user_id),
        "credential_id": format_id("cred", job.credential_id),
        # The row is claimed at submit, but until the import is active it is nobody's number.
        "phone_number_id": (
            _id("num", job.phone_number_id)
            if job.state is JobState.ACTIVE or job.kind is not JobKind.IMPORT
            else None
        ),
        "error": _error(job.error_code, job.error_message, job.error_step),
        "undo_error": _error(job.undo_error_code, job.undo_error_message, job.undo_error_step),
        "next_attempt_at": job.next_attempt_at,
        "cancel_requested_at": job.cancel_requested_at,
        "warnings": [*job.warnings, *_step_warnings(job)],
        "metadata": request["metadata"],
        "price": request["price"],
        "carrier": request.get("carrier"),
        "created_at": job.created_at,
        "updated_at": job.updated_at,
        "started_at": job.started_at,
        "finished_at": job.finished_at,
    }


def _step_warnings(job: JobRecord) -> list[str]:
    found: list[str] = []
    for name in StepName:
        if name in job.steps:
            found += job.steps[name].output.get("warnings", ())
    return found


def _step(job: JobRecord, name: StepName) -> StepOut:
    step = job.steps.get(name)
    if step is None or step.state is StepState.WAITING:
        return StepOut(
            name=name,
            state=StepState.WAITING,
            attempts=0,
            undo_attempts=0,
            started_at=None,
            finished_at=None,
            error=None,
        )
    error = None
    if step.error_code is not None:
        error = ErrorOut(code=step.error_code, message=step.error_message or "")
    return StepOut(
        name=name,
        state=step.state,
        attempts=step.attempts,
        undo_attempts=step.undo_attempts,
        started_at=step.started_at,
        finished_at=step.finished_at,
        error=error,
    )


def _error(code: str | None, message: str | None, step: StepName | None) -> JobErrorOut | None:
    return None if code is None else JobErrorOut(code=code, message=message or "", step=step)


def _id(prefix: str, value: UUID | None) -> str | None:
    return None if value is None else format_id(prefix, value)
