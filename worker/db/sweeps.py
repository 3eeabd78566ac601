"""Every query of the sweep: jobs that somebody must go on with, and when it last ran."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Engine, Update, func, or_, select, text, tuple_, update
from sqlalchemy.orm import aliased

from worker import metrics
from worker.db.engine import one_statement
from worker.db.models import ImportJob, Sweep
from worker.db.moves import IS_KNOWN, IS_PLANNED, NOW, in_seconds, is_unheeded
from worker.db.places import ANY_HELD
from worker.domain.job import JobQueue, JobState

#: A message that was sent is taken within milliseconds by a worker that has a thread free.
UNPUBLISHED_SECONDS: Final = 0.5
#: From when a message is taken until its job is claimed; two messages may change places in it.
_TAKING: Final = timedelta(seconds=2)
#: Made once: a statement with an alias of its own would be compiled anew each time.
_WORKING: Final = aliased(ImportJob, name="working")
#: By queue, when the message was sent that somebody works on and that was sent last.
_NEWEST: Final = (
    select(_WORKING.provider, _WORKING.backlog, func.max(_WORKING.sent_at).label("sent_at"))
    .where(_WORKING.due_at.is_not(None), _WORKING.lease_until > NOW)
    .group_by(_WORKING.provider, _WORKING.backlog)
    .subquery("newest")
)
_QUEUE: Final = tuple_(ImportJob.provider, ImportJob.backlog)
#: Whether somebody should have moved a job on by now. A worker that goes from step to step renews
#: the lease alone. By the time at which the query began, which an index can be searched for.
_IS_DUE: Final = (ImportJob.due_at <= func.now()) & or_(
    ImportJob.lease_until.is_(None), ImportJob.lease_until <= func.now()
)
#: What there may be for the rest of a sweep, each found by the index that its part of the sweep
#: reads; a sweep that finds nothing is over with this.
_LOOK: Final = text(
    f"""
    WITH found AS (
        SELECT
            EXISTS (
                SELECT FROM import_jobs
                WHERE due_at <= now() AND (lease_until IS NULL OR lease_until <= now())
                ORDER BY due_at LIMIT 1
            ) AS is_due,
            EXISTS (
                SELECT FROM import_jobs
                WHERE due_at IS NOT NULL AND fence = 0 AND next_attempt_at IS NULL
                  AND sent_at <= now() - make_interval(secs => :unpublished_seconds)
                ORDER BY due_at LIMIT 1
            ) AS is_unpublished,
            {ANY_HELD} AS is_held,
            EXISTS (
                SELECT FROM phone_numbers WHERE status = 'active' AND check_due_at <= now()
                ORDER BY check_due_at LIMIT 1
            ) AS is_check_due,
            (
                SELECT count(*) FROM (
                    SELECT FROM notifications WHERE state = 'pending' AND due_at <= now()
                    ORDER BY due_at LIMIT :letters
                ) AS due
            ) AS letters
    ), noted AS (
        UPDATE sweeps SET swept_at = clock_timestamp() FROM found
        WHERE NOT (is_due OR is_unpublished OR is_held OR is_check_due) AND letters = 0
    )
    SELECT is_due, is_unpublished, is_held, is_check_due, letters FROM found
    """  # noqa: S608 -- constants
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """What a sweep may find; what is False it will not."""

    #: A job that somebody should have moved on by now.
    is_due: bool
    #: A job that was sent a while ago and that nobody has begun.
    is_unpublished: bool
    #: A job that waits for a place.
    is_held: bool
    #: A number whose check is due.
    is_check_due: bool
    #: Notifications that are due, counted up to some number.
    letters: int


NOTHING: Final = Look(
    is_due=False, is_unpublished=False, is_held=False, is_check_due=False, letters=0
)


class Sweeps:
    """Begun jobs that somebody must go on with, and the time of the last look for them."""

    def __init__(self, engine: Engine, *, resend_after_seconds: float) -> None:
        self._engine = engine
        self._single = one_statement(engine)
        self._resend_after = resend_after_seconds

    def look(self, *, letters: int) -> Look:
        """Returns what there is to do, in one statement; if nothing, the sweep is noted.

        ``letters`` is up to how many notifications are counted.
        """
        asked = {"unpublished_seconds": UNPUBLISHED_SECONDS, "letters": letters}
        with self._single.connect() as connection:
            return Look(**connection.execute(_LOOK, asked).mappings().one())

    def take_stranded(self, *, limit: int) -> dict[UUID, bool]:
        """Takes begun jobs that nobody works on: their worker died, or their message is lost.

        Those that a dead worker held come first, and all of them: they are as many as it had
        threads. The others, whose retry is due or whose message may only be late, fill up to the
        limit. Many sweeps may run at the same time; each takes others.

        Returns with each job whether the message that a sweep sent before has led to nothing.
        """
        due = (
            select(
                ImportJob.id,
                is_unheeded(self._resend_after).label("unheeded"),
                IS_PLANNED.label("planned"),
            )
            .where(_IS_DUE, *IS_KNOWN)
            .order_by(ImportJob.due_at)
            .with_for_update(skip_locked=True)
        )
        held = due.where(ImportJob.lease_until.is_not(None))
        loose = due.where(
            ImportJob.lease_until.is_(None),
            ImportJob.state.in_((JobState.RUNNING, JobState.UNDOING)),
        )
        with self._engine.begin() as connection:
            rows = connection.execute(held).all()
            if len(rows) < limit:
                rows = [*rows, *connection.execute(loose.limit(limit - len(rows)))]
            if rows:
                connection.execute(_sent_again([row.id for row in rows], self._resend_after))
        metrics.SWEEP_RESCUES.inc(sum(not row.planned for row in rows))
        return {row.id: row.unheeded for row in rows}

    def take_due(self, *, limit: int, waiting: Collection[JobQueue] = ()) -> dict[UUID, bool]:
        """Takes jobs that somebody should have moved on by now, for their message to be sent again.

        ``waiting`` are the broker's queues in which messages wait: there a job's own probably waits
        as well. Of these only those jobs are taken that were never sent, whose worker died, or that
        were overtaken: somebody works on a job that was sent to the same queue later, so theirs is
        no longer in it. Many sweeps may run at the same time; each takes others. What only a newer
        release knows is left to its sweep.

        Returns with each job whether the message that a sweep sent before has led to nothing.
        """
        sent_at = ImportJob.due_at - timedelta(seconds=self._resend_after)
        lost = or_(
            ImportJob.sent_at.is_(None),
            ImportJob.lease_until.is_not(None),
            _QUEUE.not_in(waiting),
            sent_at < _NEWEST.c.sent_at - _TAKING,
        )
        overtaking = (_NEWEST.c.provider == ImportJob.provider) & (
            _NEWEST.c.backlog == ImportJob.backlog
        )
        taken = (
            select(
                ImportJob.id,
                is_unheeded(self._resend_after).label("unheeded"),
                IS_PLANNED.label("planned"),
            )
            .outerjoin(_NEWEST, overtaking)
            .where(_IS_DUE, lost, *IS_KNOWN)
            .order_by(ImportJob.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True, of=ImportJob)
            .cte("due")
        )
        with self._engine.begin() as connection:
            rows = connection.execute(
                update(ImportJob)
                .where(ImportJob.id == taken.c.id)
                .values(sent_at=NOW, due_at=in_seconds(self._resend_after))
                .returning(ImportJob.id, taken.c.unheeded, taken.c.planned)
            ).all()
        metrics.SWEEP_RESCUES.inc(sum(not row.planned for row in rows))
        return {row.id: row.unheeded for row in rows}

    def take_unpublished(
        self, *, limit: int, waiting: Collection[JobQueue] = ()
    ) -> dict[UUID, bool]:
        """Takes jobs that were stored a while ago and have not begun, whose queue holds no message.

        Then theirs cannot be late: whoever stored them died before it was sent, or it is lost. So
        they need not wait until a message counts as lost, and yet a busy system, whose messages
        wait, sends none twice. ``waiting`` are the broker's queues that hold messages.

        Returns with each job whether the message that a sweep sent before has led to nothing.
        """
        unsent = (
            select(ImportJob.id, is_unheeded(self._resend_after).label("unheeded"))
            .where(
                *IS_KNOWN,
                _QUEUE.not_in(waiting),
                ImportJob.due_at.is_not(None),
                # Nobody has claimed it yet, nor put it off.
                ImportJob.fence == 0,
                ImportJob.next_attempt_at.is_(None),
                ImportJob.sent_at <= in_seconds(-UNPUBLISHED_SECONDS),
            )
            .order_by(ImportJob.due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        with self._engine.begin() as connection:
            taken = {row.id: row.unheeded for row in connection.execute(unsent)}
            if taken:
                connection.execute(_sent_again(list(taken), self._resend_after))
        metrics.SWEEP_RESCUES.inc(len(taken))
        return taken

    def note(self) -> None:
        """Writes down that a sweep has run."""
        with self._single.connect() as connection:
            connection.execute(update(Sweep).values(swept_at=NOW))

    def age_seconds(self) -> float:
        """Returns how long ago the last sweep ran."""
        age = func.extract("epoch", NOW - Sweep.swept_at)
        with self._single.connect() as connection:
            return float(connection.execute(select(age)).scalar_one())


def _sent_again(job_ids: Sequence[UUID], resend_after_seconds: float) -> Update:
    return (
        update(ImportJob)
        .where(ImportJob.id.in_(job_ids))
        .values(sent_at=NOW, due_at=in_seconds(resend_after_seconds))
    )
