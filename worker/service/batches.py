"""Batches: submit many imports at once, follow them, cancel what has not ended."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar
from uuid import UUID

from uuid_utils.compat import uuid7

from worker import metrics, tracing
from worker.batches import BatchItem, BatchRequest, import_of
from worker.db.batches import BatchRecord, NewBatch, NewRow, RowRecord
from worker.db.records import NewJob
from worker.domain.access import Caller, Permission
from worker.domain.errors import (
    IdempotencyKeyReused,
    InvalidRequest,
    InvalidState,
    NotFound,
    NumberAlreadyImported,
    PermanentError,
)
from worker.domain.values import E164, ProviderName, format_id, parse_id
from worker.intake import ImportRequest, require_verifiable, secrets_of, spec_of, warnings_of
from worker.outward import vet_url
from worker.providers import Credentials
from worker.service._core import Part, cursor_of, identified

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")

#: Callback URLs of one batch whose names are asked for in the DNS; delivery asks for every one.
_MOST_LOOK_UPS: Final = 3


@dataclass(frozen=True, kw_only=True)
class SubmittedBatch:
    """What submit answers."""

    batch: BatchRecord
    #: False if an earlier request with the same Idempotency-Key made the batch.
    created: bool


class Batches(Part):
    """Requests about batches."""

    def submit_batch(
        self, caller: Caller, request: BatchRequest, *, idempotency_key: str | None = None
    ) -> SubmittedBatch:
        """Stores a batch with all imports that its rows ask for; workers begin them in turns.

        A row that a single import would be refused for is refused alone, and says so.

        Raises:
            PermanentError: the batch as a whole is refused; nothing was stored.

        Safe to repeat: with an idempotency key the same request gives the same batch.
        """
        caller.require(Permission.CREATE_NUMBERS)
        if idempotency_key is not None:
            earlier = self._replayed_batch(caller, idempotency_key, request)
            if earlier is not None:
                return SubmittedBatch(batch=earlier, created=False)
        batch_id = uuid7()
        draft = _Draft(self, caller, batch_id)
        rows = [draft.row(item) for item in request.items]
        stored = self._batches.submit(
            NewBatch(
                id=batch_id,
                organization_id=caller.organization_id,
                api_key_id=caller.key_id,
                idempotency_key=idempotency_key,
                sealed=self._vault.seal({"fingerprint": request.fingerprint}),
                rows=rows,
                credentials=draft.credentials,
            )
        )
        if not stored:
            assert idempotency_key is not None, "only a key can have been used before"
            earlier = self._replayed_batch(caller, idempotency_key, request)
            assert earlier is not None, "the key's batch was stored by somebody else just now"
            return SubmittedBatch(batch=earlier, created=False)
        for row in rows:
            if row.job is not None:
                metrics.SUBMITS.labels(row.job.provider).inc()
                tracing.note_job(row.job.id)
        self._audit(caller, "batch.submit", format_id("bat", batch_id))
        return SubmittedBatch(batch=self._batch(caller, format_id("bat", batch_id)), created=True)

    def get_batch(self, caller: Caller, batch_id: str) -> BatchRecord:
        """Returns a batch with how many of its imports are where.

        Raises:
            NotFound: the caller's organisation has no such batch.
        """
        caller.require(Permission.READ)
        return self._batch(caller, batch_id)

    def list_batch_rows(
        self, batch: BatchRecord, *, limit: int, cursor: str | None, status: str | None
    ) -> list[RowRecord]:
        """Returns rows of a batch that the caller was given, in their order."""
        return self._batches.rows(batch.id, limit=limit, after=_line_of(cursor), status=status)

    def list_batches(
        self, caller: Caller, *, limit: int, cursor: str | None = None
    ) -> list[BatchRecord]:
        """Returns the organisation's batches, newest first."""
        caller.require(Permission.READ)
        return self._batches.list_batches(
            caller.organization_id, limit=limit, before=cursor_of("bat", cursor)
        )

    def cancel_batch(self, caller: Caller, batch_id: str) -> BatchRecord:
        """Cancels every import of a batch that has not ended.

        Raises:
            InvalidState: all have.

        Safe to repeat: yes.
        """
        caller.require(Permission.CREATE_NUMBERS)
        batch = self._batch(caller, batch_id)
        for job_id in self._batches.cancel(batch.id):
            # It may have ended just now.
            with suppress(InvalidState):
                self._jobs.cancel(job_id)
                job = self._jobs.get(job_id)
                assert job is not None, "no job is ever deleted"
                self._start(job)
        self._audit(caller, "batch.cancel", batch_id)
        return self._batch(caller, batch_id)

    def _batch(self, caller: Caller, text: str) -> BatchRecord:
        batch_id = parse_id("bat", text)
        batch = None if batch_id is None else self._batches.get(batch_id)
        if batch is None or batch.organization_id != caller.organization_id:
            raise NotFound("There is no batch with this id.")
        return batch

    def _replayed_batch(
        self, caller: Caller, key: str, request: BatchRequest
    ) -> BatchRecord | None:
        """Returns the batch that an earlier request with this key made.

        Raises:
            IdempotencyKeyReused: that request was another one.
        """
        batch = self._batches.find_by_idempotency_key(caller.organization_id, key)
        if batch is None:
            return None
        known = self._vault.open(batch.sealed)["fingerprint"]
        if not hmac.compare_digest(known, request.fingerprint):
            raise IdempotencyKeyReused
        return batch


