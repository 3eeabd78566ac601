"""Makes the SIP trunks: at LiveKit for both directions, at the provider where calls need one."""

from __future__ import annotations

from worker.domain.job import StepName
from worker.livekit import INBOUND, OUTBOUND, names
from worker.plans import TERMINATION_ADDRESS
from worker.sip_hosts import look_up_sip_address
from worker.steps._core import Context, Done, Step, side_by_side


def run(ctx: Context) -> Done:
    """Makes the inbound half and the outbound half side by side; no call moves yet."""
    halves = [_outbound]
    if ctx.spec.supports_inbound:
        halves.append(_inbound)
    outputs = side_by_side(*(lambda half=half: half(ctx) for half in halves))
    return Done(output=outputs[0])


def _inbound(ctx: Context) -> dict[str, str]:
    trunk = ctx.plan.inbound()
    assert trunk is not None, "only an import with inbound calls has this half"
    ctx.record({INBOUND: ctx.livekit.ensure_inbound_trunk(trunk, ctx.objects.get(INBOUND))})
    return {}


def _outbound(ctx: Context) -> dict[str, str]:
    look_up_sip_address(ctx.spec, ctx.settings)
    output = {}
    if ctx.plan.trunk is not None:
        made = ctx.provider.prepare_trunk(ctx.tag, ctx.plan.trunk, record=ctx.record)
        if made.termination_address is not None:
            output[TERMINATION_ADDRESS] = made.termination_address
    trunk = ctx.plan.outbound(output.get(TERMINATION_ADDRESS))
    if trunk is not None:
        ctx.record({OUTBOUND: ctx.livekit.ensure_outbound_trunk(trunk, ctx.objects.get(OUTBOUND))})
    return output


def undo(ctx: Context) -> None:
    """Deletes the trunks; their numbers have been moved away and their rule is gone by now."""
    found = names(ctx.tag)
    number = ctx.spec.phone_number
    calls = []
    if ctx.spec.supports_inbound:
        calls.append(
            lambda: ctx.livekit.remove_inbound_trunk(
                found.inbound, number, ctx.objects.get(INBOUND)
            )
        )
    if ctx.spec.supports_outbound:
        calls.append(
            lambda: ctx.livekit.remove_outbound_trunk(
                found.outbound, number, ctx.objects.get(OUTBOUND)
            )
        )
    if ctx.plan.trunk is not None:
        calls.append(lambda: ctx.provider.remove_trunk(ctx.tag, ctx.objects))
    side_by_side(*calls)


STEP = Step(name=StepName.PROVISION_TRUNKS, run=run, undo=undo)
