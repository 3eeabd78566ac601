"""Makes the LiveKit rule that turns a call into a room with the agent, and the fallback route."""

from __future__ import annotations

from worker.domain.job import StepName
from worker.livekit import FALLBACK_INBOUND, FALLBACK_RULE, INBOUND, RULE, names
from worker.steps._core import Context, Done, Step, side_by_side


def run(ctx: Context) -> Done:
    """Makes or corrects the rule and the fallback route; without inbound calls there is neither.

    The rule decides who answers, so it comes after what may be refused beside it, and before what
    is only taken away: a change that fails leaves calls where they went.
    """
    if not ctx.spec.supports_inbound:
        return Done()
    # Only our voice webhook can dial the fallback route.
    route = ctx.plan.fallback() if ctx.plan.is_called_back else None
    if route is not None:
        ctx.livekit.ensure_fallback(route, ctx.objects, record=ctx.record)
    rule = ctx.plan.rule(ctx.objects[INBOUND])
    assert rule is not None, "an import with inbound calls has a rule"
    known = ctx.objects.get(RULE)
    ctx.record({RULE: ctx.livekit.ensure_dispatch_rule(rule, known)})
    # It ran before, and perhaps with a fallback agent; the first time there is nothing to find.
    before = ctx.attempt.number > 1 or known or {FALLBACK_INBOUND, FALLBACK_RULE} & {*ctx.objects}
    if ctx.plan.is_called_back and route is None and before:
        ctx.livekit.remove_fallback(ctx.spec.phone_number, ctx.objects)
    return Done()


def undo(ctx: Context) -> None:
    """Deletes the rule, before the trunk that it serves, and the whole fallback route."""
    if not ctx.spec.supports_inbound:
        return
    number = ctx.spec.phone_number
    calls = [
        lambda: ctx.livekit.remove_dispatch_rule(names(ctx.tag).rule, number, ctx.objects.get(RULE))
    ]
    if ctx.plan.is_called_back:
        calls.append(lambda: ctx.livekit.remove_fallback(number, ctx.objects))
    side_by_side(*calls)


STEP = Step(name=StepName.CREATE_DISPATCH_RULE, run=run, undo=undo)