def _line_of(cursor: str | None) -> int:
    if cursor is None:
        return 0
    # A number with more digits is no line, and would be none of Postgres's integers.
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 10):  # noqa: PLR2004 -- of an int4
        raise InvalidRequest("The cursor is not one that this API gave out.")
    return int(cursor)


class _Draft:
    """Turns rows into imports; what many rows name is looked up, and sealed, once."""

    def __init__(self, part: Batches, caller: Caller, batch_id: UUID) -> None:
        #: Rows of the credentials that came inline.
        self.credentials: list[dict[str, Any]] = []
        self._part = part
        self._caller = caller
        self._batch_id = batch_id
        self._lines: dict[str, int] = {}
        self._account = _Once(self._find_account)
        self._agent: _Once[str | None, UUID | None] = _Once(lambda text: part._agent(caller, text))  # noqa: SLF001 -- the same request
        self._user: _Once[str | None, UUID | None] = _Once(lambda text: part._user(caller, text))  # noqa: SLF001
        self._url = _Once(self._vet)
        self._look_ups = 0

    def row(self, item: BatchItem) -> NewRow:
        """Returns what is to be stored of a row; a row that is refused is refused alone."""
        number = None
        try:
            if item.error is not None:
                raise item.error
            text = item.values.get("phone_number")
            if isinstance(text, str):
                # First, so that whatever else is wrong is said of this number.
                number = E164.parse(text)
            request = import_of(item.values)
            job = self._job(request)
            earlier = self._lines.setdefault(job.e164, item.line)
            if earlier != item.line:
                raise NumberAlreadyImported(
                    f"This number is in the batch already, at line {earlier}."
                )
        except PermanentError as error:
            return NewRow(line=item.line, e164=number, job=None, error=error)
        return NewRow(line=item.line, e164=number, job=job, error=None)

    def _job(self, request: ImportRequest) -> NewJob:
        part, caller = self._part, self._caller
        settings, vault = part._settings, part._vault  # noqa: SLF001
        if request.callback_url is not None:
            self._url(request.callback_url.get_secret_value())
        spec = spec_of(request, settings)
        fallback_id = self._agent(request.inbound.fallback_agent_id)
        agent_id = self._agent(request.agent_id)
        user_id = self._user(request.user_id)
        spec = identified(spec, agent_id=agent_id, fallback_id=fallback_id, user_id=user_id)
        given = json.dumps(request.credentials, sort_keys=True)
        account = _Account(request.provider, request.credential_id, given, request)
        credential, parsed = self._account(account)
        require_verifiable(spec, parsed)
        return NewJob(
            id=uuid7(),
            organization_id=caller.organization_id,
            api_key_id=caller.key_id,
            idempotency_key=None,
            provider=spec.provider,
            e164=spec.phone_number,
            credential_id=credential,
            account_ref=parsed.account_ref,
            agent_id=agent_id,
            user_id=user_id,
            phone_number_id=uuid7(),
            request=spec.to_json(),
            sealed=vault.seal(secrets_of(request, spec, settings).to_json()),
            notify=request.callback_url is not None,
            warnings=warnings_of(spec, parsed),
            batch_id=self._batch_id,
        )

    def _find_account(self, account: _Account) -> tuple[UUID, Credentials]:
        found = self._part._credential(self._caller, account.request)  # noqa: SLF001
        credential, row, parsed = found
        if row is not None:
            self.credentials.append(row)
        return credential, parsed

    def _vet(self, url: str) -> None:
        self._look_ups += 1
        allow = self._part._settings.notify_loopback  # noqa: SLF001
        vet_url(url, allow_loopback=allow, look_up=self._look_ups <= _MOST_LOOK_UPS)


class _Once(Generic[_Key, _Value]):
    """A question that is asked once for each key; a refusal is an answer, too."""

    def __init__(self, ask: Callable[[_Key], _Value]) -> None:
        self._ask = ask
        self._known: dict[_Key, _Value | PermanentError] = {}

    def __call__(self, key: _Key) -> _Value:
        """Returns the answer, or raises the refusal, that the first time gave."""
        if key not in self._known:
            try:
                self._known[key] = self._ask(key)
            except PermanentError as error:
                self._known[key] = error
        found = self._known[key]
        if isinstance(found, PermanentError):
            raise found
        return found


@dataclass(frozen=True)
class _Account:
    """Which account a row names, equal for all rows that name the same."""

    provider: ProviderName
    credential_id: str | None
    credentials: str = field(repr=False)
    request: ImportRequest = field(repr=False, compare=False)
