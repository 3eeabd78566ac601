"""Turns the claimed number into an active one; or gives an active one what a change made of it."""

from __future__ import annotations

import random

from worker.db.records import NumberFacts
from worker.domain.job import JobKind, StepName
from worker.steps._core import Context, Done, Step


def run(ctx: Context) -> Done:
    """Says what the number is now; the job becomes active with the end of this step."""
    spec = ctx.spec
    found = ctx.output(StepName.CHECK_OWNERSHIP)
    made = ctx.objects
    number = NumberFacts(
        check_in=check_delay(ctx.settings.check_seconds),
        agent_id=ctx.claim.job.agent_id,
        friendly_name=spec.friendly_name,
        details={"price": spec.price, "metadata": spec.metadata, "carrier": spec.carrier},
        provider_number_id=found["number_id"],
        country=found["country"],
        sms_capable=found["sms"],
        inbound_trunk_id=made.get("livekit_inbound_trunk"),
        outbound_trunk_id=made.get("livekit_outbound_trunk"),
        dispatch_rule_id=made.get("dispatch_rule"),
    )
    return Done(number=number)


def check_delay(seconds: float) -> float | None:
    """Returns when a number is checked next: at some time of the second half of the interval.

    Numbers that were imported together are not checked together. None if none is wanted.
    """
    return seconds * (0.5 + random.random() / 2) if seconds else None  # noqa: S311 -- spread


def undo(ctx: Context) -> None:
    """Turns the number back into a claim, removed when the job ends; a release keeps it."""
    if ctx.claim.job.kind is JobKind.IMPORT:
        ctx.runtime.numbers.deactivate(ctx.claim.job.id, fence=ctx.claim.fence)


STEP = Step(name=StepName.PERSIST_NUMBER, run=run, undo=undo)
