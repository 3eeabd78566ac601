"""The front door: what the API and the command line may ask for.

Everything here answers from the database and leaves the work to the workers. Objects of another
organisation look as if they did not exist, except where a published contract names the difference.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import json
import re
import secrets
import string
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from uuid import UUID

from pydantic import (
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    StrictBool,
    ValidationError,
)
from pydantic.alias_generators import to_camel
from uuid_utils.compat import uuid7

from worker import metrics
from worker.celery_app import Sender, ping_broker
from worker.db.directory import CredentialRecord, Directory, NumberRecord
from worker.db.engine import DATABASE_ERRORS, make_engine, migrate
from worker.db.records import JobRecord, NewJob
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.errors import (
    AgentNotFound,
    AgentNotOwned,
    CredentialNotFound,
    CredentialNotOwned,
    Forbidden,
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    SignaturesUnverifiable,
    SipTrunkProvisionFailed,
    Unauthenticated,
    UserNotFound,
)
from worker.domain.job import JobState
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import (
    E164,
    MediaEncryption,
    Ownership,
    ProviderName,
    RoutingMode,
    SipTransport,
    format_id,
    parse_id,
    parse_pin,
    parse_sip_host,
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

_ALPHANUMERIC: Final = string.ascii_letters + string.digits
_WIDEST_PREFIX: Final = 8


class Role(StrEnum):
    """What an API key may do."""

    ADMIN = "admin"
    AGENT_MANAGER = "agent_manager"
    VIEWER = "viewer"


class Permission(StrEnum):
    """One thing that a role may be allowed to do."""

    CREATE_NUMBERS = "phone_numbers:create"
    READ = "read"


#: Role → what it may do.
PERMISSIONS: Final[Mapping[Role, frozenset[Permission]]] = {
    Role.ADMIN: frozenset(Permission),
    Role.AGENT_MANAGER: frozenset(Permission),
    Role.VIEWER: frozenset({Permission.READ}),
}
assert PERMISSIONS.keys() == set(Role), "a role has no permissions"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """Who asks, as an API key proved it."""

    organization_id: UUID
    role: Role
    key_id: UUID | None
    #: The key's public prefix, or "operator" for the command line: the audit log's actor.
    actor: str

    def require(self, permission: Permission) -> None:
        """Raises Forbidden unless the role holds the permission."""
        if permission not in PERMISSIONS[self.role]:
            raise Forbidden


def _either_case(name: str) -> AliasChoices:
    # The first choice is the one that error messages and the API's schema show.
    return AliasChoices(name, to_camel(name))


class _Input(BaseModel):
    """What callers send: unknown fields are refused, camelCase is accepted."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=AliasGenerator(validation_alias=_either_case),
        populate_by_name=True,
        hide_input_in_errors=True,
    )


class SipSettings(_Input):
    """The carrier's or the caller's own SIP trunk."""

    trunk_name: str | None = Field(default=None, max_length=64)
    address: str | None = Field(default=None, max_length=255, examples=["sip.example.com"])
    username: str | None = Field(default=None, min_length=1, max_length=255)
    password: SecretStr | None = Field(default=None, min_length=1, max_length=255)
    transport: SipTransport = SipTransport.AUTO
    media_encryption: MediaEncryption = MediaEncryption.ALLOW
    allowed_addresses: tuple[str, ...] = Field(default=(), max_length=64)


class InboundSettings(_Input):
    """What happens to inbound calls."""

    room_pattern: str = Field(default="call-", min_length=1, max_length=64)
    """Prefix of the LiveKit room that each call gets."""
    pin: SecretStr | None = None
    """4 to 10 digits that a caller must type."""
    fallback_agent_id: str | None = None
    voicemail_message: str | None = Field(default=None, max_length=1000)


