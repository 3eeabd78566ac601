"""Imports: submit, look up, cancel and retry."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from uuid import UUID

from uuid_utils.compat import uuid7

from worker import metrics
from worker.db.records import JobRecord, NewJob
from worker.db.tally import Tally
from worker.domain.access import Caller, Permission
from worker.domain.errors import InvalidRequest, NotFound
from worker.domain.job import JobKind, JobState
from worker.domain.values import ProviderName, format_id, parse_id
from worker.intake import (
    ImportRequest,
    fingerprint_of,
    require_verifiable,
    secrets_of,
    spec_of,
    warnings_of,
)
from worker.outward import vet_url
from worker.service._core import Part, cursor_of


@dataclass(frozen=True, kw_only=True)
class Submitted:
    """What submit answers."""

    job: JobRecord
    #: False if an earlier request with the same Idempotency-Key made the job.
    created: bool


class Imports(Part):
    """Requests about imports."""

    def submit(
        self, caller: Caller, request: ImportRequest, *, idempotency_key: str | None = None
    ) -> Submitted:
        """Stores an import and asks a worker to start it; answers also while the broker is down.

        Raises:
            PermanentError: the request is refused; nothing was stored.

        Safe to repeat: with an idempotency key the same request gives the same job.
        """
        caller.require(Permission.CREATE_NUMBERS)
        if request.callback_url is not None:
            vet_url(
                request.callback_url.get_secret_value(),
                allow_loopback=self._settings.notify_loopback,
                look_up=True,
            )
        fingerprint = fingerprint_of(request)
        if idempotency_key is not None:
            earlier = self._replayed(caller, idempotency_key, fingerprint)
            if earlier is not None:
                return Submitted(job=earlier, created=False)
        spec, agent_id, user_id = self._identified(caller, spec_of(request, self._settings))
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
            notify=request.callback_url is not None,
            warnings=warnings_of(spec, parsed),
        )
        deed = self._deed(caller, "import.submit", format_id("imp", job_id))
        stored = self._jobs.submit(job, inline, deed)
        if stored is None:
            assert idempotency_key is not None, "only a key can have been used before"
            earlier = self._replayed(caller, idempotency_key, fingerprint)
            assert earlier is not None, "the key's job was stored by somebody else just now"
            return Submitted(job=earlier, created=False)
        metrics.SUBMITS.labels(spec.provider).inc()
        self._start(stored)
        return Submitted(job=stored, created=True)

    def require_agent(self, caller: Caller, agent_id: str) -> None:
        """Makes sure of an agent that a request names beside those that its import refers to.

        Raises:
            AgentNotFound: there is no such agent.
            AgentNotOwned: it belongs to another organisation.
        """
        caller.require(Permission.CREATE_NUMBERS)
        self._agent(caller, agent_id)

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

    def import_versions(self, job_ids: Collection[UUID]) -> dict[UUID, tuple[int, JobState]]:
        """Returns what waiting requests watch; the caller has checked whose imports they are."""
        return self._jobs.versions(job_ids)

    def list_imports(
        self,
        caller: Caller,
        *,
        limit: int,
        cursor: str | None = None,
        status: JobState | None = None,
        provider: ProviderName | None = None,
        phone_number: str | None = None,
        kind: JobKind | None = None,
        batch: str | None = None,
    ) -> list[JobRecord]:
        """Returns the organisation's jobs, newest first, without their steps.

        Raises:
            InvalidRequest: the cursor or the batch is no id of ours.
        """
        caller.require(Permission.READ)
        batch_id = None if batch is None else parse_id("bat", batch)
        if batch is not None and batch_id is None:
            raise InvalidRequest("batch: Give a batch's id, such as bat_01890a5d….")
        return self._jobs.list_jobs(
            caller.organization_id,
            limit=limit,
            before=cursor_of("imp", cursor),
            state=status,
            provider=provider,
            e164=phone_number,
            kind=kind,
            batch_id=batch_id,
        )

    def tally_imports(self, caller: Caller) -> Tally:
        """Returns how many of the organisation's jobs are in each state."""
        caller.require(Permission.READ)
        return self._jobs.tally(caller.organization_id)

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
        job = self.get_import(caller, import_id)
        self._start(job)
        return job
