"""Twilio's Elastic SIP trunk of an import: made with its parts, found again, and removed.

A trunk, its origination URL, the list with the login for termination: all carry the name of the
import, and what carries it is ours. Which credentials reach trunks at all, and pointing a number at
one, is left to the adapter; sending, and what a failure means, to the wire.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from worker.domain.errors import (
    InsufficientPermission,
    NotFound,
    PermanentError,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    UndoFailed,
)
from worker.domain.values import (
    Fields,
    ImportTag,
    Objects,
    ProviderTrunk,
    SipLogin,
    TrunkPlan,
)
from worker.providers._core import Record
from worker.providers._twilio_wire import Calls, Sdk, real, text
from worker.settings import Settings

_Note: TypeAlias = Callable[[str, Sdk], None]
_Delete: TypeAlias = Callable[[Sdk, type[PermanentError]], None]

_LARGEST_PAGE: Final = 1000
_DOMAIN: Final = re.compile(r"tl-[0-9a-f]{20}\.pstn\.twilio\.com")
#: Of what a trunk has: by whom it is. Ours alone, also or only somebody else's, nobody's.
OURS: Final = "ours"
ANOTHER: Final = "another"
NONE: Final = "none"


class Trunks:
    """The SIP trunks of the account that logs in, during one attempt."""

    def __init__(self, client: Sdk, calls: Calls, settings: Settings) -> None:
        self._client = client
        self._calls = calls
        self._settings = settings

    def look(self) -> None:
        """Lists a trunk, to find out whether the login may."""
        self._calls.read(lambda: self._trunks.list(limit=1))

    def prepare(self, tag: ImportTag, plan: TrunkPlan, *, record: Record) -> ProviderTrunk:
        """Makes trunk, origination URL and login; what lets calls in, the login's mapping, last."""
        objects: dict[str, str] = {}

        def note(kind: str, row: Sdk) -> None:
            objects[kind] = str(row.sid)
            record(dict(objects))

        have_trunk = partial(
            self._have,
            "trunk",
            self._trunks,
            tag,
            note,
            self._delete_trunk,
            **_trunk_settings(plan),
        )
        try:
            trunk = have_trunk(domain_name=trunk_domain(tag.import_id))
        except SipTrunkProvisionFailed:
            # The domain may be taken: by somebody, or by an earlier run of this import that was
            # undone, for Twilio keeps the domain of a deleted trunk back for up to 30 days.
            trunk = have_trunk(domain_name=trunk_domain(secrets.token_hex(16)))
        if plan.origination_host is not None:
            self._have(
                "origination",
                self._trunks(trunk.sid).origination_urls,
                tag,
                note,
                **_origination_settings(plan),
            )
        if plan.termination is not None:
            self._have_login(trunk, tag, plan.termination, note)
        address = str(trunk.domain_name) if plan.termination is not None else None
        return ProviderTrunk(objects=objects, termination_address=address)

    def remove(self, tag: ImportTag, objects: Objects) -> None:
        """Deletes the trunk with its parts, then the credential list that was mapped to it."""
        for row in self._ours_if_any(self._trunks, tag, objects.get("trunk")):
            self._delete_trunk(row, UndoFailed)
        lists = self._client.sip.credential_lists
        for row in self._ours_if_any(lists, tag, objects.get("credential_list")):
            self._delete(row, UndoFailed)

    def read(self, objects: Objects) -> Mapping[str, Fields | None]:
        """Reads what is on record, in the fields of :func:`planned`; None for what is gone."""
        return {kind: self._read(kind, objects) for kind in _KINDS if kind in objects}

    def _read(self, kind: str, objects: Objects) -> Fields | None:
        sid = objects[kind]
        match kind:
            case "trunk":
                context = self._trunks(sid)
            case "origination":
                context = self._trunks(objects["trunk"]).origination_urls(sid)
            case "credential_list":
                context = self._client.sip.credential_lists(sid)
            case _:
                parent = self._client.sip.credential_lists(objects["credential_list"])
                context = parent.credentials(sid)
        try:
            row = self._calls.read(lambda: real(context.fetch(), sid), missing=NotFound)
            fields = {name: text(getattr(row, name)) for name in _KINDS[kind]}
            return fields if kind != "trunk" else fields | self._links(context, row, objects)
        except NotFound:
            return None

    def _links(self, context: Sdk, row: Sdk, objects: Objects) -> dict[str, str]:
        """Tells whose the domain of a trunk is, and whose the parts that calls go by."""
        domain = text(row.domain_name)
        links = {"domain_name": OURS if _DOMAIN.fullmatch(domain) else ANOTHER if domain else NONE}
        if "origination" in objects:
            urls = context.origination_urls
            winners = self._calls.read(lambda: _first(urls.list()), missing=NotFound)
            links["origination"] = _whose(winners, objects["origination"], alone=True)
        if "credential_list" in objects:
            mapped = self._calls.read(context.credentials_lists.list, missing=NotFound)
            sids = {item.sid for item in mapped}
            links["credential_list"] = _whose(sids, objects["credential_list"], alone=False)
        return links

    def _have_login(self, trunk: Sdk, tag: ImportTag, login: SipLogin, note: _Note) -> None:
        lists = self._client.sip.credential_lists
        ours = self._have("credential_list", lists, tag, note)
        credentials = lists(ours.sid).credentials
        rows = self._calls.read(credentials.list, missing=ProviderUnavailable)
        row = next((row for row in rows if row.username == login.username), None)
        if row is None:
            row = self._calls.write(
                lambda: real(credentials.create(login.username, login.password))
            )
        else:
            # Twilio keeps a hash only: nothing else makes sure that it is of this password.
            self._calls.write(lambda: row.update(password=login.password))
        note("credential", row)
        mappings = self._trunks(trunk.sid).credentials_lists
        mapped = self._calls.read(mappings.list, missing=ProviderUnavailable)
        if ours.sid not in {row.sid for row in mapped}:
            self._calls.write(lambda: mappings.create(ours.sid))

    def _have(
        self,
        kind: str,
        resource: Sdk,
        tag: ImportTag,
        note: _Note,
        delete: _Delete | None = None,
        **wanted: object,
    ) -> Sdk:
        """Adopts the oldest of ours, deletes the others, sets what is wanted; or creates it."""
        found = self._ours(resource, tag)
        if not found:
            try:
                create = partial(resource.create, friendly_name=tag.name, **wanted)
                found = [self._calls.write(lambda: real(create()))]
            except SipTrunkProvisionFailed:
                # A write of an earlier attempt may have landed just now and taken the name.
                found = self._ours(resource, tag)
                if not found:
                    raise
        row, *others = found
        note(kind, row)
        for other in others:
            (delete or self._delete)(other, SipTrunkProvisionFailed)
        if getattr(row, "domain_name", None):
            wanted.pop("domain_name", None)  # renaming would give the old one away
        if any(getattr(row, name) != value for name, value in wanted.items()):
            return self._calls.write(lambda: real(row.update(**wanted)))
        return row

    def _ours(self, resource: Sdk, tag: ImportTag, sid: str | None = None) -> list[Sdk]:
        """Returns what has the name of the tag, its domain or the id, oldest first."""
        marks = {tag.name, trunk_domain(tag.import_id), sid or tag.name}

        def is_ours(row: Sdk) -> bool:
            domain = getattr(row, "domain_name", None)
            return not marks.isdisjoint((row.sid, row.friendly_name, domain))

        # Neither trunks nor credential lists can be filtered by name.
        list_all = partial(resource.list, page_size=_LARGEST_PAGE)
        rows = filter(is_ours, self._calls.read(list_all, missing=ProviderUnavailable))
        return sorted(rows, key=lambda row: (str(row.date_created), row.sid))

    def _ours_if_any(self, resource: Sdk, tag: ImportTag, sid: str | None) -> list[Sdk]:
        """Returns nothing where a key may not even look and nothing is on record.

        Who may not look has not created either: an import that failed for this can be undone.
        """
        try:
            return self._ours(resource, tag, sid)
        except InsufficientPermission:
            if sid is not None:
                raise
            return []

    def _delete_trunk(self, row: Sdk, failure: type[PermanentError]) -> None:
        trunk = self._trunks(row.sid)
        with suppress(NotFound):
            if self._calls.read(lambda: trunk.phone_numbers.list(limit=1), missing=NotFound):
                raise failure(
                    "Another phone number uses the SIP trunk of this import. Move that number off "
                    "the trunk at Twilio, then try again."
                )
            for parts in (trunk.credentials_lists, trunk.origination_urls):
                for part in self._calls.read(parts.list, missing=NotFound):
                    self._delete(part, failure)
        self._delete(row, failure)

    def _delete(self, row: Sdk, failure: type[PermanentError]) -> None:
        refused = partial(
            failure,
            "Twilio refused to delete the SIP trunk of this import or its credential list. Remove "
            "at Twilio whatever still uses them, then try again.",
        )
        with suppress(NotFound):
            self._calls.write(row.delete, refused=refused, missing=NotFound)

    @property
    def _trunks(self) -> Sdk:
        trunking = self._client.trunking
        trunking.base_url = self._settings.twilio_trunking_base_url or trunking.base_url
        return trunking.v1.trunks