class ImportRequest(_Input):
    """One import, as its caller asks for it."""

    phone_number: str = Field(examples=["+14155550100"])
    provider: ProviderName
    credential_id: str | None = None
    credentials: dict[str, Any] | None = Field(
        default=None, description="Inline credentials; their fields depend on the provider."
    )
    number_sid: str | None = Field(default=None, max_length=64)
    friendly_name: str | None = Field(default=None, max_length=64)
    agent_id: str | None = None
    user_id: str | None = None
    supports_inbound: StrictBool = True
    supports_outbound: StrictBool = True
    routing_mode: RoutingMode | None = Field(
        default=None, description="`webhook`, where the provider knows it; a SIP carrier does not."
    )
    replace_existing_routing: StrictBool = False
    sip: SipSettings = SipSettings()
    inbound: InboundSettings = InboundSettings()
    sms_enabled: StrictBool = False
    price: float | None = Field(default=None, ge=0)
    metadata: dict[str, Any] = Field(default_factory=dict)


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
        fingerprint = _fingerprint(request)
        if idempotency_key is not None:
            earlier = self._replayed(caller, idempotency_key, fingerprint)
            if earlier is not None:
                return Submitted(job=earlier, created=False)
        spec = self._spec(caller, request)
        agent_id = self._agent(caller, request.agent_id)
        user_id = self._user(caller, request.user_id)
        credential, inline, parsed = self._credential(caller, request)
        self._check_verifiable(spec, parsed)
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
            sealed=self._vault.seal(self._secrets(request, spec, fingerprint).to_json()),
            warnings=self._warnings(spec, parsed),
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

    def _spec(self, caller: Caller, request: ImportRequest) -> ImportSpec:
        number = E164.parse(request.phone_number)
        if not request.supports_inbound and not request.supports_outbound:
            raise InvalidRequest("Set supports_inbound or supports_outbound, or both.")
        adapter = PROVIDERS[request.provider]
        mode = request.routing_mode or _default_mode(adapter.modes)
        if mode not in adapter.modes:
            raise InvalidRequest(f"{request.provider} has no routing_mode {mode}.")
        shape = adapter.number_id_shape
        if request.number_sid is not None and not re.fullmatch(shape, request.number_sid):
            raise InvalidRequest(f"number_sid: {request.provider}'s ids of numbers look otherwise.")
        if request.inbound.pin is not None:
            parse_pin(request.inbound.pin.get_secret_value())
        self._agent(caller, request.inbound.fallback_agent_id)
        address = self._sip_address(request)
        if adapter.ownership is Ownership.ASSERTED:
            self._require_carrier_settings(request, address)
        return ImportSpec(
            phone_number=number,
            provider=request.provider,
            routing_mode=mode,
            ownership=adapter.ownership,
            number_sid=request.number_sid,
            friendly_name=request.friendly_name,
            agent_id=request.agent_id,
            user_id=request.user_id,
            supports_inbound=request.supports_inbound,
            supports_outbound=request.supports_outbound,
            replace_existing_routing=request.replace_existing_routing,
            sms_enabled=request.sms_enabled,
            sip_trunk_name=request.sip.trunk_name,
            sip_address=address,
            sip_transport=request.sip.transport,
            media_encryption=request.sip.media_encryption,
            allowed_addresses=_networks(request.sip.allowed_addresses),
            room_prefix=request.inbound.room_pattern,
            fallback_agent_id=request.inbound.fallback_agent_id,
            voicemail_message=request.inbound.voicemail_message,
            price=request.price,
            metadata=request.metadata,
            carrier=self._carrier(request) if adapter.ownership is Ownership.ASSERTED else None,
        )

    @staticmethod
    def _require_carrier_settings(request: ImportRequest, address: str | None) -> None:
        """A carrier cannot be asked for anything, so the import must bring it."""
        if request.supports_outbound and (address is None or not _has_login(request, address)):
            raise SipTrunkProvisionFailed(
                "Outbound calls through a SIP carrier need sip.address, sip.username and "
                "sip.password."
            )
        if request.supports_inbound and not (request.sip.username or request.sip.allowed_addresses):
            raise InvalidRequest(
                "Say who may call: give sip.username and sip.password, or sip.allowed_addresses."
            )

    def _carrier(self, request: ImportRequest) -> dict[str, str]:
        """What the customer must set at the carrier; never the password again."""
        found = {
            "address": self._settings.livekit_sip_host,
            "transport": request.sip.transport.value,
        }
        if request.sip.username is not None:
            found["username"] = request.sip.username
        return found

    def _sip_address(self, request: ImportRequest) -> str | None:
        """The host for outbound calls: the caller's, else the platform's, else None: made later."""
        sip = request.sip
        if (sip.username is None) != (sip.password is None):
            raise InvalidRequest("Give sip.username and sip.password together.")
        if sip.address is not None:
            return parse_sip_host(sip.address)
        if not request.supports_outbound:
            return None
        if sip.username is not None:
            raise InvalidRequest("Give sip.address with the SIP user name and password.")
        platform = self._platform_sip(request.provider)
        return None if platform is None else platform[0]

    def _platform_sip(self, provider: ProviderName) -> tuple[str, str, str] | None:
        """The platform's own SIP login at a provider, from the environment."""
        address, username, password = self._settings.platform_sip(provider)
        if address is None and username is None and password is None:
            return None
        if address is None or username is None or password is None:
            name = provider.upper()
            raise SipTrunkProvisionFailed(
                "The platform's SIP login is incomplete; the operator must set all of "
                f"{name}_TRUNK_ADDRESS, {name}_SIP_USERNAME and {name}_SIP_PASSWORD, or none."
            )
        return address, username, password.get_secret_value()

    def _secrets(self, request: ImportRequest, spec: ImportSpec, fingerprint: str) -> ImportSecrets:
        username = request.sip.username
        password = request.sip.password.get_secret_value() if request.sip.password else None
        if request.sip.address is None and spec.sip_address is not None:
            platform = self._platform_sip(request.provider)
            assert platform is not None, "it gave the address"
            _, username, password = platform
        asserted = spec.ownership is Ownership.ASSERTED
        own = request.sip.password.get_secret_value() if request.sip.password else None
        return ImportSecrets(
            inbound_username=request.sip.username if asserted else _generated("in"),
            inbound_password=own if asserted else _password(),
            termination_username=_generated("out"),
            termination_password=_password(),
            sip_username=username,
            sip_password=password,
            pin=request.inbound.pin.get_secret_value() if request.inbound.pin else "",
            fingerprint=fingerprint,
        )

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

    def _check_verifiable(self, spec: ImportSpec, credentials: Credentials) -> None:
        """In webhook mode every call begins with a webhook whose signature must be checked."""
        webhook = spec.routing_mode is RoutingMode.WEBHOOK and spec.supports_inbound
        if (webhook or spec.sms_enabled) and not credentials.can_verify_webhooks:
            raise SignaturesUnverifiable

    @staticmethod
    def _warnings(spec: ImportSpec, credentials: Credentials) -> list[str]:
        found = []
        if not spec.phone_number.is_in_known_range:
            found.append("The number is in no range that its country is known to have given out.")
        if not credentials.can_verify_webhooks and spec.ownership is Ownership.PROVEN:
            found.append(
                "Call status webhooks are not set: their signatures could not be verified with "
                "these credentials."
            )
        return [*found, *PROVIDERS[spec.provider].notes(spec.routing_mode, sms=spec.sms_enabled)]

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


