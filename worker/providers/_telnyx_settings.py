"""With which settings each thing is made for an import at Telnyx, and how they are read again.

A setting has the API's name, with dots where the API nests it, and is text: this is what is
planned, what is sent and what is compared. What is sent besides (names, passwords and ids) is up to
``_telnyx_applications`` and ``_telnyx_trunks``.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from worker.domain.values import CallbackUrls, Fields, Objects, TrunkPlan
from worker.providers._telnyx_objects import KINDS
from worker.providers._telnyx_wire import Sdk

#: Says of an id that it is the one that this import made.
OURS: Final = "ours"
_ANOTHER: Final = "another"
_NONE: Final = "none"
_OUTBOUND_PROFILE: Final = "outbound.outbound_voice_profile_id"
#: Kind and setting that holds an id → what of this import it should be the id of.
_REFERENCES: Final = MappingProxyType(
    {
        ("application", _OUTBOUND_PROFILE): "application_voice_profile",
        ("connection", _OUTBOUND_PROFILE): "outbound_voice_profile",
        ("fqdn", "connection_id"): "connection",
    }
)
_NUMBERS: Final = frozenset({"port"})
_LISTS: Final = frozenset({"whitelisted_destinations"})

#: What is read of each kind; what is planned is among it.
SHOWN: Final = MappingProxyType(
    {
        # Where calls may go is its owner's business, of both profiles.
        "application_voice_profile": ("enabled",),
        "application": (
            "active",
            "voice_url",
            "voice_method",
            "status_callback",
            "status_callback_method",
            _OUTBOUND_PROFILE,
        ),
        "messaging_profile": (
            "enabled",
            "whitelisted_destinations",
            "webhook_url",
            "webhook_api_version",
        ),
        "outbound_voice_profile": ("enabled",),
        "connection": (
            "active",
            "anchorsite_override",
            "transport_protocol",
            "inbound.ani_number_format",
            "inbound.dnis_number_format",
            _OUTBOUND_PROFILE,
            "outbound.ip_authentication_method",
            "user_name",
        ),
        "fqdn": ("connection_id", "fqdn", "dns_record_type", "port"),
    }
)
assert SHOWN.keys() == KINDS.keys(), "a kind of object whose settings are not read"
#: Which countries may be called is left to the account's default (US and Canada) and its owner: a
#: wider profile is how toll fraud gets expensive.
_PROFILE: Final[Fields] = MappingProxyType({"enabled": "true"})


def application(urls: CallbackUrls, *, verifiable: bool) -> Mapping[str, Fields]:
    """Returns the TeXML application with its outbound voice profile, in the order of making.

    Call status goes only where signatures can be checked.

    A call is answered with <Dial>, which starts an outbound leg; without a profile those fail with
    D38, "no outbound voice profile assigned to connection":
    https://developers.telnyx.com/docs/voice/sip-trunking/troubleshooting/response-codes
    Voice API applications must have one to call or to forward calls:
    https://developers.telnyx.com/docs/voice/programmable-voice/get-started
    Whether <Sip> to a foreign host needs it too, and whether the countries that the profile allows
    matter there, is not documented.
    """
    voice = {
        "active": "true",
        "voice_url": urls.voice,
        "voice_method": "post",
        _OUTBOUND_PROFILE: OURS,
    }
    status = {"status_callback": urls.status, "status_callback_method": "post"}
    return {
        "application_voice_profile": _PROFILE,
        "application": {**voice, **(status if verifiable else {})},
    }


def messaging_profile(urls: CallbackUrls) -> Fields:
    """Returns the messaging profile."""
    return {
        "enabled": "true",
        # An answer must reach whoever wrote, wherever that is.
        "whitelisted_destinations": "*",
        "webhook_url": urls.sms,
        "webhook_api_version": "2",
    }


def trunk(plan: TrunkPlan) -> Mapping[str, Fields]:
    """Returns what a SIP trunk consists of, in the order of making.

    https://docs.livekit.io/telephony/start/providers/telnyx/
    """
    made: dict[str, Fields] = {}
    connection = {
        "active": "true",
        "anchorsite_override": "Latency",
        "transport_protocol": "TLS" if plan.secure else "TCP",
        # The defaults leave out the caller's country code and the plus of the called number.
        # The two spellings are the API's.
        "inbound.ani_number_format": "+E.164",
        "inbound.dnis_number_format": "+e164",
    }
    if plan.termination is not None:
        made["outbound_voice_profile"] = _PROFILE
        connection |= {
            _OUTBOUND_PROFILE: OURS,
            "outbound.ip_authentication_method": "credential-authentication",
            "user_name": plan.termination.username,
        }
    made["connection"] = connection
    if plan.origination_host is not None:
        host, _, port = plan.origination_host.partition(":")
        made["fqdn"] = {
            "connection_id": OURS,
            "fqdn": host,
            # Not "srv", which takes no port.
            "dns_record_type": "a",
            "port": port or ("5061" if plan.secure else "5060"),
        }
    return made


def sent(kind: str, planned: Mapping[str, Fields], objects: Objects) -> dict[str, object]:
    """Returns a kind's settings as the API takes them, with the ids of this import's objects."""
    body: dict[str, object] = {}
    for name, text in planned[kind].items():
        *path, last = name.split(".")
        group = body
        for step in path:
            inner = group.setdefault(step, {})
            assert isinstance(inner, dict)
            group = inner
        group[last] = _value(kind, name, text, objects)
    return body


def shown(kind: str, row: Sdk, objects: Objects) -> Fields:
    """Returns the settings that the API shows of an object."""
    return {name: _read(kind, name, row, objects) for name in SHOWN[kind]}


def _value(kind: str, name: str, text: str, objects: Objects) -> object:
    if (kind, name) in _REFERENCES:
        return objects[_REFERENCES[kind, name]]
    if name in _NUMBERS:
        return int(text)
    if name in _LISTS:
        return text.split(",")
    return {"true": True, "false": False}.get(text, text)


def _read(kind: str, name: str, row: Sdk, objects: Objects) -> str:
    value = row
    for step in name.split("."):
        value = getattr(value, step, None)
    if (kind, name) in _REFERENCES:
        if not value:
            return _NONE
        return OURS if str(value) == objects.get(_REFERENCES[kind, name]) else _ANOTHER
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ",".join(map(str, value))
    return "" if value is None else str(value)
