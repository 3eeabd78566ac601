"""The only writers of a job's state and cursor, for :mod:`repository` and :mod:`claims` to call.

Each takes a job whose row the caller's transaction has locked.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Connection,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    delete,
    event,
    false,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.orm import aliased

from worker import metrics, tracing
from worker.db.models import Agent, ImportJob, JobStep, PhoneNumber
from worker.db.notifications import add_job_notification
from worker.db.prepared import Prepared
from worker.db.records import JobRecord, StepRecord, read_job, read_step, with_values
from worker.domain.errors import InvalidState
from worker.domain.job import (
    CHANGES,
    FINAL,
    FORMER_NAMES,
    TRANSITIONS,
    JobKind,
    JobState,
    StepName,
    StepState,
    stored_names,
)
from worker.domain.values import NumberStatus, format_id

ORDER: Final = tuple(StepName)
_KNOWN_STEPS: Final = (*ORDER, *FORMER_NAMES)

#: The database's clock, also inside a transaction that waited for a lock.
NOW: Final = func.clock_timestamp()

#: A job that waits for a place (:mod:`worker.db.places`): no sweep asks for it until it is let go.
IS_HELD: Final = ImportJob.state.in_((JobState.QUEUED, JobState.UNDOING)) & ImportJob.due_at.is_(
    None
)

#: Names of the steps that a job has begun, one query a job: as a join, the planner might read the
#: whole table of steps for it.
_BEGUN: Final = (
    select(JobStep.step)
    .where(JobStep.job_id == ImportJob.id)
    .correlate(ImportJob)
    .scalar_subquery()
)
#: What an older release leaves alone, as far as a query can tell: see ``JobRecord.is_understood``.
IS_KNOWN: Final[tuple[ColumnElement[bool], ...]] = (
    ImportJob.kind.in_(tuple(JobKind)),
    ImportJob.state.in_(tuple(JobState)),
    or_(ImportJob.step.is_(None), ImportJob.step.in_(_KNOWN_STEPS)),
    func.array(_BEGUN, type_=ARRAY(Text)).contained_by(cast(_KNOWN_STEPS, ARRAY(Text))),
)


def is_unheeded(resend_after_seconds: float) -> ColumnElement[bool]:
    """Whether the message that a sweep sent last has led to nothing.

    Then whoever got it may be of a release that does not know the job's step.
    """
    resent = ImportJob.sent_at >= ImportJob.updated_at + timedelta(seconds=resend_after_seconds)
    return func.coalesce(resent, false())


#: Whether nothing was sent for a job on purpose: its retry is the sweep's to begin.
IS_PLANNED: Final = ImportJob.sent_at.is_(None) & ImportJob.next_attempt_at.is_not(None)


def in_seconds(seconds: float) -> Any:  # noqa: ANN401 -- SQLAlchemy's own type for an expression
    """The database's time, some seconds from now."""
    return NOW + timedelta(seconds=seconds)


