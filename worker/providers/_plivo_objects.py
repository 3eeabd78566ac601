"""What is made at Plivo for an import: found again by its name, adopted or created, deleted.

The kinds of objects, and the care that all of them need. What goes into an application is left to
plivo.py, what into a trunk to _plivo_zentrunk.py, and the sending to _plivo_wire.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType
from typing import Final, TypeAlias

from worker.domain.errors import NotFound, PermanentError
from worker.domain.values import ImportTag, Objects
from worker.providers._core import Record
from worker.providers._plivo_wire import Calls, Failure, Sdk, filled, real

#: Kind of object → the ids of those that carry an import's name, the oldest first.
Found: TypeAlias = Mapping[str, list[str]]

_IN_USE: Final = (
    "Another phone number uses the application or SIP trunk of this import at Plivo. Move that "
    "number to another one, then try again."
)
_KEPT: Final = (
    "Plivo refused to delete the application or SIP trunk of this import. Remove at Plivo whatever "
    "still uses it, then try again."
)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of object that is made for an import."""

    path: tuple[str, ...]
    id: str
    name: str = "name"
    #: What tells our objects of one path apart.
    suffix: str = ""
    #: What is set once and for all.
    fixed: Mapping[str, object] = field(default_factory=dict)
    #: Of its settings those that tell whether it still does what the import made it for.
    shows: tuple[str, ...]
    #: Setting → kind of the object whose id it holds.
    refers: Mapping[str, str] = field(default_factory=dict)


#: The kinds, in the order in which they may be deleted: trunks before what they refer to.
KINDS: Final = MappingProxyType(
    {
        "application": Kind(
            path=("Application",),
            id="app_id",
            name="app_name",
            shows=(
                *("answer_url", "answer_method", "hangup_url", "hangup_method"),
                *("message_url", "message_method", "enabled"),
            ),
        ),
        "inbound_trunk": Kind(
            path=("Zentrunk", "Trunk"),
            id="trunk_id",
            suffix="-inbound",
            fixed={"trunk_direction": "inbound"},
            shows=("trunk_status", "secure"),
            refers={"primary_uri_uuid": "origination_uri"},
        ),
        "outbound_trunk": Kind(
            path=("Zentrunk", "Trunk"),
            id="trunk_id",
            suffix="-outbound",
            fixed={"trunk_direction": "outbound"},
            shows=("trunk_status", "secure"),
            refers={"credential_uuid": "credential"},
        ),
        "origination_uri": Kind(
            path=("Zentrunk", "URI"),
            id="uri_uuid",
            shows=("uri", "authentication_needed", "username"),
        ),
        "credential": Kind(
            path=("Zentrunk", "Credential"), id="credential_uuid", shows=("username",)
        ),
    }
)


class OwnObjects:
    """The objects of our imports in one account."""

    def __init__(self, calls: Calls, app_ids_in_use: Callable[[], set[str]]) -> None:
        self._calls = calls
        self._app_ids_in_use = app_ids_in_use

    def find(self, keys: Iterable[str], tag: ImportTag, **filters: str) -> Found:
        """Compares names exactly: Plivo filters only applications, and does not say how."""
        kinds = {key: KINDS[key] for key in keys}
        rows = {
            path: self._calls.list_all(path, partial(_name_and_id, kind), **filters)
            for path, kind in {kind.path: kind for kind in kinds.values()}.items()
        }
        return {
            key: [id_ for name, id_ in rows[kind.path] if name == tag.name + kind.suffix]
            for key, kind in kinds.items()
        }

    def have(
        self,
        key: str,
        tag: ImportTag,
        found: Found,
        wanted: Mapping[str, object],
        note: Callable[[str, str], None],
        *,
        refused: Failure,
    ) -> str:
        """Adopts ours and sets everything again, or creates it; returns its id.

        Nothing is compared first: an update without a change harms nobody, and passwords are never
        shown.
        """
        kind, send = KINDS[key], self._calls.client.request
        if found[key]:
            id_ = found[key][0]
            note(key, id_)
            self._calls.write(
                lambda: send("POST", (*kind.path, id_), dict(wanted)), refused=refused
            )
            return id_
        body = {kind.name: tag.name + kind.suffix, **kind.fixed, **wanted}
        id_ = self._calls.write(
            lambda: filled(send("POST", kind.path, body), kind.id), refused=refused
        )
        note(key, id_)
        return id_

    def fetch(self, key: str, id_: str) -> Sdk | None:
        """Returns the SDK's object of that id; None if it is gone."""
        kind = KINDS[key]
        path = (*kind.path, id_)
        try:
            return self._calls.read(
                lambda: real(self._calls.client.request("GET", path), kind.id, id_),
                missing=NotFound,
            )
        except NotFound:
            return None

    def delete_surplus(self, found: Found, failure: type[PermanentError]) -> None:
        """Deletes all but the oldest of each kind."""
        self.delete({key: ids[1:] for key, ids in found.items()}, failure)

    def delete(self, doomed: Found, failure: type[PermanentError]) -> None:
        """Deletes objects, if no number uses one of them; what is gone already is done."""
        targets = {*doomed.get("application", ()), *doomed.get("inbound_trunk", ())}
        # What becomes of the numbers of a deleted application or trunk is not documented, and no
        # filter finds them: to lose nobody's calls, all numbers are looked at, 20 a request.
        if targets and not targets.isdisjoint(self._app_ids_in_use()):
            raise failure(_IN_USE)
        for key in (key for key in KINDS if key in doomed):
            # SIP endpoints that somebody gave to our application stay.
            body = {"cascade": False} if key == "application" else None
            for id_ in doomed[key]:
                send = partial(self._calls.client.request, "DELETE", (*KINDS[key].path, id_), body)
                with suppress(NotFound):
                    self._calls.write(send, refused=partial(failure, _KEPT), missing=NotFound)


def with_recorded(found: Found, objects: Objects) -> Found:
    """Adds what is on record and was renamed by hand."""
    return {
        key: list(dict.fromkeys([*ids, *([objects[key]] if key in objects else [])]))
        for key, ids in found.items()
    }


def noting(record: Record) -> tuple[dict[str, str], Callable[[str, str], None]]:
    """Returns what has been made so far, and how more of it is recorded."""
    objects: dict[str, str] = {}

    def note(key: str, id_: str) -> None:
        objects[key] = id_
        record(dict(objects))

    return objects, note


def _name_and_id(kind: Kind, row: Sdk) -> tuple[str | None, str]:
    return getattr(row, kind.name, None), filled(row, kind.id)
