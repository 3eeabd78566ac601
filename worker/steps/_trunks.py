"""What the LiveKit trunks of an import are made of, for every step that makes one."""

from __future__ import annotations

import json

from worker.domain.errors import SipTrunkProvisionFailed
from worker.domain.values import SipLogin
from worker.livekit import InboundTrunk, names
from worker.steps._core import Context


def inbound_trunk(ctx: Context) -> InboundTrunk:
    """Returns the trunk that takes calls for the number.

    Who may call it is never the number alone: who can answer a challenge has to, from the others
    the carrier's own addresses are admitted.

    Raises:
        SipTrunkProvisionFailed: nobody could call it.
    """
    login = inbound_login(ctx)
    addresses = ctx.spec.allowed_addresses
    if login is None and not addresses:
        addresses = ctx.provider.signalling_addresses()
    if login is None and not addresses:
        raise SipTrunkProvisionFailed(
            "Nobody could call the inbound trunk: give sip.allowed_addresses, or let the operator "
            f"set TRUNKLINE_{ctx.spec.provider.upper()}_SIGNALLING_ADDRESSES."
        )
    return InboundTrunk(
        name=names(ctx.tag).inbound,
        number=ctx.spec.phone_number,
        login=login,
        allowed_addresses=addresses,
        encryption=ctx.spec.media_encryption,
        metadata=metadata(ctx),
    )


def inbound_login(ctx: Context) -> SipLogin | None:
    """Returns what a call must answer LiveKit's challenge with, if it can."""
    if ctx.spec.routing_mode not in ctx.provider.authenticating_modes:
        return None
    username, password = ctx.secrets.inbound_username, ctx.secrets.inbound_password
    if username is None or password is None:
        return None
    return SipLogin(username=username, password=password)


def metadata(ctx: Context) -> str:
    """Returns whose trunk it is, and what the caller calls it; by its own name we find it."""
    about = {"import_id": ctx.attempt.import_id, "trunk_name": ctx.spec.sip_trunk_name}
    return json.dumps({"trunkline": {name: text for name, text in about.items() if text}})
