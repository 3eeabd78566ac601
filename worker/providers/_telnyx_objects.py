"""What is made at Telnyx for an import, whatever its kind: found by name, created, set, deleted.

Which objects an import needs is up to ``_telnyx_applications`` and ``_telnyx_trunks``, with what in
them to ``_telnyx_settings``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Final, NamedTuple, TypeAlias

from worker.domain.errors import InsufficientPermission, NotFound, PermanentError
from worker.domain.values import ImportTag, Objects
from worker.providers._core import Record
from worker.providers._telnyx_wire import Sdk, Wire, real

#: Told kind and id of an object as soon as it is known.
Note: TypeAlias = Callable[[str, Sdk], None]


class Kind(NamedTuple):
    """A kind of object that is made for an import."""

    #: Attribute of the SDK's client.
    resource: str
    #: The field that holds our name.
    name: str
    #: Arguments of the list call that narrow it down; some filters match more than the name.
    narrow: Callable[[str], Mapping[str, object]]
    #: What the name has after the import's; two kinds of one resource are told apart by it.
    suffix: str = ""


def _profiles(name: str) -> Mapping[str, object]:
    # The only filter there is: it finds both profiles of an import for the shorter name.
    return {"filter": {"name": {"contains": name}}}


KINDS: Final = MappingProxyType(
    {
        "application_voice_profile": Kind(
            "outbound_voice_profiles", "name", _profiles, suffix="-application"
        ),
        "application": Kind(
            "texml_applications", "friendly_name", lambda it: {"filter": {"friendly_name": it}}
        ),
        "messaging_profile": Kind("messaging_profiles", "name", lambda it: {"filter_name_eq": it}),
        "outbound_voice_profile": Kind("outbound_voice_profiles", "name", _profiles),
        "connection": Kind(
            "fqdn_connections",
            "connection_name",
            lambda it: {"filter": {"connection_name": {"contains": it}}},
        ),
        # Of these the name is the id of the connection that they belong to.
        "fqdn": Kind("fqdns", "connection_id", lambda it: {"filter": {"connection_id": it}}),
    }
)
_VOICE_PROFILES: Final = frozenset({"application_voice_profile", "outbound_voice_profile"})


def name_of(kind: str, tag: ImportTag) -> str:
    """Returns the name that an import's object of the kind carries."""
    return f"{tag.name}{KINDS[kind].suffix}"


class ImportObjects:
    """What is ours in one account during one attempt."""

    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def have(
        self,
        kind: str,
        name: str,
        wanted: Mapping[str, object],
        *,
        refused: type[PermanentError],
        note: Note,
    ) -> str:
        """Adopts the oldest of ours, deletes the others and sets what is wanted; or creates it.

        What is adopted is set, not compared: a password is not read back.
        """
        objects = getattr(self._wire.client, KINDS[kind].resource)
        wanted = {**wanted, KINDS[kind].name: name}
        found = self.ours(kind, name)
        if not found:
            try:
                row = self._wire.write(lambda: real(objects.create(**wanted)), refused=refused)
            except refused:
                # A write of an earlier attempt may have landed just now and taken a unique value.
                found = self.ours(kind, name)
                if not found:
                    raise
            else:
                note(kind, row.id)
                return str(row.id)
        ours, *others = found
        note(kind, ours)
        for other in others:
            if kind not in _VOICE_PROFILES:  # which something may use as yet: see keep_only
                self.delete(kind, other, refused)
        self._wire.write(lambda: real(objects.update(ours, **wanted), ours), refused=refused)
        return ours

    def keep_only(self, kept: str, kind: str, name: str, *, refused: type[PermanentError]) -> None:
        """Deletes the others of ours, for kinds of which ``have`` could not."""
        for spare in self.ours(kind, name):
            if spare != kept:
                self.delete(kind, spare, refused)

    def ours(self, kind: str, name: str) -> list[str]:
        """Returns the ids of what has exactly this name, oldest first."""
        resource, field, narrow, _ = KINDS[kind]
        listed = self._wire.list_all(getattr(self._wire.client, resource).list, **narrow(name))
        rows = [row for row in listed if getattr(row, field) == name]
        # Dates have seconds only; the newest of a second is listed first.
        rows.reverse()
        rows.sort(key=lambda row: str(row.created_at))
        return [str(row.id) for row in rows]

    def read(self, kind: str, found: str) -> Sdk | None:
        """Returns one by its id; None if it is gone."""
        retrieve = getattr(self._wire.client, KINDS[kind].resource).retrieve
        try:
            return self._wire.read(lambda: real(retrieve(found), found), missing=NotFound)
        except NotFound:
            return None

    def ids(self, kind: str, name: str, objects: Objects) -> list[str]:
        """Returns what has the name and, if its owner renamed it, what is on record."""
        recorded = [objects[kind]] if kind in objects else []
        try:
            found = self.ours(kind, name)
        except InsufficientPermission:
            # Who may not look has not created either: an import that failed for this can be undone.
            if recorded:
                raise
            return []
        return list(dict.fromkeys([*found, *recorded]))

    def delete(self, kind: str, found: str, failure: type[PermanentError]) -> None:
        """Deletes one, with the FQDNs of a connection, unless a phone number uses it."""
        what = kind.replace("_", " ")
        users: list[Sdk] = []
        if kind in {"application", "connection"}:
            users = self._wire.list_all(
                self._wire.client.phone_numbers.list, filter={"connection_id": found}
            )
        elif kind == "messaging_profile":
            users = self._wire.list_all(
                self._wire.client.messaging_profiles.list_phone_numbers, found
            )
        if users:
            raise failure(
                f"Another phone number uses the {what} of this import. Move that number off it at "
                "Telnyx, then try again."
            )
        if kind == "connection":
            for fqdn in self.ours("fqdn", found):
                self.delete("fqdn", fqdn, failure)
        refused = partial(
            failure,
            f"Telnyx refused to delete the {what} of this import. Remove at Telnyx whatever still "
            "uses it, then try again.",
        )
        delete = getattr(self._wire.client, KINDS[kind].resource).delete
        with suppress(NotFound):
            self._wire.write(lambda: real(delete(found), found), refused=refused, missing=NotFound)


def noting(objects: dict[str, str], record: Record) -> Note:
    """Returns what adds an object to these and records them all."""

    def note(kind: str, found: Sdk) -> None:
        objects[kind] = str(found)
        record(dict(objects))

    return note
