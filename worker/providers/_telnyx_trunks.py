"""Telnyx's side of a SIP trunk: outbound voice profile, FQDN connection and its FQDN.

Moving a number onto the connection is left to ``telnyx``, with which settings each of these is made
to ``_telnyx_settings``, and how it is found, adopted and deleted to ``_telnyx_objects``.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from worker.domain.errors import SipTrunkProvisionFailed, UndoFailed
from worker.domain.values import ImportTag, Objects, ProviderTrunk, TrunkPlan
from worker.providers import _telnyx_settings as settings
from worker.providers._core import Record
from worker.providers._telnyx_objects import ImportObjects, noting

#: Where outbound calls enter: https://sip.telnyx.com
TERMINATION_ADDRESS: Final = "sip.telnyx.com"


def prepare_trunk(
    made: ImportObjects, tag: ImportTag, plan: TrunkPlan, *, record: Record
) -> ProviderTrunk:
    """Makes voice profile, connection with its login, and the FQDN that calls are sent to."""
    objects: dict[str, str] = {}
    note = noting(objects, record)
    have = partial(made.have, refused=SipTrunkProvisionFailed, note=note)
    planned = settings.trunk(plan)
    profile = None
    if "outbound_voice_profile" in planned:
        wanted = settings.sent("outbound_voice_profile", planned, objects)
        profile = have("outbound_voice_profile", tag.name, wanted)
    wanted = settings.sent("connection", planned, objects)
    if plan.termination is not None:
        # The SDK has no parameters for the login, which goes in both or not at all.
        login = {"user_name": wanted.pop("user_name"), "password": plan.termination.password}
        wanted["extra_body"] = login
    connection = have("connection", tag.name, wanted)
    if "fqdn" in planned:
        have("fqdn", connection, settings.sent("fqdn", planned, objects))
    if profile is None:
        return ProviderTrunk(objects=objects, termination_address=None)
    # Only now: until it was set anew, the connection may have used one of these.
    made.keep_only(profile, "outbound_voice_profile", tag.name, refused=SipTrunkProvisionFailed)
    return ProviderTrunk(objects=objects, termination_address=TERMINATION_ADDRESS)


def remove_trunk(made: ImportObjects, tag: ImportTag, objects: Objects) -> None:
    """Deletes FQDN, connection and voice profile, each after what uses it."""
    for kind in ("connection", "outbound_voice_profile"):
        for found in made.ids(kind, tag.name, objects):
            made.delete(kind, found, UndoFailed)
