"""What exists at the vendors and at LiveKit, and to which import each thing belongs."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

#: An import's id as it stands in names and metadata, with a dash or an underscore.
_TAG: Final = re.compile(r"\bimp[_-]([0-9a-f]{32})")
_LIVEKIT: Final = ("inbound_trunks", "outbound_trunks", "dispatch_rules")


@dataclass(frozen=True, kw_only=True)
class Thing:
    """An object that did not exist before the run."""

    #: "twilio/ACe1", or "livekit".
    where: str
    #: Such as "trunks", or "zentrunk.uris".
    store: str
    id: str
    #: The import that it belongs to, "" if it says of none.
    import_id: str
    #: Its form without its values: two trunks with one address each differ from one with two.
    form: str


@dataclass(frozen=True, kw_only=True)
class Outside:
    """The whole outside world at one moment, but for the customers' own things."""

    things: tuple[Thing, ...]

    def of(self, import_id: str) -> Counter[tuple[str, str]]:
        """Counts what an import made, by kind and form."""
        return Counter((one.store, one.form) for one in self.things if one.import_id == import_id)


def outside(before: Mapping[str, Any], after: Mapping[str, Any]) -> Outside:
    """Returns what came into being between two states of the sandbox."""
    things: list[Thing] = []
    for vendor in before:
        if vendor == "livekit":
            continue
        accounts = before[vendor]["accounts"]
        for account, now in after[vendor]["accounts"].items():
            then = {(store, key) for store, key, _ in _objects(accounts.get(account, {}))}
            new = [one for one in _objects(now) if one[:2] not in then]
            things += _things(f"{vendor}/{account}", new)
    then = {(store, key) for store in _LIVEKIT for key in before["livekit"][store]}
    new = [
        (store, key, one)
        for store in _LIVEKIT
        for key, one in after["livekit"][store].items()
        if (store, key) not in then
    ]
    things += _things("livekit", new)
    return Outside(things=tuple(things))


def without(account: Mapping[str, Any], things: set[tuple[str, str]]) -> dict[str, Any]:
    """Returns an account without some things, each given by its store and id."""
    left: dict[str, Any] = {}
    for name, value in account.items():
        if not isinstance(value, Mapping):
            left[name] = value
            continue
        if name == "zentrunk":
            inner = {f"{name}.{store}": objects for store, objects in value.items()}
            left[name] = {
                store.removeprefix(f"{name}."): objects
                for store, objects in without(inner, things).items()
            }
            continue
        left[name] = {key: one for key, one in value.items() if (name, key) not in things}
    return left


def _objects(account: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str, Any]]:
    for name, value in account.items():
        if not isinstance(value, Mapping) or name == "numbers":
            continue
        if name == "zentrunk":
            yield from _objects(value, "zentrunk.")
            continue
        yield from ((path + name, key, one) for key, one in value.items() if _is_object(one))


def _is_object(value: object) -> bool:
    return isinstance(value, Mapping)


def _things(where: str, new: list[tuple[str, str, Any]]) -> list[Thing]:
    tags: dict[str, str] = {}
    untagged = []
    for store, key, one in new:
        found = _TAG.search(json.dumps(one))
        if found is None:
            untagged.append((store, key, one))
        else:
            tags[key] = f"imp_{found[1]}"
    for _, key, one in untagged:
        # Telnyx' FQDNs have no name; they name the connection that they belong to.
        text = json.dumps(one)
        tags[key] = next((tags[owner] for owner in [*tags] if f'"{owner}"' in text), "")
    return [
        Thing(where=where, store=store, id=key, import_id=tags[key], form=_form(one))
        for store, key, one in new
    ]


def _form(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_form(value[key])}" for key in sorted(value)) + "}"
    if isinstance(value, list):
        return "[" + ",".join(sorted(map(_form, value))) + "]"
    return ""
