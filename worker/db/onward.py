"""Ends a step and begins the next one in a single statement: the way of a job that nothing hinders.

What hinders one (a cancellation, a lost lease, a rate limit, attempts used up, a lost write that
may still land) makes the statement change nothing; :mod:`claims` then does the same in its own
transactions and says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import (
    CTE,
    Connection,
    Integer,
    LargeBinary,
    Row,
    Text,
    Uuid,
    bindparam,
    case,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import JSONB, insert

from worker.db.models import Agent, Credential, ImportJob, JobStep, ProviderLimit
from worker.db.moves import FALLBACK_AGENT, NOW, is_fallback_agent
from worker.db.records import Claim, StepRecord, read_step, with_values
from worker.domain.job import JobState, StepName, StepState

_STEP_COLUMNS: Final = tuple(JobStep.__table__.c)


def _statement() -> Any:  # noqa: ANN401 -- a Select whose columns are told apart by their labels
    # No parameter has the name of a column: an UPDATE would take it for a value of that.
    job_id = bindparam("of_job", type_=Uuid)
    step, following = bindparam("from_step", type_=Text), bindparam("to_step", type_=Text)
    lease = NOW + bindparam("new_lease")
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
            JobStep.job_id == job_id,
            JobStep.step == following,
            or_(
                JobStep.attempts >= bindparam("allowed", type_=Integer),
                JobStep.unsettled_until > NOW,
            ),
        )
        .exists()
    )
    job = (
        update(ImportJob)
        .where(
            ImportJob.id == job_id,
            ImportJob.fence == bindparam("held_fence", type_=Integer),
            ImportJob.lease_until.is_not(None),
            ImportJob.cancel_requested_at.is_(None),
            ~is_limited,
            ~may_not_begin,
        )
        .values(
            step=following,
            fence=ImportJob.fence + 1,
            lease_until=lease,
            due_at=lease,
            version=ImportJob.version + 1,
            updated_at=NOW,
        )
        .returning(
            *(ImportJob.id, ImportJob.fence, ImportJob.version),
            *(ImportJob.lease_until, ImportJob.due_at, ImportJob.started_at),
            ImportJob.updated_at,
        )
        .cte("job")
    )
    done = (
        update(JobStep)
        .where(JobStep.job_id == job.c.id, JobStep.step == step)
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
        .cte("done")
    )
    begun = begin_step_of(select(job.c.id, following)).returning(*_STEP_COLUMNS).cte("begun")
    return (
        select(
            *(job.c.fence, job.c.version),
            *(job.c.lease_until, job.c.due_at, job.c.started_at, job.c.updated_at),
            Credential.sealed.label("credential_sealed"),
            Agent.dispatch_name,
            FALLBACK_AGENT.dispatch_name.label("fallback_name"),
            *_labelled(done),
            *_labelled(begun),
        )
        .select_from(job)
        .join(ImportJob, ImportJob.id == job.c.id)
        .join(done, done.c.job_id == job.c.id)
        .join(begun, begun.c.job_id == job.c.id)
        .join(Credential, Credential.id == ImportJob.credential_id)
        .outerjoin(Agent, Agent.id == ImportJob.agent_id)
        .outerjoin(FALLBACK_AGENT, is_fallback_agent())
    )


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


_STATEMENT: Final = _statement()


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
    row = connection.execute(
        _STATEMENT,
        {
            "of_job": claim.job.id,
            "held_fence": claim.fence,
            "from_step": claim.step,
            "to_step": to,
            "allowed": attempts,
            "new_lease": lease,
            "new_output": dict(output),
            "new_sealed": sealed,
        },
    ).first()
    if row is None:
        return None
    done, begun = _step(row, "done"), _step(row, "begun")
    job = with_values(
        claim.job,  # as it was before its first claim of this delivery
        state=JobState.RUNNING,
        step=to,
        next_attempt_at=None,
        started_at=row.started_at,
        version=row.version,
        lease_until=row.lease_until,
        due_at=row.due_at,
        updated_at=row.updated_at,
        steps={**claim.job.steps, claim.step: done, to: begun},
    )
    return Claim(
        job=job,
        step=to,
        undo=False,
        attempt=begun.attempts,
        fence=row.fence,
        credential_sealed=row.credential_sealed,
        agent_dispatch_name=row.dispatch_name,
        fallback_dispatch_name=row.fallback_name,
    )


def _step(row: Row[Any], name: str) -> StepRecord:
    return read_step({c.name: getattr(row, f"{name}_{c.name}") for c in _STEP_COLUMNS})
