"""Makes the LiveKit dispatch rule that turns an inbound call into a room with the agent in it."""

from __future__ import annotations

import json

from worker.domain.job import StepName
from worker.domain.values import format_id
from worker.livekit import DispatchRule, names
from worker.steps._core import Context, Done, Step

#: Keys of outside ids: ours, and the trunk's that provision_trunks recorded.
RULE = "dispatch_rule"
INBOUND = "livekit_inbound_trunk"


def run(ctx: Context) -> Done:
    """Makes the rule for the inbound trunk; an import without inbound calls needs none."""
    if not ctx.spec.supports_inbound:
        return Done()
    assert ctx.claim.job.phone_number_id is not None, "submit claims a number"
    about = {
        "import_id": ctx.attempt.import_id,
        "phone_number_id": format_id("num", ctx.claim.job.phone_number_id),
        "agent_id": ctx.spec.agent_id,
        "fallback_agent_id": ctx.spec.fallback_agent_id,
        "voicemail_message": ctx.spec.voicemail_message,
    }
    known = {name: value for name, value in about.items() if value is not None}
    rule_id = ctx.livekit.ensure_dispatch_rule(
        DispatchRule(
            name=names(ctx.tag).rule,
            trunk_id=ctx.objects[INBOUND],
            number=ctx.spec.phone_number,
            room_prefix=ctx.spec.room_prefix,
            pin=ctx.secrets.pin,
            agent_name=ctx.claim.agent_dispatch_name,
            agent_metadata=json.dumps(known, sort_keys=True),
            attributes={f"trunkline.{name}": value for name, value in known.items()},
        )
    )
    ctx.record({RULE: rule_id})
    return Done()


def undo(ctx: Context) -> None:
    """Deletes the rule, before the trunk that it serves."""
    if ctx.spec.supports_inbound:
        ctx.livekit.remove_dispatch_rule(
            names(ctx.tag).rule, ctx.spec.phone_number, ctx.objects.get(RULE)
        )


STEP = Step(name=StepName.CREATE_DISPATCH_RULE, run=run, undo=undo)
