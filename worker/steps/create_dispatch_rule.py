"""Makes the LiveKit rule that turns a call into a room with the agent, and the fallback route."""

from __future__ import annotations

import json

from worker.domain.job import StepName
from worker.domain.values import RoutingMode, format_id
from worker.livekit import (
    FALLBACK_INBOUND,
    FALLBACK_RULE,
    INBOUND,
    RULE,
    DispatchRule,
    fallback_route,
    names,
)
from worker.steps._core import Context, Done, Step, side_by_side
from worker.steps._trunks import inbound_trunk


def run(ctx: Context) -> Done:
    """Makes or corrects the rule and the fallback route; without inbound calls there is neither."""
    if ctx.spec.supports_inbound:
        rule = _rule(ctx)
        side_by_side(lambda: _main(ctx, rule), lambda: _fallback(ctx, rule))
    return Done()


def _main(ctx: Context, rule: DispatchRule) -> None:
    ctx.record({RULE: ctx.livekit.ensure_dispatch_rule(rule, ctx.objects.get(RULE))})


def _fallback(ctx: Context, rule: DispatchRule) -> None:
    if ctx.spec.routing_mode is not RoutingMode.WEBHOOK:
        return  # only our voice webhook can dial it
    number, agent_name = ctx.spec.phone_number, ctx.claim.fallback_dispatch_name
    if agent_name is not None:
        route = fallback_route(inbound_trunk(ctx), rule, number, agent_name)
        ctx.livekit.ensure_fallback(route, ctx.objects, record=ctx.record)
    elif ctx.attempt.number > 1 or {RULE, FALLBACK_INBOUND, FALLBACK_RULE} & ctx.objects.keys():
        # It ran before, and perhaps with a fallback agent; the first time there is nothing to find.
        ctx.livekit.remove_fallback(number, ctx.objects)


def _rule(ctx: Context) -> DispatchRule:
    assert ctx.claim.job.phone_number_id is not None, "submit claims a number"
    about = {
        "import_id": ctx.attempt.import_id,
        "phone_number_id": format_id("num", ctx.claim.job.phone_number_id),
        "agent_id": ctx.spec.agent_id,
        "fallback_agent_id": ctx.spec.fallback_agent_id,
        "voicemail_message": ctx.spec.voicemail_message,
    }
    known = {name: value for name, value in about.items() if value is not None}
    return DispatchRule(
        name=names(ctx.tag).rule,
        trunk_id=ctx.objects[INBOUND],
        number=ctx.spec.phone_number,
        room_prefix=ctx.spec.room_prefix,
        pin=ctx.secrets.pin,
        agent_name=ctx.claim.agent_dispatch_name,
        agent_metadata=json.dumps(known, sort_keys=True),
        attributes={f"trunkline.{name}": value for name, value in known.items()},
    )


def undo(ctx: Context) -> None:
    """Deletes the rule, before the trunk that it serves, and the whole fallback route."""
    if not ctx.spec.supports_inbound:
        return
    number = ctx.spec.phone_number
    calls = [
        lambda: ctx.livekit.remove_dispatch_rule(names(ctx.tag).rule, number, ctx.objects.get(RULE))
    ]
    if ctx.spec.routing_mode is RoutingMode.WEBHOOK:
        calls.append(lambda: ctx.livekit.remove_fallback(number, ctx.objects))
    side_by_side(*calls)


STEP = Step(name=StepName.CREATE_DISPATCH_RULE, run=run, undo=undo)