def parse_credentials(provider: ProviderName, values: Mapping[str, Any]) -> Credentials:
    """Parses a provider's credentials.

    Raises:
        InvalidRequest: names each wrong field, never its value.
    """
    try:
        return PROVIDERS[provider].credentials_model(**values)
    except (ValidationError, TypeError) as error:
        raise InvalidRequest(explain(error, prefix="credentials.")) from None


def explain(error: ValidationError | TypeError, *, prefix: str = "") -> str:
    """Returns a sentence that names each wrong field, never its value."""
    if isinstance(error, TypeError):
        return f"{prefix.rstrip('.')}: every field needs a name."
    found = []
    for fault in error.errors(include_url=False, include_input=False, include_context=False):
        place = prefix + ".".join(str(part) for part in fault["loc"])
        found.append(f"{place.rstrip('.')}: {fault['msg'].removeprefix('Value error, ')}")
    return "; ".join(found)


def _fingerprint(request: ImportRequest) -> str:
    """A digest of everything that a request says; kept in the vault only."""
    plain = request.model_dump(mode="json")
    password, pin = request.sip.password, request.inbound.pin
    # Not by truth: an empty secret is false, and no JSON either.
    plain["sip"]["password"] = None if password is None else password.get_secret_value()
    plain["inbound"]["pin"] = None if pin is None else pin.get_secret_value()
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode()).digest()


def _default_mode(modes: frozenset[RoutingMode]) -> RoutingMode:
    return RoutingMode.WEBHOOK if RoutingMode.WEBHOOK in modes else RoutingMode.SIP_TRUNK


def _has_login(request: ImportRequest, address: str) -> bool:
    """Whether a login comes with the address: the caller's own, or the platform's."""
    return request.sip.address != address or request.sip.username is not None


def _generated(kind: str) -> str:
    return f"tl{kind}{secrets.token_hex(8)}"


def _password() -> str:
    """24 letters and digits with at least one of each kind, as Twilio's credential lists demand."""
    while True:
        text = "".join(secrets.choice(_ALPHANUMERIC) for _ in range(24))
        if (
            any(c.isdigit() for c in text)
            and any(c.islower() for c in text)
            and any(c.isupper() for c in text)
        ):
            return text


def _cursor(prefix: str, text: str | None) -> UUID | None:
    if text is None:
        return None
    found = parse_id(prefix, text)
    if found is None:
        raise InvalidRequest("The cursor is not one that this API gave out.")
    return found


def _networks(addresses: tuple[str, ...]) -> tuple[str, ...]:
    """Returns addresses and networks; a network of everything would open the trunk to anybody."""
    for text in addresses:
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            raise InvalidRequest(
                "sip.allowed_addresses takes IP addresses and networks, such as 203.0.113.0/30."
            ) from None
        if network.prefixlen < _WIDEST_PREFIX:
            raise InvalidRequest("A network in sip.allowed_addresses must be /8 or narrower.")
    return addresses