class Moves:
    """Moves a locked job from state to state, and says when the sweep must step in."""

    def __init__(self, *, resend_after_seconds: float) -> None:
        self._resend_after = resend_after_seconds

    def move(
        self,
        connection: Connection,
        job: JobRecord,
        to: JobState,
        **values: Any,  # noqa: ANN401 -- columns of the table
    ) -> int:
        """Moves a locked job to another state, with whatever else changes; returns the fence."""
        if to not in TRANSITIONS[job.state]:
            raise InvalidState(f"A job that is {job.state} cannot become {to}.")
        if to in FINAL and job.notify:
            notify_end(connection, job, to, values)
        moved = connection.execute(
            update(ImportJob)
            .where(ImportJob.id == job.id, ImportJob.state == job.state)
            .values(state=to, version=ImportJob.version + 1, updated_at=NOW, **values)
            .returning(ImportJob.fence, ImportJob.updated_at)
        ).one()
        if to in FINAL:
            told = _told(job, to, values)["error"]
            note_end(
                connection,
                with_values(job, state=to),
                code=None if told is None else told["code"],
                at=moved.updated_at,
            )
        fence: int = moved.fence
        return fence

    def start_undo(
        self, connection: Connection, job: JobRecord, error: tuple[StepName, str, str] | None
    ) -> None:
        """Turns a job round: undo begins at the last step that began; there may be none.

        Of a repair or a rebinding nothing is undone: its number goes on answering.
        """
        step, code, message = error or (None, None, None)
        if job.kind in CHANGES:
            ended = {"error_step": step, "error_code": code, "error_message": message}
            self.move(connection, job, JobState.FAILED, **{**CLOSED, **ended})
            _keep_steps(connection, job)
            # Whatever it got done is found, and shown, by a check.
            connection.execute(update_number(job).values(check_due_at=in_seconds(60)))
            return
        last = last_begun(job, before=None)
        self.move(
            connection,
            job,
            JobState.UNDOING,
            step=last,
            lease_until=None,
            next_attempt_at=None,
            due_at=in_seconds(self._resend_after),
            error_step=step,
            error_code=code,
            error_message=message,
        )
        if last is None:
            undoing = with_values(job, state=JobState.UNDOING, error_code=code)
            self.end_undo(connection, undoing)

    def end_undo(self, connection: Connection, job: JobRecord) -> None:
        """Ends an undo: the number is let go, and the job is failed, cancelled or released."""
        if job.kind is JobKind.RELEASE:
            # Kept: a call that still comes must find its way to where the number points now.
            connection.execute(
                update_number(job).values(status=NumberStatus.RELEASED, updated_at=NOW)
            )
            self.move(connection, job, JobState.RELEASED, **CLOSED)
            return
        connection.execute(
            delete(PhoneNumber).where(
                PhoneNumber.import_id == job.id, PhoneNumber.status == "pending"
            )
        )
        cancelled = job.error_code is None
        self.move(connection, job, JobState.CANCELLED if cancelled else JobState.FAILED, **CLOSED)

    def cancel_held(self, connection: Connection, batch_id: UUID) -> int:
        """Cancels the jobs that a batch still holds back, at one stroke; returns how many.

        Nobody has begun them, so nothing is there to undo: QUEUED → UNDOING → CANCELLED.
        """
        cancelled = (
            update(ImportJob)
            .where(ImportJob.batch_id == batch_id, ImportJob.state == JobState.QUEUED, IS_HELD)
            .values(
                state=JobState.CANCELLED,
                cancel_requested_at=NOW,
                version=ImportJob.version + 1,
                updated_at=NOW,
                **CLOSED,
            )
            .returning(ImportJob.__table__)
        )
        jobs = [read_job(row, {}) for row in connection.execute(cancelled)]
        connection.execute(
            delete(PhoneNumber).where(
                PhoneNumber.id.in_([job.phone_number_id for job in jobs]),
                PhoneNumber.status == NumberStatus.PENDING,
            )
        )
        for job in jobs:
            note_end(connection, job, code=None, at=job.updated_at)
            if job.notify:
                notify_end(connection, job, job.state, {})
        return len(jobs)

    def stick(
        self, connection: Connection, job: JobRecord, step: StepName, code: str, message: str
    ) -> None:
        """Leaves a job to an operator: its undo gave up at this step."""
        connection.execute(update_step(job.id, step).values(state=StepState.STUCK))
        self.move(
            connection,
            job,
            JobState.STUCK,
            undo_error_code=code,
            undo_error_message=message,
            undo_error_step=step,
            **{**CLOSED, "step": step},
        )

    def postpone(
        self, connection: Connection, job: JobRecord, seconds: float, *, by_sweep: bool
    ) -> None:
        """Ends an attempt: nobody may begin before some seconds have passed."""
        grace = 0 if by_sweep else self._resend_after
        connection.execute(
            update_job(job).values(
                lease_until=None,
                next_attempt_at=in_seconds(seconds),
                due_at=in_seconds(seconds + grace),
                # Nothing waits in the broker for it, however long its queue is.
                sent_at=None if by_sweep else NOW,
            )
        )


def notify_end(
    connection: Connection, job: JobRecord, state: JobState, values: Mapping[str, Any]
) -> None:
    """Adds the notification of a job's end; ``values`` are columns that change with it."""
    add_job_notification(
        connection,
        organization_id=job.organization_id,
        job_id=job.id,
        type=f"{job.kind}.{state}",
        payload=_told(job, state, values),
    )


def note_end(connection: Connection, job: JobRecord, *, code: str | None, at: datetime) -> None:
    """Counts the end of a job once its transaction is committed, and shows it in its trace."""

    @event.listens_for(connection, "commit")
    def _committed(_: Connection) -> None:
        count_end(job, code=code, at=at)


def count_end(job: JobRecord, *, code: str | None, at: datetime) -> None:
    """Counts the end of a job, and shows it in its trace."""
    metrics.count_end(
        kind=job.kind,
        provider=job.provider,
        state=job.state,
        code=code,
        seconds=(at - job.created_at).total_seconds(),
    )
    tracing.end_job(
        job.id,
        kind=job.kind,
        provider=job.provider,
        state=job.state,
        code=code,
        begun=job.created_at,
        ended=at,
    )


#: The agent that a job's request names as its fallback, for a query that joins it.
FALLBACK_AGENT: Final = aliased(Agent, name="fallback_agent")


def is_fallback_agent(request: Any = ImportJob.request) -> ColumnElement[bool]:  # noqa: ANN401 -- a column
    """Whether an agent is the fallback of a job: its request holds the public id."""
    public = request["fallback_agent_id"].astext
    # Guarded: no text in a request may make the query fail for whoever works on the job.
    is_id = public.regexp_match("^agt_[0-9a-f]{32}$")
    hexadecimal = func.substr(public, len("agt_") + 1)
    return FALLBACK_AGENT.id == case((is_id, cast(hexadecimal, Uuid)), else_=None)


def lock_job(connection: Connection, job_id: UUID) -> tuple[JobRecord, datetime]:
    """Locks a job's row; also returns the database's time."""
    query = (
        select(ImportJob.__table__, NOW.label("now"))
        .where(ImportJob.id == job_id)
        .with_for_update()
    )
    row = connection.execute(query).one()
    return read_job(row, steps_of(connection, job_id)), row.now


