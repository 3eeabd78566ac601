"""Moves a job from step to step in single statements: the way of one that nothing hinders.

It reads an import that nobody has begun and claims its first step, ends a step and claims the next,
ends the last step and the job with it. What hinders a job (a cancellation, a lost lease, a rate
limit, attempts used up, a lost write that may still land) makes the statement change nothing;
:mod:`claims` then does the same in its own transactions and says why.

The parts of a statement have names of one letter: what is longer than 4,096 characters psycopg
translates anew for each execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Integer,
    Interval,
    LargeBinary,
    Row,
    Text,
    Uuid,
    bindparam,
    case,
    cast,
    func,
    literal,
    literal_column,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from worker.db.models import Agent, Credential, ImportJob, JobStep, PhoneNumber, ProviderLimit
from worker.db.moves import CLOSED, FALLBACK_AGENT, NOW, is_fallback_agent
from worker.db.places import AWAITED
from worker.db.prepared import Prepared
from worker.db.records import (
    JOB_FIELDS,
    REQUEST_FIELDS,
    Claim,
    JobRecord,
    NumberFacts,
    StepRecord,
    read_job,
    read_step,
    with_values,
)
from worker.domain.job import PLANS, JobKind, JobState, StepName, StepState
from worker.domain.values import NumberStatus

_STEP_COLUMNS: Final = tuple(JobStep.__table__.c)
#: The only steps that an import can have as its first.
_BEGINNING: Final = PLANS[JobKind.IMPORT][0]

_OF_JOB: Final = bindparam("of_job", type_=Uuid)
_FOLLOWING: Final = bindparam("to_step", type_=Text)
#: No parameter has the name of a column: an UPDATE would take it for a value of that.
_LEASE: Final = NOW + bindparam("new_lease")
#: Whoever goes on with a job holds its claim.
_IS_HELD_BY_US: Final = (
    ImportJob.fence == bindparam("held_fence", type_=Integer),
    ImportJob.lease_until.is_not(None),
)


def _claimed(*conditions: ColumnElement[bool], **values: object) -> Any:  # noqa: ANN401 -- an Update
    """The job, if it may be claimed as far as every step asks, and under these conditions."""
    is_limited = (
        select(ProviderLimit.until)
        .where(
            ProviderLimit.provider == ImportJob.provider,
            ProviderLimit.account_ref == ImportJob.account_ref,
            ProviderLimit.until > NOW,
        )
        .exists()
    )
    return (
        update(ImportJob)
        .where(
            ImportJob.id == _OF_JOB,
            ImportJob.cancel_requested_at.is_(None),
            *conditions,
            ~is_limited,
        )
        .values(
            step=_FOLLOWING,
            fence=ImportJob.fence + 1,
            lease_until=_LEASE,
            version=ImportJob.version + 1,
            updated_at=NOW,
            **values,
        )
    )


def _told(job: CTE, *steps: CTE) -> Any:  # noqa: ANN401 -- a Select whose columns are told apart by their labels
    """What a claim is made of."""
    query = (
        select(
            *job.c,
            Credential.sealed.label("credential_sealed"),
            Agent.dispatch_name,
            FALLBACK_AGENT.dispatch_name.label("fallback_name"),
            *(label for step in steps for label in _labelled(step)),
        )
        .select_from(job)
        .join(Credential, Credential.id == job.c.credential_id)
        .outerjoin(Agent, Agent.id == job.c.agent_id)
        .outerjoin(FALLBACK_AGENT, is_fallback_agent(job.c.request))
    )
    for step in steps:
        query = query.join(step, step.c.job_id == job.c.id)
    return query


def _begun(job: CTE) -> CTE:
    found: CTE = begin_step_of(select(job.c.id, _FOLLOWING)).returning(*_STEP_COLUMNS).cte("b")
    return found


def _done(job: CTE) -> Any:  # noqa: ANN401 -- an Update
    return (
        update(JobStep)
        .where(JobStep.job_id == job.c.id, JobStep.step == bindparam("from_step", type_=Text))
        .values(
            state=StepState.DONE,
            output=bindparam("new_output", type_=JSONB),
            sealed=bindparam("new_sealed", type_=LargeBinary),
            unsettled_until=None,
            error_code=None,
            error_message=None,
            finished_at=NOW,
        )
    )


def _first_statement() -> Any:  # noqa: ANN401 -- as _told
    # Those of an import that somebody began, or retries, are for the long way.
    has_steps = select(JobStep.attempts).where(JobStep.job_id == _OF_JOB).exists()
    known = cast(literal(sorted(REQUEST_FIELDS), ARRAY(Text)), ARRAY(Text))
    claimed = _claimed(
        ImportJob.kind == JobKind.IMPORT,
        ImportJob.state == JobState.QUEUED,
        ImportJob.step == _BEGINNING,
        ImportJob.lease_until.is_(None),
        ImportJob.next_attempt_at.is_(None),
        ~has_steps,
        # What is asked for of a newer release, only that one can do: JobRecord.is_understood.
        ImportJob.request.op("-")(known) == literal({}, JSONB),
        state=JobState.RUNNING,
        due_at=_LEASE,
        started_at=func.coalesce(ImportJob.started_at, NOW),
    )
    columns = ImportJob.__table__.c
    job = claimed.returning(columns.fence, *(columns[name] for name in JOB_FIELDS)).cte("j")
    return _told(job, _begun(job))


def _next_statement() -> Any:  # noqa: ANN401 -- as _told
    # Of an earlier run of the step, or of the job before.
    may_not_begin = (
        select(JobStep.attempts)
        .where(
            JobStep.job_id == _OF_JOB,
            JobStep.step == _FOLLOWING,
            or_(
                JobStep.attempts >= bindparam("allowed", type_=Integer),
                JobStep.unsettled_until > NOW,
            ),
        )
        .exists()
    )
    # When the sweep looks is left as it is: no index needs to be written, and it asks for the
    # lease as well.
    claimed = _claimed(*_IS_HELD_BY_US, ~may_not_begin)
    job = claimed.returning(
        *(ImportJob.id, ImportJob.fence, ImportJob.version),
        *(ImportJob.lease_until, ImportJob.due_at, ImportJob.started_at, ImportJob.updated_at),
        *(ImportJob.credential_id, ImportJob.agent_id, ImportJob.request),
    ).cte("j")
    return _told(job, _done(job).returning(*_STEP_COLUMNS).cte("d"), _begun(job))


def begin_step_of(jobs_and_steps: Any) -> Any:  # noqa: ANN401 -- a Select of two columns; an Insert
    """An insert of steps that begin, which counts an attempt where the step had begun before."""
    state, attempt = literal(StepState.RUNNING, Text), literal(1, Integer)
    chosen = jobs_and_steps.add_columns(state, attempt, NOW)
    return (
        insert(JobStep)
        .from_select(["job_id", "step", "state", "attempts", "started_at"], chosen)
        .on_conflict_do_update(
            index_elements=["job_id", "step"],
            set_={
                "state": StepState.RUNNING,
                "attempts": JobStep.attempts + 1,
                # A step that came from an earlier job begins now.
                "started_at": case((JobStep.attempts == 0, NOW), else_=JobStep.started_at),
                "finished_at": None,
            },
        )
    )


#: What becomes of the number of a job that ends well.
_NUMBER_VALUES: Final = {
    "status": NumberStatus.ACTIVE,
    "job_id": _OF_JOB,
    "updated_at": NOW,
    "diagnosis": None,
    "check_due_at": NOW + bindparam("check_in", type_=Interval),
    **{
        name: bindparam(f"new_{name}", type_=PhoneNumber.__table__.c[name].type)
        for name in NumberFacts.__dataclass_fields__
        if name != "check_in"
    },
}


def _last_statement() -> Any:  # noqa: ANN401 -- a Select
    number_is_there = (
        select(PhoneNumber.id).where(PhoneNumber.id == ImportJob.phone_number_id).exists()
    )
    job = (
        update(ImportJob)
        .where(
            ImportJob.id == _OF_JOB,
            ImportJob.state == JobState.RUNNING,
            ImportJob.cancel_requested_at.is_(None),
            *_IS_HELD_BY_US,
            number_is_there,
        )
        .values(state=JobState.ACTIVE, version=ImportJob.version + 1, updated_at=NOW, **CLOSED)
        .returning(
            *(ImportJob.id, ImportJob.organization_id, ImportJob.phone_number_id),
            ImportJob.updated_at,
        )
        .cte("j")
    )
    number = (
        update(PhoneNumber).where(PhoneNumber.id == job.c.phone_number_id).values(_NUMBER_VALUES)
    )
    is_awaited: ColumnElement[bool] = literal_column(
        AWAITED.format(organization="j.organization_id")
    )
    return select(job.c.updated_at, is_awaited.label("is_awaited")).add_cte(
        _done(job).returning(JobStep.job_id).cte("d"), number.returning(PhoneNumber.id).cte("n")
    )


def _labelled(step: CTE) -> list[Any]:
    return [column.label(f"{step.name}_{column.name}") for column in step.c]


FIRST: Final = Prepared(_first_statement())
NEXT: Final = Prepared(_next_statement())
LAST: Final = Prepared(_last_statement())
_ACTIVATE: Final = Prepared(
    update(PhoneNumber)
    .where(PhoneNumber.id == bindparam("of_number", type_=Uuid))
    .values(_NUMBER_VALUES)
)


def begin(connection: Connection, job_id: UUID, *, lease: timedelta) -> Claim | None:
    """Reads an import that nobody has begun and claims its first step; None if anything hinders."""
    row = FIRST.execute(connection, of_job=job_id, to_step=_BEGINNING, new_lease=lease).first()
    return None if row is None else _claim(read_job(row, {}), _BEGINNING, row)


def go_on(
    connection: Connection,
    claim: Claim,
    *,
    output: Mapping[str, Any],
    sealed: bytes | None,
    to: StepName,
    attempts: int,
    lease: timedelta,
) -> Claim | None:
    """Ends a claimed step and claims the next; None, and nothing changed, if something hinders it.

    ``attempts`` is how many the next step's policy allows.
    """
    row = NEXT.execute(
        connection,
        **_of_claim(claim, output=output, sealed=sealed),
        to_step=to,
        allowed=attempts,
        new_lease=lease,
    ).first()
    if row is None:
        return None
    # The job is as it was before its first claim of this delivery.
    return _claim(claim.job, to, row, {claim.step: _step(row, "d")})


def end(
    connection: Connection,
    claim: Claim,
    *,
    output: Mapping[str, Any],
    sealed: bytes | None,
    number: NumberFacts,
) -> tuple[datetime, bool] | None:
    """Ends the last step, and the job: it and its number are active.

    Returns when that was, and whether another job of the organisation waits for the place; None,
    and nothing changed, if something hinders it.
    """
    values = {**_of_claim(claim, output=output, sealed=sealed), **_number_values(number)}
    row = LAST.execute(connection, **values).first()
    return None if row is None else (row.updated_at, row.is_awaited)


def activate(connection: Connection, job: JobRecord, number: NumberFacts) -> bool:
    """Makes the number of a locked job active; False if there is none."""
    values = {"of_job": job.id, "of_number": job.phone_number_id, **_number_values(number)}
    return _ACTIVATE.execute(connection, **values).rowcount == 1


def _of_claim(claim: Claim, *, output: Mapping[str, Any], sealed: bytes | None) -> dict[str, Any]:
    return {
        "of_job": claim.job.id,
        "held_fence": claim.fence,
        "from_step": claim.step,
        "new_output": dict(output),
        "new_sealed": sealed,
    }


def _number_values(number: NumberFacts) -> dict[str, Any]:
    facts = dict(vars(number))
    check_in = facts.pop("check_in")
    return {
        "check_in": None if check_in is None else timedelta(seconds=check_in),
        **{f"new_{name}": value for name, value in facts.items()},
    }


def _claim(
    job: JobRecord, step: StepName, row: Row[Any], done: Mapping[StepName, StepRecord] | None = None
) -> Claim:
    begun = _step(row, "b")
    claimed = with_values(
        job,
        state=JobState.RUNNING,
        step=step,
        next_attempt_at=None,
        started_at=row.started_at,
        version=row.version,
        lease_until=row.lease_until,
        due_at=row.due_at,
        updated_at=row.updated_at,
        steps={**job.steps, **(done or {}), step: begun},
    )
    return Claim(
        job=claimed,
        step=step,
        undo=False,
        attempt=begun.attempts,
        fence=row.fence,
        credential_sealed=row.credential_sealed,
        agent_dispatch_name=row.dispatch_name,
        fallback_dispatch_name=row.fallback_name,
    )


def _step(row: Row[Any], name: str) -> StepRecord:
    return read_step({c.name: getattr(row, f"{name}_{c.name}") for c in _STEP_COLUMNS})
