"""What every part of the front door has: who keeps what, and the checks that all of them need."""

from __future__ import annotations

import hmac
from dataclasses import replace
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from worker import tracing
from worker.celery_app import Sender
from worker.db.audit import Deed
from worker.db.batches import Batches as BatchStore
from worker.db.directory import CredentialRecord, Directory
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers as NumberStore
from worker.db.records import JobRecord, NumberRecord, Setup
from worker.db.repository import JobRepository
from worker.db.sweeps import Sweeps
from worker.db.vault import Vault
from worker.domain.access import Caller, Permission
from worker.domain.errors import (
    AgentNotFound,
    AgentNotOwned,
    CredentialNotFound,
    CredentialNotOwned,
    IdempotencyKeyReused,
    InvalidRequest,
    NotFound,
    UserNotFound,
)
from worker.domain.references import parse_reference
from worker.domain.spec import ImportSpec
from worker.domain.values import NumberStatus, format_id, parse_id
from worker.intake import ImportRequest, parse_credentials
from worker.limiter import Limiter
from worker.providers import PROVIDERS, Credentials
from worker.service.figures import Scrapes
from worker.settings import Settings


class Part:
    """The stores and the sender behind the front door; each part of it adds its own requests."""

    def __init__(
        self,
        *,
        settings: Settings,
        jobs: JobRepository,
        directory: Directory,
        numbers: NumberStore,
        notifications: Notifications,
        batches: BatchStore,
        sweeps: Sweeps,
        vault: Vault,
        sender: Sender,
        limiter: Limiter,
        scrapes: Scrapes,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._directory = directory
        self._numbers = numbers
        self._notifications = notifications
        self._batches = batches
        self._sweeps = sweeps
        self._vault = vault
        self._sender = sender
        self._limiter = limiter
        self._scrapes = scrapes

    def _replayed(self, caller: Caller, key: str, fingerprint: str) -> JobRecord | None:
        """Returns the job that an earlier request with this key made.

        Raises:
            IdempotencyKeyReused: that request was another one.
        """
        job = self._jobs.find_by_idempotency_key(caller.organization_id, key)
        if job is None:
            return None
        known = self._vault.open(job.sealed)["fingerprint"]
        if not hmac.compare_digest(known, fingerprint):
            raise IdempotencyKeyReused
        return job

    def _start(self, job: JobRecord) -> None:
        """Asks a worker to go on with a job, unless it is held, or has ended."""
        tracing.note_job(job.id)
        if job.is_held or job.is_final:
            return
        if not self._sender.start(format_id("imp", job.id), job.queue):
            self._jobs.sending_failed([job.id])

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

    def _number(self, caller: Caller, text: str) -> NumberRecord:
        number_id = parse_id("num", text)
        number = None if number_id is None else self._held(caller, number_id)
        if number is None:
            raise NotFound("There is no phone number with this id.")
        return number

    def _held(self, caller: Caller, number_id: UUID) -> NumberRecord | None:
        """The number, if it is the caller's and active, or on its way out."""
        number = self._numbers.get(number_id)
        if number is None or number.organization_id != caller.organization_id:
            return None
        held = (NumberStatus.ACTIVE, NumberStatus.RELEASING)
        return number if number.status in held else None

    def _setup(self, number: NumberRecord) -> Setup:
        setup = self._numbers.setup(number.id)
        assert setup is not None, "it was there just now"
        return setup

    def find_agent(self, caller: Caller, text: str) -> UUID:
        """Returns the agent of any spelling: agt_…, a UUID, or the organisation's own id of it.

        Raises:
            AgentNotFound: there is none.
            AgentNotOwned: it is another organisation's.
        """
        caller.require(Permission.READ)
        reference = parse_reference("agt", text)
        found = self._directory.find_agent(caller.organization_id, reference)
        if found is None:
            raise AgentNotFound
        if found.organization_id != caller.organization_id:
            raise AgentNotOwned
        return found.id

    def find_user(self, caller: Caller, text: str) -> UUID:
        """Returns the user of any spelling: usr_…, a UUID, or the organisation's own id of them.

        Raises:
            UserNotFound: the organisation has none.
        """
        caller.require(Permission.READ)
        reference = parse_reference("usr", text)
        found = self._directory.find_user(caller.organization_id, reference)
        if found is None or found.organization_id != caller.organization_id:
            raise UserNotFound
        return found.id

    def find_credential(self, caller: Caller, text: str) -> UUID:
        """Returns the credential of any spelling: cred_…, a UUID, or the organisation's own id.

        Raises:
            CredentialNotFound: there is none.
            CredentialNotOwned: it is another organisation's.
        """
        caller.require(Permission.READ)
        reference = parse_reference("cred", text)
        found = self._directory.find_credential(caller.organization_id, reference)
        if found is None:
            raise CredentialNotFound
        if found.organization_id != caller.organization_id:
            raise CredentialNotOwned
        return found.id

    def _agent(self, caller: Caller, text: str | None) -> UUID | None:
        return None if text is None else self.find_agent(caller, text)

    def _user(self, caller: Caller, text: str | None) -> UUID | None:
        return None if text is None else self.find_user(caller, text)

    def _owned_credential(self, caller: Caller, text: str) -> CredentialRecord:
        named = parse_reference("cred", text).own_id
        if named is not None:
            # Mostly: the caller's own, by our id, is what its text means before anything else.
            record = self._directory.get_credential(named)
            if record is not None and record.organization_id == caller.organization_id:
                return record
        record = self._directory.get_credential(self.find_credential(caller, text))
        if record is None:
            raise CredentialNotFound
        return record

    def _identified(
        self, caller: Caller, spec: ImportSpec
    ) -> tuple[ImportSpec, UUID | None, UUID | None]:
        """Returns the spec with our own ids, however they were spelled; its agent; its user.

        Queries find a fallback agent by the id in a job's request: no other spelling may get there.
        """
        fallback = self._agent(caller, spec.fallback_agent_id)
        agent, user = self._agent(caller, spec.agent_id), self._user(caller, spec.user_id)
        found = identified(spec, agent_id=agent, fallback_id=fallback, user_id=user)
        return found, agent, user

    def _deed(self, caller: Caller, action: str, subject: str, **detail: Any) -> Deed:  # noqa: ANN401 -- JSON
        """What a caller does, for the audit log."""
        return Deed(
            organization_id=caller.organization_id,
            actor=caller.actor,
            action=action,
            subject=subject,
            detail=detail,
        )

    def _audit(self, caller: Caller, action: str, subject: str) -> None:
        self._directory.audit(self._deed(caller, action, subject))


def cursor_of(prefix: str, text: str | None) -> UUID | None:
    """Reads a cursor that a page gave out.

    Raises:
        InvalidRequest: it is none.
    """
    if text is None:
        return None
    found = parse_id(prefix, text)
    if found is None:
        raise InvalidRequest("The cursor is not one that this API gave out.")
    return found


def identified(
    spec: ImportSpec, *, agent_id: UUID | None, fallback_id: UUID | None, user_id: UUID | None
) -> ImportSpec:
    """Returns a spec with our own ids, however its caller spelled them. Pure."""
    return replace(
        spec,
        agent_id=None if agent_id is None else format_id("agt", agent_id),
        fallback_agent_id=None if fallback_id is None else format_id("agt", fallback_id),
        user_id=None if user_id is None else format_id("usr", user_id),
    )
