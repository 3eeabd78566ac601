"""The front door: what the API and the command line may ask for.

Everything here answers from the database and leaves the work to the workers. Objects of another
organisation look as if they did not exist, except where a published contract names the difference.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from worker import metrics
from worker.celery_app import Sender, ping_broker
from worker.db.directory import CredentialRecord, Directory, NumberRecord
from worker.db.engine import DATABASE_ERRORS, make_engine, migrate
from worker.db.records import JobRecord, NewJob
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.access import PERMISSIONS, Caller, Permission, Role
from worker.domain.errors import (
    AgentNotFound,
    AgentNotOwned,
    CredentialNotFound,
    CredentialNotOwned,
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    Unauthenticated,
    UserNotFound,
)
from worker.domain.job import JobState
from worker.domain.values import (
    ProviderName,
    format_id,
    parse_id,
)
from worker.intake import (
    ImportRequest,
    InboundSettings,
    SipSettings,
    explain,
    fingerprint_of,
    parse_credentials,
    require_verifiable,
    secrets_of,
    spec_of,
    warnings_of,
)
from worker.providers import PROVIDERS, Credentials
from worker.settings import Settings

#: With the records of the layers below that callers get from here.
__all__ = [
    "DATABASE_ERRORS",
    "PERMISSIONS",
    "Caller",
    "CredentialRecord",
    "ImportRequest",
    "InboundSettings",
    "JobRecord",
    "NumberRecord",
    "Permission",
    "Role",
    "Service",
    "SipSettings",
    "Submitted",
    "explain",
    "migrate_database",
    "parse_credentials",
]


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What submit answers."""

    job: JobRecord
    #: False if an earlier request with the same Idempotency-Key made the job.
    created: bool


