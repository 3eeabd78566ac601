"""The tables. Times are UTC; ids are UUIDv7, so rows of one table lie in the order they were made.

A column named ``sealed`` is the vault: encrypted JSON (:mod:`worker.db.vault`), the only place
where a secret, or a foreign URL of the customer (whose query may hold one), is ever stored.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    MetaData,
    Text,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from uuid_utils.compat import uuid7

from worker.domain.calls import EventKind, NotificationState
from worker.domain.job import JobKind, JobState, StepState
from worker.domain.values import NumberStatus, Ownership


def _in(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


def _external_ids(table: str) -> Index:
    return Index(
        f"uq_{table}_organization_id_external_id",
        "organization_id",
        "external_id",
        unique=True,
        postgresql_where=text("deleted_at IS NULL"),
    )


class Base(DeclarativeBase):
    """What all tables share: constraint names that a migration can rely on, and type mapping."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar = {
        datetime: DateTime(timezone=True),
        str: Text,
        dict[str, Any]: JSONB,
        list[str]: JSONB,
    }


class Organization(Base):
    """A tenant: everything else belongs to one."""

    __tablename__ = "organizations"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    name: Mapped[str]
    """The operator's name for it, by which the command line finds it."""
    display_name: Mapped[str | None]
    """What it calls itself, if that is another name. Apart, so that no tenant can take a name by
    which the operator would give somebody else a key of theirs."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    sealed: Mapped[bytes | None]
    """What its notifications are signed with; null until it is first needed."""


class User(Base):
    """A person of an organisation, whom numbers may belong to."""

    __tablename__ = "users"
    __table_args__ = (_external_ids("users"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str]
    external_id: Mapped[str | None]
    """The organisation's own id of them, unique there among those that are not deleted."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class ApiKey(Base):
    """A key that calls the API for its organisation; the secret itself is not stored."""

    __tablename__ = "api_keys"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str]
    role: Mapped[str]
    """admin, agent_manager or viewer."""
    prefix: Mapped[str] = mapped_column(unique=True)
    """The public half, by which the key is looked up and listed."""
    secret_hash: Mapped[bytes]
    """SHA-256 of the secret half, which has 256 random bits: no salt or stretching is needed."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Agent(Base):
    """A voice agent that answers numbers."""

    __tablename__ = "agents"
    __table_args__ = (_external_ids("agents"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    name: Mapped[str]
    dispatch_name: Mapped[str]
    """The agent_name under which its workers register at LiveKit."""
    external_id: Mapped[str | None]
    """The organisation's own id of it, unique there among those that are not deleted."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class Credential(Base):
    """A provider account: stored by the customer, or brought inline by one import."""

    __tablename__ = "credentials"
    __table_args__ = (_external_ids("credentials"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"), index=True)
    provider: Mapped[str]
    account_ref: Mapped[str]
    """The vendor's account id: not a secret."""
    label: Mapped[str]
    stored: Mapped[bool]
    """False for inline credentials, which are not listed."""
    external_id: Mapped[str | None]
    """The organisation's own id of it, unique there among those that are not deleted."""
    sealed: Mapped[bytes]
    replaced_sealed: Mapped[bytes | None]
    """What a rotation replaced: signatures made with it are good until then."""
    replaced_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    deleted_at: Mapped[datetime | None]


class ProviderLimit(Base):
    """An account that its provider asked to slow down: no step of its jobs begins before then."""

    __tablename__ = "provider_limits"

    provider: Mapped[str] = mapped_column(primary_key=True)
    account_ref: Mapped[str] = mapped_column(primary_key=True)
    until: Mapped[datetime]


class ImportJob(Base):
    """One job: the row decides everything; a message only hints that something may be due."""

    __tablename__ = "import_jobs"
    __table_args__ = (
        CheckConstraint(_in("state", JobState), name="state"),
        CheckConstraint(_in("kind", JobKind), name="kind"),
        # One job at a time works on a number.
        Index(
            "uq_import_jobs_phone_number_id_open",
            "phone_number_id",
            unique=True,
            postgresql_where=text("state IN ('queued', 'running', 'undoing', 'stuck')"),
        ),
        # The sweep's only question: what should somebody have moved on by now?
        Index("ix_import_jobs_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
        Index("ix_import_jobs_organization_id_id", "organization_id", "id"),
        Index("ix_import_jobs_organization_id_state_id", "organization_id", "state", "id"),
        Index("ix_import_jobs_e164", "e164"),
        Index("ix_import_jobs_credential_id", "credential_id"),
        Index(
            "ix_import_jobs_batch_id_id",
            "batch_id",
            "id",
            postgresql_where=text("batch_id IS NOT NULL"),
        ),
        # Whoever submits, and who feeds the workers, asks (worker/db/places.py): how many jobs of
        # an organisation are under way, and which of its held ones are next?
        Index(
            "ix_import_jobs_under_way",
            "organization_id",
            "due_at",
            postgresql_where=text("due_at IS NOT NULL"),
        ),
        Index(
            "ix_import_jobs_held_alone",
            "organization_id",
            text("(state = 'queued')"),
            "id",
            postgresql_where=text(
                "due_at IS NULL AND (state = 'undoing' OR (state = 'queued' AND batch_id IS NULL))"
            ),
        ),
        Index(
            "ix_import_jobs_held_in_batch",
            "organization_id",
            "provider",
            "account_ref",
            "id",
            postgresql_where=text("due_at IS NULL AND state = 'queued' AND batch_id IS NOT NULL"),
        ),
        # Whoever counts an organisation's jobs asks (worker/db/tally.py): which ended of late, and
        # which wait for an operator?
        Index(
            "ix_import_jobs_ended",
            "organization_id",
            "finished_at",
            postgresql_include=["state"],
            postgresql_where=text("finished_at IS NOT NULL"),
        ),
        Index(
            "ix_import_jobs_stuck",
            "organization_id",
            postgresql_where=text("state = 'stuck'"),
        ),
        Index(
            "uq_import_jobs_idempotency_key",
            "organization_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    idempotency_key: Mapped[str | None]
    kind: Mapped[str] = mapped_column(server_default=text("'import'"))
    import_id: Mapped[UUID | None] = mapped_column(ForeignKey("import_jobs.id"))
    """The import that brought the number in, whose name everything outside carries; null for an
    import itself."""
    state: Mapped[str]
    provider: Mapped[str]
    e164: Mapped[str]
    credential_id: Mapped[UUID] = mapped_column(ForeignKey("credentials.id"))
    account_ref: Mapped[str]
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    phone_number_id: Mapped[UUID | None]
    """The number's row: claimed at submit, gone when its import failed."""
    request: Mapped[dict[str, Any]]
    """What the caller asked for, without its secrets."""
    sealed: Mapped[bytes]
    """The caller's SIP login, the generated ones, and the fingerprint of the request."""
    notify: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether a callback_url, which is sealed, is told when it ends."""
    batch_id: Mapped[UUID | None] = mapped_column(ForeignKey("batches.id"))
    """The batch that it came with, if it did."""
    warnings: Mapped[list[str]] = mapped_column(server_default=text("'[]'"))

    step: Mapped[str | None]
    """The cursor: the step to do or undo next; null once there is none."""
    fence: Mapped[int] = mapped_column(server_default=text("0"))
    """Rises with every claim; a write with an older one changes nothing."""
    lease_until: Mapped[datetime | None]
    """Until when the holder of the latest fence may work; null when nobody works."""
    next_attempt_at: Mapped[datetime | None]
    """No claim before this time."""
    due_at: Mapped[datetime | None]
    """When the sweep steps in unless somebody moved the job on before; null when final, and while
    it is held because its organisation has no place free."""
    sent_at: Mapped[datetime | None]
    """When a message for it was last handed to the broker; null if that failed."""
    backlog: Mapped[bool] = mapped_column(server_default=text("false"))
    """Whether its messages go by the queue of those who wait for others of their organisation."""
    cancel_requested_at: Mapped[datetime | None]

    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    error_step: Mapped[str | None]
    undo_error_code: Mapped[str | None]
    undo_error_message: Mapped[str | None]
    undo_error_step: Mapped[str | None]
    """Where a stuck job's undo gave up: what this step and those before it made may be left."""

    version: Mapped[int] = mapped_column(server_default=text("1"))
    """Rises with every visible change: the ETag."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Sweep(Base):
    """One row: when the last sweep ran."""

    __tablename__ = "sweeps"
    __table_args__ = (CheckConstraint("single", name="single"),)

    single: Mapped[bool] = mapped_column(primary_key=True)
    """Always true, so that there is no second row."""
    swept_at: Mapped[datetime]


class JobStep(Base):
    """One step of one job, from its first claim on; a step without a row has not begun."""

    __tablename__ = "job_steps"
    __table_args__ = (CheckConstraint(_in("state", StepState), name="state"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("import_jobs.id"), primary_key=True)
    step: Mapped[str] = mapped_column(primary_key=True)
    state: Mapped[str]
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    """Counted before the work, so that a step that kills its worker runs out of attempts."""
    undo_attempts: Mapped[int] = mapped_column(server_default=text("0"))
    objects: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """Ids of what it made outside, written before anything depends on them."""
    output: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What later steps and the undo need to know."""
    sealed: Mapped[bytes | None]
    """The part of that which is not for everybody's eyes, such as the original routing."""
    unsettled_until: Mapped[datetime | None]
    """Until when a write whose answer was lost may still land."""
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class PhoneNumber(Base):
    """A number, from the moment an import claims it until its release."""

    __tablename__ = "phone_numbers"
    __table_args__ = (
        CheckConstraint(_in("status", NumberStatus), name="status"),
        CheckConstraint(_in("ownership", Ownership), name="ownership"),
        # A number is active or in flight once in the whole system. An asserted claim is kept out of
        # it, so that it can never block the proven owner.
        Index(
            "uq_phone_numbers_e164_proven",
            "e164",
            unique=True,
            postgresql_where=text("ownership = 'proven' AND status <> 'released'"),
        ),
        Index(
            "uq_phone_numbers_organization_id_e164_asserted",
            "organization_id",
            "e164",
            unique=True,
            postgresql_where=text("ownership = 'asserted' AND status <> 'released'"),
        ),
        Index("ix_phone_numbers_organization_id_id", "organization_id", "id"),
        Index("ix_phone_numbers_credential_id", "credential_id"),
        # The periodic check's only question.
        Index(
            "ix_phone_numbers_check_due_at",
            "check_due_at",
            postgresql_where=text("status = 'active'"),
        ),
        # Each scrape of metrics counts these.
        Index(
            "ix_phone_numbers_drifted",
            "provider",
            postgresql_where=text("status = 'active' AND diagnosis ->> 'verdict' = 'drifted'"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    import_id: Mapped[UUID] = mapped_column(ForeignKey("import_jobs.id"))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("import_jobs.id"))
    """The job that set it up last, whose request and steps say what there should be outside; null
    if that is its import."""
    e164: Mapped[str]
    provider: Mapped[str]
    ownership: Mapped[str]
    status: Mapped[str]
    credential_id: Mapped[UUID] = mapped_column(ForeignKey("credentials.id"))
    agent_id: Mapped[UUID | None] = mapped_column(ForeignKey("agents.id"))
    user_id: Mapped[UUID | None] = mapped_column(ForeignKey("users.id"))
    friendly_name: Mapped[str | None]
    routing_mode: Mapped[str]
    supports_inbound: Mapped[bool]
    supports_outbound: Mapped[bool]
    provider_number_id: Mapped[str | None]
    country: Mapped[str | None]
    sms_capable: Mapped[bool | None]
    inbound_trunk_id: Mapped[str | None]
    outbound_trunk_id: Mapped[str | None]
    dispatch_rule_id: Mapped[str | None]
    details: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """The caller's price and metadata."""
    check_due_at: Mapped[datetime | None]
    """When what is outside is next compared with what it should be."""
    checked_at: Mapped[datetime | None]
    diagnosis: Mapped[dict[str, Any] | None]
    """What the last check found; null before the first."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())


class NumberEvent(Base):
    """What a provider reported of a call, a message or a recording, once each."""

    __tablename__ = "number_events"
    __table_args__ = (
        CheckConstraint(_in("kind", EventKind), name="kind"),
        UniqueConstraint("phone_number_id", "key"),
        Index("ix_number_events_phone_number_id_id", "phone_number_id", "id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    phone_number_id: Mapped[UUID] = mapped_column(
        ForeignKey("phone_numbers.id", ondelete="CASCADE")
    )
    """A claim that comes to nothing takes the events with it that came in meanwhile."""
    kind: Mapped[str]
    key: Mapped[str]
    """What makes a second delivery of the same report recognisable."""
    sealed: Mapped[bytes]
    """What it says: who called or wrote, and the text, which may be anybody's one-time code."""
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Notification(Base):
    """A message to a caller's callback_url, stored with what it tells, until it was delivered."""

    __tablename__ = "notifications"
    __table_args__ = (
        CheckConstraint(_in("state", NotificationState), name="state"),
        Index("ix_notifications_due_at", "due_at", postgresql_where=text("state = 'pending'")),
        Index("ix_notifications_job_id", "job_id"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("import_jobs.id"))
    """The job whose end it tells, if it does."""
    secrets_of: Mapped[UUID] = mapped_column(ForeignKey("import_jobs.id"))
    """The job whose sealed request holds the URL."""
    type: Mapped[str]
    """Such as import.active or call.status."""
    event_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("number_events.id", ondelete="CASCADE")
    )
    """The event that it tells, if it does: its data are sealed there."""
    payload: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))
    """What it tells, but for what is sealed; the same on every attempt."""
    state: Mapped[str] = mapped_column(server_default=text("'pending'"))
    attempts: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime | None] = mapped_column(server_default=func.now())
    """When it is tried next; while it is being tried, when somebody else may."""
    error: Mapped[str | None]
    """Why the last attempt failed, in words of ours."""
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class AuditEntry(Base):
    """Who did what; never changed, never deleted: a trigger refuses it."""

    __tablename__ = "audit_log"
    __table_args__ = (
        Index("ix_audit_log_organization_id_id", "organization_id", "id"),
        Index("ix_audit_log_organization_id_subject_id", "organization_id", "subject", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    organization_id: Mapped[UUID | None] = mapped_column(ForeignKey("organizations.id"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    actor: Mapped[str]
    """The API key's public prefix, or "operator" for the command line."""
    action: Mapped[str]
    subject: Mapped[str]
    """The id of what it was done to."""
    detail: Mapped[dict[str, Any]] = mapped_column(server_default=text("'{}'"))


class Batch(Base):
    """Many imports that came with one request; stored in one transaction with all of them."""

    __tablename__ = "batches"
    __table_args__ = (
        Index("ix_batches_organization_id_id", "organization_id", "id"),
        Index(
            "uq_batches_idempotency_key",
            "organization_id",
            "idempotency_key",
            unique=True,
            postgresql_where=text("idempotency_key IS NOT NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid7)
    organization_id: Mapped[UUID] = mapped_column(ForeignKey("organizations.id"))
    api_key_id: Mapped[UUID | None] = mapped_column(ForeignKey("api_keys.id"))
    idempotency_key: Mapped[str | None]
    sealed: Mapped[bytes]
    """The fingerprint of the request."""
    cancel_requested_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class BatchRow(Base):
    """One row of a batch: the import that it became, or why it became none."""

    __tablename__ = "batch_rows"
    __table_args__ = (
        CheckConstraint("(job_id IS NULL) = (error_code IS NOT NULL)", name="outcome"),
    )

    batch_id: Mapped[UUID] = mapped_column(ForeignKey("batches.id"), primary_key=True)
    line: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    """Where it began in the file; in JSON its place in the list, from 1."""
    e164: Mapped[str | None]
    """Null where the row has no well-formed number: what it says instead is kept nowhere."""
    job_id: Mapped[UUID | None] = mapped_column(ForeignKey("import_jobs.id"))
    error_code: Mapped[str | None]
    error_message: Mapped[str | None]
