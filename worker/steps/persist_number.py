"""Turns the claimed number into an active one, with everything its callers ask for."""

from __future__ import annotations

from worker.domain.job import StepName
from worker.steps._core import Context, Done, Step


def run(ctx: Context) -> Done:
    """Marks the number active; the job becomes active with the end of this step."""
    assert ctx.claim.job.phone_number_id is not None, "submit claims a number"
    found = ctx.output(StepName.CHECK_OWNERSHIP)
    made = ctx.objects
    ctx.runtime.directory.activate_number(
        ctx.claim.job.phone_number_id,
        fence=ctx.claim.fence,
        provider_number_id=found["number_id"],
        country=found["country"],
        sms_capable=found["sms"],
        inbound_trunk_id=made.get("livekit_inbound_trunk"),
        outbound_trunk_id=made.get("livekit_outbound_trunk"),
        dispatch_rule_id=made.get("dispatch_rule"),
    )
    return Done()


def undo(ctx: Context) -> None:
    """Turns the number back into a claim; it is removed when the job ends."""
    assert ctx.claim.job.phone_number_id is not None, "submit claims a number"
    ctx.runtime.directory.deactivate_number(ctx.claim.job.phone_number_id)


STEP = Step(name=StepName.PERSIST_NUMBER, run=run, undo=undo)