class Service:
    """Submit, look up, cancel and retry imports; credentials, numbers and keys."""

    def __init__(
        self,
        *,
        settings: Settings,
        jobs: JobRepository,
        directory: Directory,
        vault: Vault,
        sender: Sender,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._directory = directory
        self._vault = vault
        self._sender = sender

    @classmethod
    def from_settings(cls, settings: Settings) -> Service:
        """Wires a service to the database and the broker that the settings name."""
        engine = make_engine(settings)
        return cls(
            settings=settings,
            jobs=JobRepository(engine, resend_after_seconds=settings.resend_after_seconds),
            directory=Directory(engine),
            vault=Vault(settings.vault_keys),
            sender=Sender(),
        )

    # Imports

    def submit(
        self, caller: Caller, request: ImportRequest, *, idempotency_key: str | None = None
    ) -> Submitted:
        """Stores an import and asks a worker to start it; answers also while the broker is down.

        Raises:
            PermanentError: the request is refused; nothing was stored.

        Safe to repeat: with an idempotency key the same request gives the same job.
        """
        caller.require(Permission.CREATE_NUMBERS)
        fingerprint = fingerprint_of(request)
        if idempotency_key is not None:
            earlier = self._replayed(caller, idempotency_key, fingerprint)
            if earlier is not None:
                return Submitted(job=earlier, created=False)
        spec = spec_of(request, self._settings)
        self._agent(caller, request.inbound.fallback_agent_id)
        agent_id = self._agent(caller, request.agent_id)
        user_id = self._user(caller, request.user_id)
        credential, inline, parsed = self._credential(caller, request)
        require_verifiable(spec, parsed)
        job_id = uuid7()
        job = NewJob(
            id=job_id,
            organization_id=caller.organization_id,
            api_key_id=caller.key_id,
            idempotency_key=idempotency_key,
            provider=spec.provider,
            e164=spec.phone_number,
            credential_id=credential,
            account_ref=parsed.account_ref,
            agent_id=agent_id,
            user_id=user_id,
            phone_number_id=uuid7(),
            request=spec.to_json(),
            sealed=self._vault.seal(secrets_of(request, spec, self._settings).to_json()),
            warnings=warnings_of(spec, parsed),
        )
        if not self._jobs.submit(job, inline):
            assert idempotency_key is not None, "only a key can have been used before"
            earlier = self._replayed(caller, idempotency_key, fingerprint)
            assert earlier is not None, "the key's job was stored by somebody else just now"
            return Submitted(job=earlier, created=False)
        metrics.SUBMITS.labels(spec.provider).inc()
        self._audit(caller, "import.submit", format_id("imp", job_id))
        self._start(job_id)
        return Submitted(job=self.get_import(caller, format_id("imp", job_id)), created=True)

    def get_import(self, caller: Caller, import_id: str) -> JobRecord:
        """Returns an import with its steps.

        Raises:
            NotFound: the caller's organisation has no such import.
        """
        caller.require(Permission.READ)
        job_id = parse_id("imp", import_id)
        job = None if job_id is None else self._jobs.get(job_id)
        if job is None or job.organization_id != caller.organization_id:
            raise NotFound("There is no import with this id.")
        return job

    def import_version(self, job_id: UUID) -> tuple[int, JobState] | None:
        """Returns what a waiting request watches; the caller has checked whose import it is."""
        return self._jobs.version(job_id)

    def list_imports(
        self,
        caller: Caller,
        *,
        limit: int,
        cursor: str | None = None,
        status: JobState | None = None,
        provider: ProviderName | None = None,
        phone_number: str | None = None,
    ) -> list[JobRecord]:
        """Returns the organisation's imports, newest first, without their steps."""
        caller.require(Permission.READ)
        return self._jobs.list_jobs(
            caller.organization_id,
            limit=limit,
            before=_cursor("imp", cursor),
            state=status,
            provider=provider,
            e164=phone_number,
        )

    def cancel(self, caller: Caller, import_id: str) -> JobRecord:
        """Asks for an import to be undone and stopped.

        Raises:
            InvalidState: it has already ended.

        Safe to repeat: yes.
        """
        return self._turn(caller, import_id, "import.cancel")

    def retry(self, caller: Caller, import_id: str) -> JobRecord:
        """Resumes the undo of a stuck import, or starts a failed or cancelled one again.

        Raises:
            InvalidState: it is none of these.
            NumberAlreadyImported: another import has claimed the number since.
            CredentialNotFound: its credential was deleted.
        """
        return self._turn(caller, import_id, "import.retry")

    def _turn(self, caller: Caller, import_id: str, action: str) -> JobRecord:
        caller.require(Permission.CREATE_NUMBERS)
        job = self.get_import(caller, import_id)
        change = self._jobs.cancel if action == "import.cancel" else self._jobs.retry
        change(job.id)
        self._audit(caller, action, import_id)
        self._start(job.id)
        return self.get_import(caller, import_id)

    def _start(self, job_id: UUID) -> None:
        if not self._sender.start(format_id("imp", job_id)):
            self._jobs.sending_failed([job_id])

    def _replayed(self, caller: Caller, key: str, fingerprint: str) -> JobRecord | None:
        job = self._jobs.find_by_idempotency_key(caller.organization_id, key)
        if job is None:
            return None
        known = self._vault.open(job.sealed)["fingerprint"]
        if not hmac.compare_digest(known, fingerprint):
            raise IdempotencyKeyReused
        return job

    def _credential(
        self, caller: Caller, request: ImportRequest
    ) -> tuple[UUID, dict[str, Any] | None, Credentials]:
        """Returns the credential's id, its row if it must be stored, and its parsed values."""
        model = PROVIDERS[request.provider].credentials_model
        needless = not model.model_fields
        given = (request.credential_id is not None) + (request.credentials is not None)
        if given != 1 and not (needless and given == 0):
            raise InvalidRequest("Give either credential_id or credentials.")
        if request.credential_id is not None:
            record = self._owned_credential(caller, request.credential_id)
            if record.provider != request.provider:
                raise InvalidRequest(f"This credential is for {record.provider}.")
            return record.id, None, model(**self._vault.open(record.sealed))
        parsed = parse_credentials(request.provider, request.credentials or {})
        credential_id = uuid7()
        row = {
            "id": credential_id,
            "organization_id": caller.organization_id,
            "provider": request.provider,
            "account_ref": parsed.account_ref,
            "label": "",
            "stored": False,
            "sealed": self._vault.seal(parsed.reveal()),
        }
        return credential_id, row, parsed

    def _agent(self, caller: Caller, text: str | None) -> UUID | None:
        if text is None:
            return None
        agent_id = parse_id("agt", text)
        owner = None if agent_id is None else self._directory.agent_organization(agent_id)
        if owner is None:
            raise AgentNotFound
        if owner != caller.organization_id:
            raise AgentNotOwned
        return agent_id

    def _user(self, caller: Caller, text: str | None) -> UUID | None:
        if text is None:
            return None
        user_id = parse_id("usr", text)
        owner = None if user_id is None else self._directory.user_organization(user_id)
        if owner != caller.organization_id:
            raise UserNotFound
        return user_id

    # Credentials

    def create_credential(
        self, caller: Caller, *, provider: ProviderName, credentials: Mapping[str, Any], label: str
    ) -> CredentialRecord:
        """Stores a provider account; its secrets can never be read again.

        Raises:
            InvalidRequest: a field is missing, unknown or malformed.
        """
        caller.require(Permission.CREATE_NUMBERS)
        parsed = parse_credentials(provider, credentials)
        credential_id = self._directory.create_credential(
            caller.organization_id,
            provider=provider,
            account_ref=parsed.account_ref,
            label=label,
            sealed=self._vault.seal(parsed.reveal()),
        )
        text = format_id("cred", credential_id)
        self._audit(caller, "credential.create", text)
        return self._owned_credential(caller, text)

    def get_credential(self, caller: Caller, credential_id: str) -> CredentialRecord:
        """Returns a credential without its secrets.

        Raises:
            CredentialNotFound: there is none.
            CredentialNotOwned: it is another organisation's.
        """
        caller.require(Permission.READ)
        return self._owned_credential(caller, credential_id)

    def list_credentials(
        self, caller: Caller, *, limit: int, cursor: str | None
    ) -> list[CredentialRecord]:
        """Returns the organisation's stored credentials, newest first."""
        caller.require(Permission.READ)
        return self._directory.list_credentials(
            caller.organization_id, limit=limit, before=_cursor("cred", cursor)
        )

    def delete_credential(self, caller: Caller, credential_id: str) -> None:
        """Forgets a credential's secrets.

        Raises:
            CredentialNotFound: there is none.
            CredentialNotOwned: it is another organisation's.
            CredentialInUse: a number or an unfinished import needs it.
        """
        caller.require(Permission.CREATE_NUMBERS)
        record = self._owned_credential(caller, credential_id)
        self._directory.delete_credential(record.id)
        self._audit(caller, "credential.delete", credential_id)

    def _owned_credential(self, caller: Caller, text: str) -> CredentialRecord:
        credential_id = parse_id("cred", text)
        record = None if credential_id is None else self._directory.get_credential(credential_id)
        if record is None:
            raise CredentialNotFound
        if record.organization_id != caller.organization_id:
            raise CredentialNotOwned
        return record

    # Numbers

    def get_number(self, caller: Caller, number_id: str) -> NumberRecord:
        """Returns an active number.

        Raises:
            NotFound: the caller's organisation has no such number.
        """
        caller.require(Permission.READ)
        found = parse_id("num", number_id)
        number = None if found is None else self._directory.get_number(found)
        if (
            number is None
            or number.organization_id != caller.organization_id
            or number.status != "active"
        ):
            raise NotFound("There is no phone number with this id.")
        return number

    def list_numbers(self, caller: Caller, *, limit: int, cursor: str | None) -> list[NumberRecord]:
        """Returns the organisation's active numbers, newest first."""
        caller.require(Permission.READ)
        return self._directory.list_numbers(
            caller.organization_id, limit=limit, before=_cursor("num", cursor)
        )

    # Keys and tenants

    def authenticate(self, key: str) -> Caller:
        """Returns who holds an API key.

        Raises:
            Unauthenticated: unknown, malformed or revoked.
        """
        prefix, _, secret = key.removeprefix("tl_").partition("_")
        record = self._directory.find_key(prefix)
        # An unknown prefix costs the same comparison as a wrong secret.
        known = record.secret_hash if record is not None else bytes(32)
        if not hmac.compare_digest(known, _hash(secret)) or record is None:
            raise Unauthenticated
        self._directory.note_key_use(record)
        return Caller(
            organization_id=record.organization_id,
            role=Role(record.role),
            key_id=record.id,
            actor=record.prefix,
        )

    def operator(self, organization: str) -> Caller:
        """Returns the command line's own caller for an organisation, by name.

        Raises:
            NotFound: there is no such organisation.
        """
        found = self._directory.find_organization(organization)
        if found is None:
            raise NotFound(
                f"There is no organisation {organization!r}; make one with "
                "`trunkline admin bootstrap`."
            )
        return Caller(organization_id=found, role=Role.ADMIN, key_id=None, actor="operator")

    def bootstrap(self, organization: str, *, role: Role = Role.ADMIN) -> tuple[str, str]:
        """Makes an organisation, if there is none of that name, and a key of it.

        Returns the organisation's id and the key, which is shown this once.
        """
        found = self._directory.find_organization(organization)
        organization_id = found or self._directory.create_organization(organization)
        prefix = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(10))
        secret = secrets.token_urlsafe(32)
        self._directory.create_key(
            organization_id, name="bootstrap", role=role, prefix=prefix, secret_hash=_hash(secret)
        )
        self._directory.audit(
            organization_id=organization_id, actor="operator", action="key.create", subject=prefix
        )
        return format_id("org", organization_id), f"tl_{prefix}_{secret}"

    def create_agent(self, caller: Caller, *, name: str, dispatch_name: str) -> str:
        """Makes an agent that numbers can refer to; returns its id."""
        caller.require(Permission.CREATE_NUMBERS)
        agent = format_id(
            "agt", self._directory.create_agent(caller.organization_id, name, dispatch_name)
        )
        self._audit(caller, "agent.create", agent)
        return agent

    def create_user(self, caller: Caller, *, name: str) -> str:
        """Makes a user that numbers can belong to; returns their id."""
        caller.require(Permission.CREATE_NUMBERS)
        user = format_id("usr", self._directory.create_user(caller.organization_id, name))
        self._audit(caller, "user.create", user)
        return user

    def _audit(self, caller: Caller, action: str, subject: str) -> None:
        self._directory.audit(
            organization_id=caller.organization_id,
            actor=caller.actor,
            action=action,
            subject=subject,
        )

    # Operations

    def close(self) -> None:
        """Closes the connections to the database; the next call opens new ones."""
        self._directory.close()

    def rotate_keys(self) -> int:
        """Seals every secret with the first vault key; returns how many.

        Safe to repeat: yes, also after it was interrupted.
        """
        return sum(self._directory.reseal_all(self._vault.reseal))

    def check_readiness(self) -> dict[str, str | None]:
        """Returns, for the database and the broker, None or what is wrong."""
        found: dict[str, str | None] = {"database": None, "broker": None}
        try:
            self._directory.ping()
        except DATABASE_ERRORS as error:
            found["database"] = f"unreachable ({type(error).__name__})"
        try:
            ping_broker()
        except OSError as error:
            found["broker"] = str(error)
        return found


def migrate_database(settings: Settings) -> None:
    """Brings the schema up to date.

    Safe to repeat: yes.
    """
    migrate(settings)


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _cursor(prefix: str, text: str | None) -> UUID | None:
    if text is None:
        return None
    found = parse_id(prefix, text)
    if found is None:
        raise InvalidRequest("The cursor is not one that this API gave out.")
    return found
