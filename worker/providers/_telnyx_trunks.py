"""Telnyx's side of a SIP trunk: outbound voice profile, FQDN connection and its FQDN.

Moving a number onto the connection is left to ``telnyx``, and how each of these is found, adopted
and deleted to ``_telnyx_objects``.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from worker.domain.errors import SipTrunkProvisionFailed, UndoFailed
from worker.domain.values import ImportTag, Objects, ProviderTrunk, TrunkPlan
from worker.providers._core import Record
from worker.providers._telnyx_objects import ImportObjects, noting

#: Where outbound calls enter: https://sip.telnyx.com
TERMINATION_ADDRESS: Final = "sip.telnyx.com"


def prepare_trunk(
    made: ImportObjects, tag: ImportTag, plan: TrunkPlan, *, record: Record
) -> ProviderTrunk:
    """Makes voice profile, connection with its login, and the FQDN that calls are sent to.

    https://docs.livekit.io/telephony/start/providers/telnyx/
    """
    objects: dict[str, str] = {}
    note = noting(objects, record)
    have = partial(made.have, refused=SipTrunkProvisionFailed, note=note)
    wanted: dict[str, object] = {
        "active": True,
        "anchorsite_override": "Latency",
        "transport_protocol": "TLS" if plan.secure else "TCP",
        # The defaults leave out the caller's country code and the plus of the called number.
        # The two spellings are the API's.
        "inbound": {"ani_number_format": "+E.164", "dnis_number_format": "+e164"},
    }
    if plan.termination is not None:
        # Which countries may be called is left to the account's default (US and Canada) and
        # its owner: a wider profile is how toll fraud gets expensive.
        profile = have("outbound_voice_profile", tag.name, {})
        wanted["outbound"] = {
            "outbound_voice_profile_id": profile,
            "ip_authentication_method": "credential-authentication",
        }
        login = plan.termination
        wanted["extra_body"] = {"user_name": login.username, "password": login.password}
    connection = have("connection", tag.name, wanted)
    if plan.origination_host is not None:
        host, _, port = plan.origination_host.partition(":")
        number = int(port) if port else 5061 if plan.secure else 5060
        # Not "srv", which takes no port.
        have("fqdn", connection, {"fqdn": host, "dns_record_type": "a", "port": number})
    if plan.termination is None:
        return ProviderTrunk(objects=objects, termination_address=None)
    # Only now: until it was set anew, the connection may have used one of these.
    for spare in made.ours("outbound_voice_profile", tag.name):
        if spare != profile:
            made.delete("outbound_voice_profile", spare, SipTrunkProvisionFailed)
    return ProviderTrunk(objects=objects, termination_address=TERMINATION_ADDRESS)


def remove_trunk(made: ImportObjects, tag: ImportTag, objects: Objects) -> None:
    """Deletes FQDN, connection and voice profile, each after what uses it."""
    for kind in ("connection", "outbound_voice_profile"):
        for found in made.ids(kind, tag.name, objects):
            made.delete(kind, found, UndoFailed)
