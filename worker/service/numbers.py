"""Imported numbers: look up, change, release, and what came in for them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from uuid_utils.compat import uuid7

from worker.db.records import JobRecord, NewChange, NumberRecord
from worker.domain.access import Caller, Permission
from worker.domain.calls import EventKind
from worker.domain.errors import InvalidRequest, NotFound, NumberBusy
from worker.domain.job import JobKind
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import E164, format_id, parse_id
from worker.intake import NumberChange, changed
from worker.outward import vet_url
from worker.service._core import Part, cursor_of


@dataclass(frozen=True, kw_only=True)
class StoredEvent:
    """What a provider reported, as its number's owner sees it."""

    id: UUID
    kind: EventKind
    received_at: datetime
    data: dict[str, Any]


class Numbers(Part):
    """Requests about imported numbers."""

    def get_number(self, caller: Caller, number_id: str) -> NumberRecord:
        """Returns a number that is active or on its way out.

        Raises:
            NotFound: the caller's organisation has no such number.
        """
        caller.require(Permission.READ)
        return self._number(caller, number_id)

    def find_number(self, caller: Caller, number_id: UUID) -> NumberRecord | None:
        """Returns a number of the caller's that is active or on its way out, if there is one."""
        caller.require(Permission.READ)
        return self._held(caller, number_id)

    def find_number_by_e164(self, caller: Caller, e164: E164) -> NumberRecord:
        """Returns the number that is active, or on its way out, by what people dial.

        Raises:
            NotFound: the caller's organisation has no such number.
            InvalidRequest: it has two, one proven and one asserted.
        """
        caller.require(Permission.READ)
        found = self._numbers.list_held_by_e164(caller.organization_id, e164)
        if not found:
            raise NotFound(f"There is no active phone number {e164} in this organisation.")
        if len(found) > 1:
            which = " and ".join(f"{format_id('num', one.id)} ({one.provider})" for one in found)
            raise InvalidRequest(f"{e164} is imported more than once: {which}. Give one's id.")
        return found[0]

    def list_numbers(self, caller: Caller, *, limit: int, cursor: str | None) -> list[NumberRecord]:
        """Returns the organisation's numbers, newest first."""
        caller.require(Permission.READ)
        return self._numbers.list_held(
            caller.organization_id, limit=limit, before=cursor_of("num", cursor)
        )

    def release(self, caller: Caller, number_id: str) -> JobRecord:
        """Gives a number back as it was before its import; returns the job that does.

        Raises:
            NotFound: the caller's organisation has no such number.
            NumberBusy: another job works on the number.

        Safe to repeat: yes, a release that is under way is returned.
        """
        return self._change(caller, number_id, JobKind.RELEASE)

    def repair(self, caller: Caller, number_id: str) -> JobRecord:
        """Sets everything outside again as it is meant to be; returns the job that does.

        Raises:
            NotFound: the caller's organisation has no such number.
            NumberBusy: another job works on the number.

        Safe to repeat: yes, a repair that is under way is returned.
        """
        return self._change(caller, number_id, JobKind.REPAIR)

    def change_number(
        self, caller: Caller, number_id: str, change: NumberChange
    ) -> NumberRecord | JobRecord:
        """Changes a number; what reaches LiveKit is done by the job that is returned.

        Raises:
            NotFound: the caller's organisation has no such number.
            NumberBusy: another job works on the number.
            AgentNotFound: there is no such agent, or fallback agent.
            AgentNotOwned: it belongs to another organisation.
            InvalidRequest: the change cannot be.
        """
        caller.require(Permission.CREATE_NUMBERS)
        number = self.get_number(caller, number_id)
        setup = self._setup(number)
        before = ImportSpec.from_json(setup.job.request)
        kept = ImportSecrets(**self._vault.open(setup.job.sealed))
        spec, hidden = changed(change, before, kept)
        spec, agent_id, _ = self._identified(caller, spec)
        if hidden.callback_url is not None and hidden.callback_url != kept.callback_url:
            vet_url(
                hidden.callback_url, allow_loopback=self._settings.notify_loopback, resolve=True
            )
        described = replace(
            before, friendly_name=spec.friendly_name, price=spec.price, metadata=spec.metadata
        )
        same = replace(hidden, pin=kept.pin, callback_url=kept.callback_url) == kept
        stays = spec == described and same and hidden.pin == kept.pin
        if not stays:
            job_id = uuid7()
            self._jobs.submit_change(
                NewChange(
                    id=job_id,
                    # Another login is the trunks' business.
                    kind=JobKind.REBIND if same else JobKind.REPAIR,
                    organization_id=caller.organization_id,
                    api_key_id=caller.key_id,
                    phone_number_id=number.id,
                    request=spec.to_json(),
                    sealed=self._vault.seal(hidden.to_json()),
                    agent_id=agent_id,
                    notify=hidden.callback_url is not None,
                    seen=number.updated_at,
                )
            )
            self._audit(caller, "number.change", number_id)
            return self._started(caller, job_id)
        self._numbers.describe(
            number,
            request=spec.to_json(),
            sealed=self._vault.seal(hidden.to_json()),
            notify=hidden.callback_url is not None,
            friendly_name=spec.friendly_name,
            details={"price": spec.price, "metadata": spec.metadata, "carrier": spec.carrier},
        )
        self._audit(caller, "number.change", number_id)
        return self.get_number(caller, number_id)

    def list_events(
        self,
        caller: Caller,
        number_id: str,
        *,
        limit: int,
        cursor: str | None,
        kind: EventKind | None = None,
    ) -> list[StoredEvent]:
        """Returns what providers reported for a number, newest first; also of one given back.

        Raises:
            NotFound: the caller's organisation has no such number.
        """
        caller.require(Permission.READ)
        found = parse_id("num", number_id)
        number = None if found is None else self._numbers.get(found)
        if number is None or number.organization_id != caller.organization_id:
            raise NotFound("There is no phone number with this id.")
        events = self._numbers.list_events(
            number.id, limit=limit, before=cursor_of("evt", cursor), kind=kind
        )
        return [
            StoredEvent(
                id=event.id,
                kind=event.kind,
                received_at=event.received_at,
                data=self._vault.open(event.sealed),
            )
            for event in events
        ]

    def _change(self, caller: Caller, number_id: str, kind: JobKind) -> JobRecord:
        caller.require(Permission.CREATE_NUMBERS)
        number = self.get_number(caller, number_id)
        job_id = uuid7()
        try:
            self._jobs.submit_change(
                NewChange(
                    id=job_id,
                    kind=kind,
                    organization_id=caller.organization_id,
                    api_key_id=caller.key_id,
                    phone_number_id=number.id,
                )
            )
        except NumberBusy:
            working = self._jobs.open_job(number.id)
            if working is None or working.kind is not kind:
                raise
            return working
        self._audit(caller, f"number.{kind}", number_id)
        return self._started(caller, job_id)

    def _started(self, caller: Caller, job_id: UUID) -> JobRecord:
        job = self._jobs.get(job_id)
        assert job is not None, "it was stored just now"
        assert job.organization_id == caller.organization_id
        self._start(job)
        return job
