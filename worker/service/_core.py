"""What every part of the front door has: who keeps what, and the checks that all of them need."""

from __future__ import annotations

from uuid import UUID

from worker.celery_app import Sender
from worker.db.directory import CredentialRecord, Directory
from worker.db.notifications import Notifications
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.access import Caller
from worker.domain.errors import (
    AgentNotFound,
    AgentNotOwned,
    CredentialNotFound,
    CredentialNotOwned,
    InvalidRequest,
    UserNotFound,
)
from worker.domain.values import format_id, parse_id
from worker.settings import Settings


class Part:
    """The stores and the sender behind the front door; each part of it adds its own requests."""

    def __init__(
        self,
        *,
        settings: Settings,
        jobs: JobRepository,
        directory: Directory,
        notifications: Notifications,
        vault: Vault,
        sender: Sender,
    ) -> None:
        self._settings = settings
        self._jobs = jobs
        self._directory = directory
        self._notifications = notifications
        self._vault = vault
        self._sender = sender

    def _start(self, job_id: UUID) -> None:
        if not self._sender.start(format_id("imp", job_id)):
            self._jobs.sending_failed([job_id])

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