#: Read at each poll.
_STEPS: Final = Prepared(
    select(JobStep.__table__).where(JobStep.job_id == bindparam("of_job", type_=Uuid))
)


def steps_of(connection: Connection, job_id: UUID) -> dict[StepName, StepRecord]:
    """Returns a job's steps that have begun."""
    rows = _STEPS.execute(connection, of_job=job_id)
    records = (read_step(row._asdict()) for row in rows)
    return {record.step: record for record in records}


#: What a job that has come to its end no longer has.
CLOSED: Final[Mapping[str, Any]] = {
    "step": None,
    "lease_until": None,
    "next_attempt_at": None,
    "due_at": None,
    "finished_at": NOW,
}


def update_job(job: JobRecord) -> Any:  # noqa: ANN401 -- an Update without its values
    """An update of a job that its followers see."""
    return (
        update(ImportJob)
        .where(ImportJob.id == job.id)
        .values(version=ImportJob.version + 1, updated_at=NOW)
    )


def rename_steps(connection: Connection, job_id: UUID) -> None:
    """Gives a job's steps the names that they have now, before anything is written to them."""
    for former, now in FORMER_NAMES.items():
        connection.execute(
            update(JobStep).where(JobStep.job_id == job_id, JobStep.step == former).values(step=now)
        )


def update_step(job_id: UUID, step: StepName) -> Any:  # noqa: ANN401 -- an Update without its values
    """An update of one step of a job."""
    return update(JobStep).where(JobStep.job_id == job_id, JobStep.step.in_(stored_names(step)))


def _told(job: JobRecord, state: JobState, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a notification says of a job that ends in this state; no secret is in it."""
    kind = "undo_error" if state is JobState.STUCK else "error"
    error = {
        name: values.get(f"{kind}_{name}", getattr(job, f"{kind}_{name}"))
        for name in ("code", "message", "step")
    }
    number = job.phone_number_id
    return {
        "id": format_id("imp", job.id),
        "kind": job.kind,
        "status": state,
        "provider": job.provider,
        "phone_number": job.e164,
        "phone_number_id": None if number is None else format_id("num", number),
        "error": None if error["code"] is None else error,
    }


def update_number(job: JobRecord) -> Any:  # noqa: ANN401 -- an Update without its values
    """An update of the number that a job works on."""
    return update(PhoneNumber).where(PhoneNumber.id == job.phone_number_id)


def copy_steps(connection: Connection, job_id: UUID, *, of: UUID, state: StepState) -> None:
    """Gives a job what the steps of an earlier one left: its ids, outputs and secrets."""
    # A write of a change that failed just now may still land: undo must wait for it.
    kept = (
        *(JobStep.step, JobStep.objects, JobStep.output, JobStep.sealed),
        JobStep.unsettled_until,
    )
    connection.execute(
        insert(JobStep).from_select(
            ["job_id", "state", *(column.key for column in kept)],
            select(literal(job_id, Uuid), literal(state, Text), *kept).where(JobStep.job_id == of),
        )
    )


def reset_steps(connection: Connection, job_id: UUID) -> None:
    """Lets a job begin anew with what its own steps left: ids, outputs and secrets."""
    connection.execute(
        update(JobStep)
        .where(JobStep.job_id == job_id)
        .values(
            state=StepState.WAITING,
            attempts=0,
            undo_attempts=0,
            error_code=None,
            error_message=None,
            finished_at=None,
        )
    )


def _keep_steps(connection: Connection, job: JobRecord) -> None:
    """Gives what a change made before it failed to the job that the next one begins with.

    Else a number that it had moved to an object made anew would look as if somebody else had moved
    it, and its release would leave it there.
    """
    last: UUID = connection.execute(
        select(func.coalesce(PhoneNumber.job_id, PhoneNumber.import_id)).where(
            PhoneNumber.id == job.phone_number_id
        )
    ).scalar_one()
    rename_steps(connection, last)
    rename_steps(connection, job.id)
    kept = ("objects", "output", "unsettled_until")
    begun = select(
        literal(last, Uuid),
        JobStep.step,
        # Of a step that the release which imported the number did not have, this is the first row.
        literal(StepState.DONE, Text),
        *(getattr(JobStep, name) for name in kept),
    ).where(JobStep.job_id == job.id, JobStep.state != StepState.WAITING)
    made = insert(JobStep).from_select(["job_id", "step", "state", *kept], begun)
    connection.execute(
        made.on_conflict_do_update(
            index_elements=["job_id", "step"], set_={name: made.excluded[name] for name in kept}
        )
    )


def is_leased(job: JobRecord, now: datetime) -> bool:
    """Whether somebody may be working on the job."""
    return job.lease_until is not None and job.lease_until > now


def last_begun(job: JobRecord, *, before: StepName | None) -> StepName | None:
    """The last step, in order, that began and is not undone yet."""
    end = len(ORDER) if before is None else ORDER.index(before)
    for step in reversed(ORDER[:end]):
        if step in job.steps and job.steps[step].state is not StepState.UNDONE:
            return step
    return None
