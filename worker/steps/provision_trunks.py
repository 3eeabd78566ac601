"""Makes the SIP trunks: at LiveKit for both directions, at the provider where calls need one."""

from __future__ import annotations

import socket

from worker.domain.errors import ProviderUnavailable, SipTrunkProvisionFailed
from worker.domain.job import StepName
from worker.domain.values import RoutingMode, SipLogin, SipTransport, TrunkPlan
from worker.livekit import INBOUND, OUTBOUND, OutboundTrunk, names
from worker.steps._core import Context, Done, Step, side_by_side
from worker.steps._trunks import inbound_login, inbound_trunk, metadata


def run(ctx: Context) -> Done:
    """Makes the inbound half and the outbound half side by side; no call moves yet."""
    halves = [_outbound]
    if ctx.spec.supports_inbound:
        halves.append(_inbound)
    side_by_side(*(lambda half=half: half(ctx) for half in halves))
    return Done()


def _inbound(ctx: Context) -> None:
    trunk_id = ctx.livekit.ensure_inbound_trunk(inbound_trunk(ctx), ctx.objects.get(INBOUND))
    ctx.record({INBOUND: trunk_id})


def _outbound(ctx: Context) -> None:
    address = ctx.spec.sip_address
    if address is not None and ctx.settings.sip_dns_check:
        _require_resolvable(address)
    login = None
    if ctx.secrets.sip_username is not None and ctx.secrets.sip_password is not None:
        login = SipLogin(username=ctx.secrets.sip_username, password=ctx.secrets.sip_password)
    if ctx.needs_provider_trunk:
        made = ctx.provider.prepare_trunk(ctx.tag, plan(ctx), record=ctx.record)
        if ctx.needs_termination:
            address = made.termination_address
            login = _termination(ctx)
    if not ctx.spec.supports_outbound:
        return
    assert address is not None, "submit makes sure of an address, or prepare_trunk returns one"
    trunk_id = ctx.livekit.ensure_outbound_trunk(
        OutboundTrunk(
            name=names(ctx.tag).outbound,
            number=ctx.spec.phone_number,
            address=address,
            login=login,
            transport=ctx.spec.sip_transport,
            encryption=ctx.spec.media_encryption,
            metadata=metadata(ctx),
        ),
        ctx.objects.get(OUTBOUND),
    )
    ctx.record({OUTBOUND: trunk_id})


def _require_resolvable(address: str) -> None:
    """Refuses a SIP host that has no address in the DNS, when the operator wants that checked."""
    try:
        socket.getaddrinfo(address.partition(":")[0], None)
    except socket.gaierror as error:
        if error.errno == socket.EAI_AGAIN:
            raise ProviderUnavailable(
                "The SIP address could not be looked up; trying again."
            ) from None
        raise SipTrunkProvisionFailed(
            "The SIP address is not in the DNS. Check sip.address."
        ) from None


def plan(ctx: Context) -> TrunkPlan:
    """Returns what the provider-side trunk must do for this import."""
    inbound = ctx.spec.supports_inbound and ctx.spec.routing_mode is RoutingMode.SIP_TRUNK
    return TrunkPlan(
        origination_host=ctx.settings.livekit_sip_host if inbound else None,
        origination_login=inbound_login(ctx) if inbound else None,
        termination=_termination(ctx) if ctx.needs_termination else None,
        secure=ctx.spec.sip_transport is SipTransport.TLS,
    )


def _termination(ctx: Context) -> SipLogin:
    return SipLogin(
        username=ctx.secrets.termination_username, password=ctx.secrets.termination_password
    )


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
    if ctx.needs_provider_trunk:
        calls.append(lambda: ctx.provider.remove_trunk(ctx.tag, ctx.objects))
    side_by_side(*calls)


STEP = Step(name=StepName.PROVISION_TRUNKS, run=run, undo=undo)
