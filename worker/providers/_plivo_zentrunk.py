"""Zentrunk, Plivo's SIP trunking: the origination URI, the login and the trunks of an import.

https://www.plivo.com/docs/sip-trunking/api/overview

How a number gets onto a trunk is left to plivo.py, how objects are found, adopted and deleted to
_plivo_objects.py, and what is set on them to _plivo_settings.py.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from worker.domain.errors import (
    InsufficientPermission,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    UndoFailed,
)
from worker.domain.values import ImportTag, Objects, ProviderTrunk, TrunkPlan
from worker.providers._core import Record
from worker.providers._plivo_objects import KINDS, OwnObjects, noting, with_recorded
from worker.providers._plivo_settings import trunking
from worker.providers._plivo_wire import Calls, filled

_NO_TRUNKS: Final = (
    "SIP trunking (Zentrunk) is not enabled for this Plivo account. Ask Plivo to enable it, or "
    "import the number without a SIP trunk of Plivo's."
)
_TRUNKING: Final = tuple(key for key in KINDS if key != "application")


class Zentrunk:
    """The trunks of one Plivo account."""

    def __init__(self, calls: Calls, own: OwnObjects) -> None:
        self._calls = calls
        self._own = own

    def require(self) -> None:
        """Looks whether the account may use trunks."""
        path = KINDS["inbound_trunk"].path
        try:
            self._calls.read(partial(self._calls.page, path, {"limit": 1}, str))
        except InsufficientPermission:
            raise InsufficientPermission(_NO_TRUNKS) from None

    def prepare(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes the URI before the trunk that refers to it, the login before the one it opens."""
        try:
            found = self._own.find(_TRUNKING, tag)
        except InsufficientPermission:
            raise SipTrunkProvisionFailed(_NO_TRUNKS) from None
        self._own.delete_surplus(found, SipTrunkProvisionFailed)
        objects, note = noting(record)

        passwords = {
            key: {"password": login.password}
            for key, login in (
                ("origination_uri", plan.origination_login),
                ("credential", plan.termination),
            )
            if login is not None
        }
        for key, settings in trunking(plan).items():
            references = {name: objects[of] for name, of in KINDS[key].refers.items()}
            wanted = {**settings, **passwords.get(key, {}), **references}
            self._own.have(key, tag, found, wanted, note, refused=SipTrunkProvisionFailed)
        address = None
        if "outbound_trunk" in objects:
            path = (*KINDS["outbound_trunk"].path, objects["outbound_trunk"])
            address = self._calls.read(
                lambda: filled(self._calls.client.request("GET", path), "trunk_domain"),
                missing=ProviderUnavailable,
            )
        return ProviderTrunk(objects=objects, termination_address=address)

    def remove(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the trunks, then the URI and the login that they refer to."""
        try:
            found = self._own.find(_TRUNKING, tag)
        except InsufficientPermission:
            # Who may not look has not created either: an import that failed for this can be undone.
            if objects.keys().isdisjoint(_TRUNKING):
                return
            raise
        self._own.delete(with_recorded(found, objects), UndoFailed)