def _trunk_settings(plan: TrunkPlan) -> dict[str, Any]:
    return {"secure": plan.secure}


def _origination_settings(plan: TrunkPlan) -> dict[str, Any]:
    transport = "tls" if plan.secure else "tcp"
    return {
        # "sips:" is not supported: https://www.twilio.com/docs/sip-trunking#origination
        "sip_url": f"sip:{plan.origination_host};transport={transport}",
        "enabled": True,
        "weight": 1,
        "priority": 1,
    }


#: What a trunk consists of, in the order of making → the fields that tell how it is set.
_KINDS: Final = MappingProxyType[str, tuple[str, ...]](
    {
        "trunk": ("secure",),
        "origination": ("sip_url", "enabled", "weight", "priority"),
        "credential_list": (),
        "credential": ("username",),
    }
)


def planned(plan: TrunkPlan) -> Mapping[str, Fields]:
    """Returns what a trunk consists of, and how each part is set. Pure."""
    trunk = {**_shown(_trunk_settings(plan)), "domain_name": OURS}
    objects: dict[str, Fields] = {"trunk": trunk}
    if plan.origination_host is not None:
        trunk["origination"] = OURS
        objects["origination"] = _shown(_origination_settings(plan))
    if plan.termination is not None:
        trunk["credential_list"] = OURS
        objects["credential_list"] = {}
        objects["credential"] = {"username": plan.termination.username}
    return objects


def _shown(settings: Mapping[str, object]) -> dict[str, str]:
    return {name: text(value) for name, value in settings.items()}


def _first(urls: Iterable[Sdk]) -> set[str]:
    """Returns the origination URLs that calls go to: those of the lowest priority share them."""
    enabled = [url for url in urls if url.enabled]
    first = min((int(url.priority) for url in enabled), default=0)
    return {str(url.sid) for url in enabled if url.priority == first}


def _whose(sids: set[str], ours: str, *, alone: bool) -> str:
    if ours in sids and (len(sids) == 1 or not alone):
        return OURS
    return ANOTHER if sids else NONE


def trunk_domain(seed: str) -> str:
    """Returns the domain of a trunk; domains are unique among all of Twilio's customers. Pure."""
    return f"tl-{sha256(seed.encode()).hexdigest()[:20]}.pstn.twilio.com"
