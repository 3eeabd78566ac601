"""What Telnyx's settings of a number mean to its owner, in words.

Pure: how a number is read is up to ``telnyx``.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from worker.domain.values import E164, Fields
from worker.providers._telnyx_wire import Sdk

#: Countries that an outbound voice profile allows if nothing is said: see ``_telnyx_settings``.
_CALLED_BY_DEFAULT: Final = frozenset({"US", "CA"})
#: State of the emergency service → what is to be done; "active" and "disabled" need nothing.
_EMERGENCY: Final = MappingProxyType(
    {
        "provisioning": (
            "Telnyx is still registering this number's emergency address: emergency calls may not "
            "work yet."
        ),
        "deprovisioning": (
            "Telnyx is removing this number's emergency address: emergency calls will not work."
        ),
        "provisioning-failed": (
            "Telnyx could not register this number's emergency address, so emergency calls do not "
            "work. Correct the address there."
        ),
    }
)


def bends(voice: Sdk) -> Fields:
    """What bends calls away before any connection, and of which kind it is."""
    forwarding = voice.call_forwarding
    enabled = forwarding is not None and bool(forwarding.call_forwarding_enabled)
    return {
        "forwarding_type": str(forwarding.forwarding_type or "") if enabled else "",
        "forwards_to": str(forwarding.forwards_to or "") if enabled else "",
        "translated_number": str(voice.translated_number or ""),
    }


def warnings(number: E164, voice: Sdk) -> tuple[str, ...]:
    """Tells what bends calls away before they reach any connection, and where none can go."""
    told = []
    forwarding = voice.call_forwarding
    if forwarding is not None and forwarding.call_forwarding_enabled and forwarding.forwards_to:
        if forwarding.forwarding_type == "on-failure":
            told.append(
                "Calls that fail are forwarded to another number at Telnyx, so a caller may reach "
                "that one instead of the agent."
            )
        else:
            told.append(
                "All calls are forwarded to another number at Telnyx, so none reaches the agent "
                "until you switch call forwarding off there."
            )
    if voice.translated_number:
        told.append(
            "Telnyx rewrites the called number to another one, so calls may not be recognised as "
            "this number's until you clear the translated number there."
        )
    if number.region not in _CALLED_BY_DEFAULT:
        # Whether calls go out at all is not known here; where they may go is the voice profile's.
        told.append(
            "If this import makes outbound calls: its outbound voice profile at Telnyx allows "
            "calls to the US and Canada only, the default there, until you add other countries."
        )
    return tuple(told)


def advice(row: Sdk) -> tuple[str, ...]:
    """Tells what a number does besides taking calls.

    https://developers.telnyx.com/api-reference/phone-number-configurations/retrieve-a-phone-number
    """
    told = []
    emergency = _EMERGENCY.get(str(row.emergency_status or ""))
    if emergency:
        told.append(emergency)
    if row.inbound_call_screening == "reject_calls":
        told.append(
            "Telnyx rejects calls to this number that it takes for fraudulent, so some callers may "
            "not reach the agent until you switch inbound call screening off there."
        )
    if row.call_recording_enabled:
        told.append(
            "Telnyx records calls to this number, and will record those that the agent answers "
            "until you switch call recording off there."
        )
    return tuple(told)
