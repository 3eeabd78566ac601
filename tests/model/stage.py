"""The stage of the model: the product's own parts on one database, emptied between examples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from sqlalchemy import Engine
from uuid_utils.compat import uuid7

from tests.model.judge import watch
from worker.db.batches import Batches
from worker.db.claims import Claims
from worker.db.directory import Directory
from worker.db.engine import make_engine
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers
from worker.db.places import Places
from worker.db.records import NewJob
from worker.db.repository import JobRepository
from worker.db.sweeps import Sweeps
from worker.db.vault import Vault
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import (
    E164,
    MediaEncryption,
    Ownership,
    ProviderName,
    RoutingMode,
    SipTransport,
)
from worker.settings import Settings
from worker.steps._core import Runtime

#: Long against the seconds of real time that an example takes, so that those decide nothing.
TIMES: Final = {
    "lease_seconds": 60.0,
    "heartbeat_seconds": 15.0,
    "connect_timeout_seconds": 10.0,
    "read_timeout_seconds": 30.0,
    "settle_seconds": 40.0,
    "resend_after_seconds": 30.0,
    "account_concurrency": 2,
    "organization_concurrency": 2,
    "check_seconds": 0.0,
}
NUMBERS: Final = tuple(f"+1415555010{place}" for place in range(4))
_EMPTIED: Final = (
    *("notifications", "batch_rows", "phone_numbers", "job_steps", "import_jobs", "batches"),
    *("provider_limits", "model_history"),
)
_SECRETS: Final = ImportSecrets(
    inbound_username=None,
    inbound_password=None,
    termination_username="sandbox-user",
    termination_password="sandbox-password",
    sip_username=None,
    sip_password=None,
    pin="",
    fingerprint="f",
)


@dataclass(frozen=True, kw_only=True)
class Stage:
    """A database with two organisations, each with an account; and what works on it."""

    settings: Settings
    engine: Engine
    #: For looking on: shares nothing with the product.
    observer: psycopg.Connection[Any]
    runtime: Runtime
    batches: Batches
    places: Places
    sweeps: Sweeps
    #: Organisation → its credential.
    organizations: dict[UUID, UUID]
    sealed: bytes = field(repr=False)
    #: Table → its columns that hold times.
    times: dict[str, list[str]]

    def empty(self) -> None:
        """Leaves the organisations and their accounts only."""
        for table in _EMPTIED:
            self.observer.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))

    def pass_time(self, seconds: float) -> None:
        """Moves every time in the database back: as if its clock had gone on."""
        statements = ["SET LOCAL session_replication_role = replica"]  # it is nobody's change
        for table, columns in self.times.items():
            earlier = ", ".join(f"{name} = {name} - interval '{seconds} s'" for name in columns)
            statements.append(f"UPDATE {table} SET {earlier}")  # noqa: S608 -- our own names
        with self.observer.transaction():
            self.observer.execute("; ".join(statements).encode())

    def tire(self, job_id: UUID, *, undo_attempts: int) -> None:
        """Makes the undo at which a job is one that has been tried so often."""
        with self.observer.transaction():
            self.observer.execute("SET LOCAL session_replication_role = replica")
            self.observer.execute(
                "UPDATE job_steps SET undo_attempts = greatest(undo_attempts, %s) "
                "FROM import_jobs WHERE import_jobs.id = job_id AND import_jobs.step = "
                "job_steps.step AND import_jobs.state = 'undoing' AND job_id = %s",
                [undo_attempts, job_id],
            )

    def new_job(self, place: int, *, organization: int, asserted: bool, **values: Any) -> NewJob:
        """Returns an import of one of the numbers."""
        organization_id, credential_id = list(self.organizations.items())[organization]
        provider = ProviderName.SIP if asserted else ProviderName.TWILIO
        spec = new_spec(place, asserted=asserted, room_prefix="first-")
        return NewJob(
            **{
                "id": uuid7(),
                "organization_id": organization_id,
                "api_key_id": None,
                "idempotency_key": None,
                "provider": provider,
                "e164": spec.phone_number,
                "credential_id": credential_id,
                "account_ref": f"AC{organization}",
                "agent_id": None,
                "user_id": None,
                "phone_number_id": uuid7(),
                "request": spec.to_json(),
                "sealed": self.sealed,
                "notify": True,
                "warnings": (),
                **values,
            }
        )


def new_spec(place: int, *, asserted: bool, room_prefix: str) -> ImportSpec:
    """Returns the request for one of the numbers."""
    return ImportSpec(
        phone_number=E164(NUMBERS[place]),
        provider=ProviderName.SIP if asserted else ProviderName.TWILIO,
        routing_mode=RoutingMode.SIP_TRUNK if asserted else RoutingMode.WEBHOOK,
        ownership=Ownership.ASSERTED if asserted else Ownership.PROVEN,
        number_sid=None,
        friendly_name=None,
        agent_id=None,
        user_id=None,
        supports_inbound=True,
        supports_outbound=True,
        replace_existing_routing=True,
        sms_enabled=True,
        sip_trunk_name=None,
        sip_address=None,
        sip_transport=SipTransport.AUTO,
        media_encryption=MediaEncryption.DISABLE,
        allowed_addresses=(),
        room_prefix=room_prefix,
        fallback_agent_id=None,
        voicemail_message=None,
        price=None,
        metadata={},
    )


@contextmanager
def built(settings: Settings) -> Iterator[Stage]:
    """Builds the stage on an empty database."""
    engine = make_engine(settings)
    resend = settings.resend_after_seconds
    vault = Vault(settings.vault_keys)
    directory = Directory(engine)
    organizations: dict[UUID, UUID] = {}
    for name in ("Acme", "Other"):
        made = directory.create_organization(name)
        organizations[made] = directory.create_credential(
            made,
            provider="twilio",
            account_ref=f"AC{len(organizations)}",
            label="",
            sealed=vault.seal({}),
        )
    with psycopg.connect(settings.database_url.get_secret_value(), autocommit=True) as observer:
        watch(observer)
        yield Stage(
            settings=settings,
            engine=engine,
            observer=observer,
            runtime=Runtime(
                settings=settings,
                jobs=JobRepository(
                    engine,
                    resend_after_seconds=resend,
                    organization_concurrency=settings.organization_concurrency,
                ),
                claims=Claims(engine, resend_after_seconds=resend),
                numbers=Numbers(engine),
                notifications=Notifications(engine),
                vault=vault,
            ),
            batches=Batches(engine, resend_after_seconds=resend),
            places=Places(engine, resend_after_seconds=resend),
            sweeps=Sweeps(engine, resend_after_seconds=resend),
            organizations=organizations,
            sealed=vault.seal(asdict(_SECRETS)),
            times=_times(observer),
        )
    engine.dispose()


def _times(observer: psycopg.Connection[Any]) -> dict[str, list[str]]:
    rows = observer.execute(
        "SELECT table_name, array_agg(column_name::text) FROM information_schema.columns "
        "WHERE table_name = ANY (%s) AND data_type = 'timestamp with time zone' GROUP BY 1",
        [list(_EMPTIED)],
    )
    return dict(rows.fetchall())
