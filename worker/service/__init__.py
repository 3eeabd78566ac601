"""The front door: what the API and the command line may ask for.

Everything here answers from the database and leaves the work to the workers, but for the looks at
the outside world in :mod:`worker.service.checks`. Objects of another organisation look as if they
did not exist, except where a published contract names the difference.
"""

from __future__ import annotations

from worker.batches import BatchRequest, read_batch_csv, read_batch_json
from worker.celery_app import Sender, ping_broker
from worker.db.audit import AuditRecord
from worker.db.batches import Batches as BatchStore
from worker.db.batches import BatchRecord, RowRecord
from worker.db.directory import CredentialRecord, Directory
from worker.db.engine import DATABASE_ERRORS, MigrationBlockedError, make_engine, migrate
from worker.db.keys import ListedKey
from worker.db.members import AgentRecord, OrganizationRecord, UserRecord
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers as NumberStore
from worker.db.records import JobRecord, NotificationRecord, NumberRecord
from worker.db.repository import JobRepository
from worker.db.sweeps import Sweeps
from worker.db.tally import TALLY_HOURS, Tally
from worker.db.vault import Vault
from worker.diagnosis import Diagnosis
from worker.domain.access import PERMISSIONS, Caller, Permission, Role
from worker.intake import (
    ImportRequest,
    InboundSettings,
    Input,
    NumberChange,
    SipSettings,
    explain,
    parse_credentials,
)
from worker.limiter import Limiter
from worker.notifications import SigningSecret
from worker.preflight import Preflight
from worker.selftest import ANSWER_HEADER, PROBE_HEADER
from worker.service.batches import Batches, SubmittedBatch
from worker.service.calls import CallbackAnswer, Calls
from worker.service.checks import AccountNumber, AccountNumbers, Checks
from worker.service.credentials import CredentialRequests
from worker.service.erasure import Erasing
from worker.service.figures import Scrapes
from worker.service.imports import Imports, Submitted
from worker.service.members import AgentChange, Members, UserChange
from worker.service.numbers import Numbers, StoredEvent
from worker.service.signing import Signing
from worker.service.tenants import NewKey, Tenants
from worker.settings import Settings, late_sweep

#: With the records of the layers below that callers get from here.
__all__ = [
    "ANSWER_HEADER",
    "DATABASE_ERRORS",
    "PERMISSIONS",
    "PROBE_HEADER",
    "TALLY_HOURS",
    "AccountNumber",
    "AccountNumbers",
    "AgentChange",
    "AgentRecord",
    "AuditRecord",
    "BatchRecord",
    "BatchRequest",
    "CallbackAnswer",
    "Caller",
    "CredentialRecord",
    "Diagnosis",
    "ImportRequest",
    "InboundSettings",
    "Input",
    "JobRecord",
    "ListedKey",
    "MigrationBlockedError",
    "NewKey",
    "NotificationRecord",
    "NumberChange",
    "NumberRecord",
    "OrganizationRecord",
    "Permission",
    "Preflight",
    "Role",
    "RowRecord",
    "Service",
    "SigningSecret",
    "SipSettings",
    "StoredEvent",
    "Submitted",
    "SubmittedBatch",
    "Tally",
    "UserChange",
    "UserRecord",
    "explain",
    "migrate_database",
    "parse_credentials",
    "read_batch_csv",
    "read_batch_json",
]


class Service(
    Erasing, Imports, Batches, Numbers, Calls, Checks, CredentialRequests, Signing, Members, Tenants
):
    """Everything that may be asked for; each part is in a module of its own."""

    @classmethod
    def from_settings(cls, settings: Settings) -> Service:
        """Wires a service to the database and the broker that the settings name."""
        engine = make_engine(settings)
        return cls(
            settings=settings,
            jobs=JobRepository(
                engine,
                resend_after_seconds=settings.resend_after_seconds,
                organization_concurrency=settings.organization_concurrency,
            ),
            directory=Directory(engine),
            numbers=NumberStore(engine),
            notifications=Notifications(engine),
            batches=BatchStore(engine, resend_after_seconds=settings.resend_after_seconds),
            sweeps=Sweeps(engine, resend_after_seconds=settings.resend_after_seconds),
            vault=Vault(settings.vault_keys),
            sender=Sender(),
            limiter=Limiter(settings),
            scrapes=Scrapes(settings),
        )

    @property
    def prices_per_minute(self) -> tuple[int, int]:
        """What a minute costs, inbound and outbound, in cents, as the operator set it."""
        settings = self._settings
        return settings.price_per_minute_inbound, settings.price_per_minute_outbound

    @property
    def dialect_wait_seconds(self) -> float:
        """How long a dialect's request waits for its import, as the operator set it."""
        return self._settings.dialect_wait_seconds

    def close(self) -> None:
        """Closes the connections to the database and to Redis; the next call opens new ones."""
        self._directory.close()
        self._limiter.close()

    def rotate_keys(self) -> int:
        """Seals every secret with the first vault key; returns how many.

        Safe to repeat: yes, also after it was interrupted.
        """
        return sum(self._directory.reseal_all(self._vault.reseal))

    def scrape(self) -> bytes:
        """Returns what Prometheus is told: this process's counts, and what all of them hold.

        Safe to repeat: yes, also by several at once; what is asked of the database is kept for some
        seconds. It answers without the database and the broker, too, and says so.
        """
        return self._scrapes.text()

    def check_readiness(self) -> dict[str, str | None]:
        """Returns, for the database, the broker and the sweep, None or what is wrong."""
        found: dict[str, str | None] = {"database": None, "broker": None, "sweep": None}
        try:
            self._directory.ping()
            found["sweep"] = late_sweep(self._settings, self._sweeps.age_seconds())
        except DATABASE_ERRORS as error:
            found["database"] = f"unreachable ({type(error).__name__})"
            found["sweep"] = "not known without the database"
        try:
            ping_broker()
        except OSError as error:
            found["broker"] = str(error)
        return found


def migrate_database(settings: Settings) -> None:
    """Brings the schema up to date, while jobs run.

    Raises:
        MigrationBlockedError: somebody held a table for too long.

    Safe to repeat: yes.
    """
    migrate(settings)
