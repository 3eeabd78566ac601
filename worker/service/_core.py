"""What every part of the front door has: who keeps what, and the checks that all of them need."""

from __future__ import annotations

import hmac
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from worker.celery_app import Sender
from worker.db.batches import Batches as BatchStore
from worker.db.directory import CredentialRecord, Directory
from worker.db.notifications import Notifications
from worker.db.numbers import Numbers as NumberStore
from worker.db.records import JobRecord, NumberRecord, Setup
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.access import Caller
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
from worker.domain.values import NumberStatus, format_id, parse_id
from worker.intake import ImportRequest, parse_credentials
from worker.providers import PROVIDERS, Credentials
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
        vault: Vault,
        sender: Sender,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._directory = directory
        self._numbers = numbers
        self._notifications = notifications
        self._batches = batches
        self._vault = vault
        self._sender = sender

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

    def _start(self, job_id: UUID) -> None:
        if not self._sender.start(format_id("imp", job_id)):
            self._jobs.sending_failed([job_id])

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

    def _owned_credential(self, caller: Caller, text: str) -> CredentialRecord:
        credential_id = parse_id("cred", text)
        record = None if credential_id is None else self._directory.get_credential(credential_id)
        if record is None:
            raise CredentialNotFound
        if record.organization_id != caller.organization_id:
            raise CredentialNotOwned
        return record

    def _audit(self, caller: Caller, action: str, subject: str) -> None:
        self._directory.audit(
            organization_id=caller.organization_id,
            actor=caller.actor,
            action=action,
            subject=subject,
        )


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
