"""What becomes of a call: the agent, then the fallback agent, then the voicemail. Pure."""

from __future__ import annotations

from worker.domain.calls import Answer, Dial, Forward, HangUp, Voicemail
from worker.domain.values import NumberStatus, SipTransport
from worker.livekit import fallback_user
from worker.plans import Plan

#: Query parameter of the "dialed" URL: whom the call was sent to.
TRIED = "tried"
AGENT = "agent"
FALLBACK = "fallback"


def first_answer(plan: Plan, status: NumberStatus, previous: Forward | None) -> Answer:
    """Returns what a call gets that has just come in.

    ``previous`` is who answered before the import: until the number is active, and once it is on
    its way out, calls are theirs.
    """
    if status is not NumberStatus.ACTIVE:
        ours = f"{plan.settings.public_base_url}/callbacks/"
        if previous is not None and not previous.url.startswith(ours):
            return previous
        if status is not NumberStatus.PENDING:
            return HangUp()
        # Nobody answered before, and all that a call needs was made before it could come here.
    if not plan.spec.supports_inbound:
        return HangUp()
    return _dial(plan, plan.spec.phone_number, AGENT)


def next_answer(plan: Plan, *, tried: str, answered: bool) -> Answer:
    """Returns what comes after a dialled call: nothing if it was answered."""
    if answered:
        return HangUp()
    if tried == AGENT and plan.has_fallback:
        return _dial(plan, fallback_user(plan.spec.phone_number), FALLBACK)
    if plan.spec.voicemail_message:
        return Voicemail(message=plan.spec.voicemail_message, recording=plan.urls.recording)
    return HangUp()


def _dial(plan: Plan, user: str, whom: str) -> Dial:
    tls = plan.spec.sip_transport is SipTransport.TLS
    return Dial(
        address=f"{user}@{plan.settings.livekit_sip_host}",
        transport="tls" if tls else "tcp",
        login=plan.inbound_login,
        ring_seconds=plan.settings.ring_seconds,
        then=f"{plan.urls.dialed}?{TRIED}={whom}",
    )
