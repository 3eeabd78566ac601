"""Claims a step in a single statement: the way of a job that nothing hinders.

The first one, as it was read just before; each other one while the step before it ends. What
hinders a job (a cancellation, a lost lease, a rate limit, attempts used up, a lost write that may
still land) makes the statement change nothing; :mod:`claims` then does the same in its own
transactions and says why.

The parts of a statement have names of one letter: what is longer than 4,096 characters psycopg
translates anew for each execution.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    CTE,
    ColumnElement,
    Connection,
    Integer,
    LargeBinary,
    Row,
    Text,
    Uuid,
    bindparam,
    case,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from worker.db.models import Agent, Credential, ImportJob, JobStep, ProviderLimit
from worker.db.moves import FALLBACK_AGENT, NOW, is_fallback_agent
from worker.db.records import Claim, JobRecord, StepRecord, read_step, with_values
from worker.domain.job import PLANS, JobState, StepName, StepState

_STEP_COLUMNS: Final = tuple(JobStep.__table__.c)


_OF_JOB: Final = bindparam("of_job", type_=Uuid)
_FOLLOWING: Final = bindparam("to_step", type_=Text)
#: No parameter has the name of a column: an UPDATE would take it for a value of that.
_LEASE: Final = NOW + bindparam("new_lease")


def _claimed(*conditions: ColumnElement[bool], **values: object) -> CTE:
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
    return (
        update(ImportJob)
        .where(
            ImportJob.id == _OF_JOB,
            ImportJob.cancel_requested_at.is_(None),
            *conditions,
            ~is_limited,
            ~may_not_begin,
        )
        .values(
            step=_FOLLOWING,
            fence=ImportJob.fence + 1,
            lease_until=_LEASE,
            due_at=_LEASE,
            version=ImportJob.version + 1,
            updated_at=NOW,
            **values,
        )
        .returning(
            *(ImportJob.id, ImportJob.fence, ImportJob.version),
            *(ImportJob.lease_until, ImportJob.due_at, ImportJob.started_at),
            ImportJob.updated_at,
        )
        .cte("j")
    )


def _told(job: CTE, *steps: CTE) -> Any:  # noqa: ANN401 -- a Select whose columns are told apart by their labels
    """What a claim is made of."""
    query = (
        select(
            *(job.c.fence, job.c.version),
            *(job.c.lease_until, job.c.due_at, job.c.started_at, job.c.updated_at),
            Credential.sealed.label("credential_sealed"),
            Agent.dispatch_name,
            FALLBACK_AGENT.dispatch_name.label("fallback_name"),
            *(label for step in steps for label in _labelled(step)),
        )
        .select_from(job)
        .join(ImportJob, ImportJob.id == job.c.id)
    )
    for step in steps:
        query = query.join(step, step.c.job_id == job.c.id)
    return (
        query.join(Credential, Credential.id == ImportJob.credential_id)
        .outerjoin(Agent, Agent.id == ImportJob.agent_id)
        .outerjoin(FALLBACK_AGENT, is_fallback_agent())
    )


def _begun(job: CTE) -> CTE:
    found: CTE = begin_step_of(select(job.c.id, _FOLLOWING)).returning(*_STEP_COLUMNS).cte("b")
    return found


def _first_statement() -> Any:  # noqa: ANN401 -- as _told
    job = _claimed(
        ImportJob.version == bindparam("seen_version", type_=Integer),
        ImportJob.state == JobState.QUEUED,
        ImportJob.lease_until.is_(None),
        ImportJob.next_attempt_at.is_(None),
        state=JobState.RUNNING,
        started_at=func.coalesce(ImportJob.started_at, NOW),
    )
    return _told(job, _begun(job))


def _next_statement() -> Any:  # noqa: ANN401 -- as _told
    job = _claimed(
        ImportJob.fence == bindparam("held_fence", type_=Integer),
        ImportJob.lease_until.is_not(None),
    )
    done = (
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
        .returning(*_STEP_COLUMNS)
        .cte("d")
    )
    return _told(job, done, _begun(job))


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


def _labelled(step: CTE) -> list[Any]:
    return [column.label(f"{step.name}_{column.name}") for column in step.c]


_FIRST: Final = _first_statement()
_NEXT: Final = _next_statement()


def begin(
    connection: Connection,
    job: JobRecord,
    *,
    attempts: int,
    lease: Any,  # noqa: ANN401 -- a timedelta
) -> Claim | None:
    """Claims the first step of a queued job that is still as it was read; None if anything hinders.

    ``attempts`` is how many the step's policy allows.
    """
    if job.state is not JobState.QUEUED or job.steps or job.step is not PLANS[job.kind][0]:
        return None
    values = {
        "of_job": job.id,
        "seen_version": job.version,
        "to_step": job.step,
        "allowed": attempts,
        "new_lease": lease,
    }
    row = connection.execute(_FIRST, values).first()
    return None if row is None else _claim(job, job.step, row)


def go_on(
    connection: Connection,
    claim: Claim,
    *,
    output: Mapping[str, Any],
    sealed: bytes | None,
    to: StepName,
    attempts: int,
    lease: Any,  # noqa: ANN401 -- a timedelta
) -> Claim | None:
    """Ends a claimed step and claims the next; None, and nothing changed, if something hinders it.

    ``attempts`` is how many the next step's policy allows.
    """
    values = {
        "of_job": claim.job.id,
        "held_fence": claim.fence,
        "from_step": claim.step,
        "to_step": to,
        "allowed": attempts,
        "new_lease": lease,
        "new_output": dict(output),
        "new_sealed": sealed,
    }
    row = connection.execute(_NEXT, values).first()
    if row is None:
        return None
    # The job is as it was before its first claim of this delivery.
    return _claim(claim.job, to, row, {claim.step: _step(row, "d")})


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
