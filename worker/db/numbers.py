"""Every query on numbers: their state, what should be outside for them, their checks and events."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Connection, Engine, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from uuid_utils.compat import uuid7

from worker.db.engine import one_statement
from worker.db.models import Agent, Credential, ImportJob, NumberEvent, PhoneNumber
from worker.db.moves import FALLBACK_AGENT, is_fallback_agent, steps_of
from worker.db.notifications import add_number_notification
from worker.db.records import NumberRecord, Setup, read_job, read_number
from worker.domain.calls import EventKind
from worker.domain.errors import LeaseLost, NotFound, NumberBusy
from worker.domain.job import OPEN
from worker.domain.values import NumberStatus, Ownership, format_id

_NOW: Final = func.clock_timestamp()
#: Numbers that their organisation sees: also one on its way out.
_HELD: Final = (NumberStatus.ACTIVE, NumberStatus.RELEASING)
#: The job whose request and steps say what there should be outside.
_SET_UP_BY: Final = func.coalesce(PhoneNumber.job_id, PhoneNumber.import_id)


@dataclass(frozen=True, kw_only=True)
class EventRecord:
    """One row of number_events."""

    id: UUID
    kind: EventKind
    sealed: bytes
    received_at: datetime


class Numbers:
    """Numbers, from the moment an import claims them."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._single = one_statement(engine)

    def get(self, number_id: UUID) -> NumberRecord | None:
        """Returns a number of any organisation: whose it is, is for the caller to judge."""
        query = select(PhoneNumber.__table__).where(PhoneNumber.id == number_id)
        with self._single.connect() as connection:
            row = connection.execute(query).first()
            return None if row is None else read_number(row)

    def list_held(
        self, organization_id: UUID, *, limit: int, before: UUID | None
    ) -> list[NumberRecord]:
        """Returns an organisation's active numbers, newest first."""
        query = select(PhoneNumber.__table__).where(
            PhoneNumber.organization_id == organization_id, PhoneNumber.status.in_(_HELD)
        )
        if before is not None:
            query = query.where(PhoneNumber.id < before)
        with self._single.connect() as connection:
            rows = connection.execute(query.order_by(PhoneNumber.id.desc()).limit(limit))
            return [read_number(row) for row in rows]

    def list_held_by_e164(self, organization_id: UUID, e164: str) -> list[NumberRecord]:
        """Returns an organisation's active numbers that are dialled so: a proven, an asserted one.

        An asserted claim blocks no proven owner, so there may be both.
        """
        query = select(PhoneNumber.__table__).where(
            PhoneNumber.organization_id == organization_id,
            PhoneNumber.e164 == e164,
            PhoneNumber.status.in_(_HELD),
        )
        with self._single.connect() as connection:
            return [read_number(row) for row in connection.execute(query.order_by(PhoneNumber.id))]

    def deactivate(self, import_id: UUID, *, fence: int) -> None:
        """Turns an active number back into a claim of its import, which is being undone.

        Raises:
            LeaseLost: the claim with this fence is no longer the latest; nothing was written.

        Safe to repeat: yes.
        """
        # Locked: nobody claims the job between the look at its fence and the write.
        job = (
            select(ImportJob.phone_number_id)
            .where(
                ImportJob.id == import_id,
                ImportJob.fence == fence,
                ImportJob.lease_until.is_not(None),
            )
            .with_for_update(read=True)
            .cte("job")
        )
        pending = (
            update(PhoneNumber)
            .where(PhoneNumber.id == job.c.phone_number_id)
            .values(status=NumberStatus.PENDING, job_id=None, updated_at=_NOW)
        )
        with self._single.connect() as connection:
            if connection.execute(pending).rowcount == 0:
                raise LeaseLost

    def taken(self, e164s: Sequence[str]) -> set[str]:
        """Returns which of these numbers are imported or being imported, by whomever."""
        query = select(PhoneNumber.e164).where(
            PhoneNumber.e164.in_(list(e164s)),
            PhoneNumber.ownership == Ownership.PROVEN,
            PhoneNumber.status != NumberStatus.RELEASED,
        )
        with self._single.connect() as connection:
            return set(connection.execute(query).scalars())

    def of_credential(self, credential_id: UUID) -> list[NumberRecord]:
        """Returns the numbers that a credential serves, the newest first."""
        query = (
            select(PhoneNumber.__table__)
            .where(PhoneNumber.credential_id == credential_id, PhoneNumber.status.in_(_HELD))
            .order_by(PhoneNumber.id.desc())
        )
        with self._single.connect() as connection:
            return [read_number(row) for row in connection.execute(query)]

    # What there should be outside

    def setup(self, number_id: UUID) -> Setup | None:
        """Returns a number of any organisation and state, with all that says how it is set up."""
        query = (
            select(
                PhoneNumber.__table__,
                Credential.sealed.label("credential_sealed"),
                Credential.replaced_sealed,
                (Credential.replaced_until > _NOW).label("replaced_is_good"),
                Agent.dispatch_name.label("agent_name"),
                FALLBACK_AGENT.dispatch_name.label("fallback_name"),
            )
            .join(Credential, Credential.id == PhoneNumber.credential_id)
            .join(
                ImportJob, ImportJob.id == func.coalesce(PhoneNumber.job_id, PhoneNumber.import_id)
            )
            .outerjoin(Agent, Agent.id == PhoneNumber.agent_id)
            .outerjoin(FALLBACK_AGENT, is_fallback_agent())
            .where(PhoneNumber.id == number_id)
        )
        with self._single.connect() as connection:
            row = connection.execute(query).first()
            if row is None:
                return None
            number = read_number(row)
            found = connection.execute(
                select(ImportJob.__table__).where(ImportJob.id == number.set_up_by)
            ).one()
            return Setup(
                number=number,
                job=read_job(found, steps_of(connection, number.set_up_by)),
                credential_sealed=row.credential_sealed,
                replaced_sealed=row.replaced_sealed if row.replaced_is_good else None,
                agent_dispatch_name=row.agent_name,
                fallback_dispatch_name=row.fallback_name,
            )

    def describe(
        self,
        number: NumberRecord,
        *,
        request: Mapping[str, Any],
        sealed: bytes,
        notify: bool,
        friendly_name: str | None,
        details: Mapping[str, Any],
    ) -> None:
        """Changes what only we know of a number: its name, price, metadata, callback_url.

        Raises:
            NotFound: it was released meanwhile.
            NumberBusy: a job works on the number and might write what it was, or releases it; or it
                was changed since it was read.

        Safe to repeat: yes.
        """
        with self._engine.begin() as connection:
            # The job before its number, as everybody locks them: a retry of a change that failed
            # after its last write waits for both. Not its key: whoever refers to it goes on.
            connection.execute(
                select(ImportJob.id)
                .where(ImportJob.id == number.set_up_by)
                .with_for_update(key_share=True)
            )
            row = connection.execute(
                select(PhoneNumber.status, PhoneNumber.updated_at)
                .where(PhoneNumber.id == number.id)
                .with_for_update()
            ).first()
            if row is None or row.status not in _HELD:
                raise NotFound("There is no phone number with this id.")
            if row.status != NumberStatus.ACTIVE:
                raise NumberBusy("The number is being released.")
            if row.updated_at != number.updated_at:
                raise NumberBusy
            self._require_idle(connection, number)
            connection.execute(
                update(PhoneNumber)
                .where(PhoneNumber.id == number.id)
                .values(friendly_name=friendly_name, details=dict(details), updated_at=_NOW)
            )
            # The next job begins with what the last one left.
            connection.execute(
                update(ImportJob)
                .where(ImportJob.id == number.set_up_by)
                .values(request=dict(request), sealed=sealed, notify=notify)
            )

    @staticmethod
    def _require_idle(connection: Connection, number: NumberRecord) -> None:
        busy = exists().where(ImportJob.phone_number_id == number.id, ImportJob.state.in_(OPEN))
        current = select(_SET_UP_BY).where(PhoneNumber.id == number.id)
        changed = connection.execute(current).scalar() != number.set_up_by
        if changed or connection.execute(select(busy)).scalar():
            raise NumberBusy

    # Checks

    def take_check_due(self, *, limit: int, lease_seconds: float) -> list[UUID]:
        """Takes active numbers that are due for a check; whoever takes them says when again.

        If nobody does, they are due again after the lease. Many may take at the same time; each
        takes others.
        """
        due = (
            select(PhoneNumber.id)
            .where(PhoneNumber.status == NumberStatus.ACTIVE, PhoneNumber.check_due_at <= _NOW)
            .order_by(PhoneNumber.check_due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(PhoneNumber)
                .where(PhoneNumber.id.in_(due.scalar_subquery()))
                .values(check_due_at=_NOW + timedelta(seconds=lease_seconds))
                .returning(PhoneNumber.id)
            )
            return list(rows.scalars())

    def postpone_check(self, number_id: UUID, *, seconds: float | None) -> None:
        """Says when a number is checked next; None for never."""
        due = None if seconds is None else _NOW + timedelta(seconds=seconds)
        with self._engine.begin() as connection:
            connection.execute(
                update(PhoneNumber).where(PhoneNumber.id == number_id).values(check_due_at=due)
            )

    def note_check(
        self, setup: Setup, diagnosis: Mapping[str, Any], *, again_in: float | None
    ) -> bool:
        """Writes down what a check found, unless the number was set up anew meanwhile.

        ``again_in`` is after how many seconds it is checked again. Returns whether the number had
        not drifted before and has now; its owner is then told, if they asked to be.
        """
        number = setup.number
        due = None if again_in is None else _NOW + timedelta(seconds=again_in)
        with self._engine.begin() as connection:
            before = connection.execute(
                select(PhoneNumber.diagnosis, PhoneNumber.job_id)
                .where(PhoneNumber.id == number.id, PhoneNumber.status == NumberStatus.ACTIVE)
                .with_for_update()
            ).first()
            if before is None or before.job_id != number.job_id:
                return False
            connection.execute(
                update(PhoneNumber)
                .where(PhoneNumber.id == number.id)
                .values(diagnosis=dict(diagnosis), checked_at=_NOW, check_due_at=due)
            )
            known = (before.diagnosis or {}).get("verdict", "ok")
            drifted: bool = known == "ok" and diagnosis["verdict"] != "ok"
            if drifted and setup.job.notify:
                add_number_notification(
                    connection,
                    organization_id=number.organization_id,
                    secrets_of=setup.job.id,
                    event_id=None,
                    type="number.drifted",
                    payload={
                        "id": format_id("num", number.id),
                        "phone_number": number.e164,
                        "summary": diagnosis["summary"],
                    },
                )
            return drifted

    # Events

    def add_event(
        self,
        setup: Setup,
        *,
        kind: EventKind,
        key: str,
        sealed: bytes,
    ) -> bool:
        """Stores an event, and the notification of it; False if it was stored before.

        Safe to repeat: yes.
        """
        number = setup.number
        event_id = uuid7()
        with self._engine.begin() as connection:
            stored = connection.execute(
                insert(NumberEvent)
                .values(
                    id=event_id,
                    organization_id=number.organization_id,
                    phone_number_id=number.id,
                    kind=kind,
                    key=key,
                    sealed=sealed,
                )
                .on_conflict_do_nothing(index_elements=["phone_number_id", "key"])
                .returning(NumberEvent.id)
            ).scalar()
            if stored is None:
                return False
            if setup.job.notify:
                add_number_notification(
                    connection,
                    organization_id=number.organization_id,
                    secrets_of=setup.job.id,
                    event_id=event_id,
                    type=f"{kind}.received",
                    payload=_public(event_id, number, kind),
                )
            return True

    def list_events(
        self, number_id: UUID, *, limit: int, before: UUID | None, kind: EventKind | None
    ) -> list[EventRecord]:
        """Returns a number's events, newest first."""
        query = select(NumberEvent.__table__).where(NumberEvent.phone_number_id == number_id)
        if before is not None:
            query = query.where(NumberEvent.id < before)
        if kind is not None:
            query = query.where(NumberEvent.kind == kind)
        with self._single.connect() as connection:
            rows = connection.execute(query.order_by(NumberEvent.id.desc()).limit(limit))
            return [
                EventRecord(
                    id=row.id,
                    kind=EventKind(row.kind),
                    sealed=row.sealed,
                    received_at=row.received_at,
                )
                for row in rows
            ]


def _public(event_id: UUID, number: NumberRecord, kind: EventKind) -> dict[str, Any]:
    """Returns what a notification says of an event beside its sealed data."""
    return {
        "id": format_id("evt", event_id),
        "kind": kind,
        "phone_number_id": format_id("num", number.id),
        "phone_number": number.e164,
    }
