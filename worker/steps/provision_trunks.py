"""Makes the SIP trunks: at LiveKit for both directions, at the provider where calls need one."""

from __future__ import annotations

import json
import socket

from worker.domain.errors import ProviderUnavailable, SipTrunkProvisionFailed
from worker.domain.job import StepName
from worker.domain.values import RoutingMode, SipLogin, SipTransport, TrunkPlan
from worker.livekit import InboundTrunk, OutboundTrunk, names
from worker.steps._core import Context, Done, Step, side_by_side

#: Keys of the outside ids that this step records.
INBOUND = "livekit_inbound_trunk"
OUTBOUND = "livekit_outbound_trunk"


def run(ctx: Context) -> Done:
    """Makes the inbound half and the outbound half side by side; no call moves yet."""
    halves = [_outbound]
    if ctx.spec.supports_inbound:
        halves.append(_inbound)
    side_by_side(*(lambda half=half: half(ctx) for half in halves))
    return Done()


def _inbound(ctx: Context) -> None:
    # Who may call the trunk is never the number alone: who can answer a challenge has to, from the
    # others the carrier's own addresses are admitted.
    login = _inbound_login(ctx)
    addresses = ctx.spec.allowed_addresses
    if login is None and not addresses:
        addresses = ctx.provider.signalling_addresses()
    if login is None and not addresses:
        raise SipTrunkProvisionFailed(
            "Nobody could call the inbound trunk: give sip.allowed_addresses, or let the operator "
            f"set TRUNKLINE_{ctx.spec.provider.upper()}_SIGNALLING_ADDRESSES."
        )
    trunk_id = ctx.livekit.ensure_inbound_trunk(
        InboundTrunk(
            name=names(ctx.tag).inbound,
            number=ctx.spec.phone_number,
            login=login,
            allowed_addresses=addresses,
            encryption=ctx.spec.media_encryption,
            metadata=_metadata(ctx),
        )
    )
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
            metadata=_metadata(ctx),
        )
    )
    ctx.record({OUTBOUND: trunk_id})


def _metadata(ctx: Context) -> str:
    """Whose trunk it is, and what the caller calls it; the trunk's own name is how we find it."""
    about = {"import_id": ctx.attempt.import_id, "trunk_name": ctx.spec.sip_trunk_name}
    return json.dumps({"trunkline": {name: text for name, text in about.items() if text}})


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
        origination_login=_inbound_login(ctx) if inbound else None,
        termination=_termination(ctx) if ctx.needs_termination else None,
        secure=ctx.spec.sip_transport is SipTransport.TLS,
    )


def _inbound_login(ctx: Context) -> SipLogin | None:
    """What a call must answer LiveKit's challenge with, if it can."""
    if ctx.spec.routing_mode not in ctx.provider.authenticating_modes:
        return None
    username, password = ctx.secrets.inbound_username, ctx.secrets.inbound_password
    if username is None or password is None:
        return None
    return SipLogin(username=username, password=password)


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
