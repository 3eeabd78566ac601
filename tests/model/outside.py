"""The outside of the model: numbers with their routing, and objects that imports make for them.

Calls fare as the model says. What a call must find, or must not do, is checked as it is applied;
what should not be is kept in ``wrongs``, since a worker would take an exception for a bug of ours.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

from tests.model.hands import UNKNOWN, Clock, Fate, Killed, gate
from worker.domain.errors import NumberNotOwned, ProviderRateLimited, ProviderUnavailable
from worker.steps._core import Context

#: Parts of a number's routing.
PARTS: Final = ("voice", "sms")
#: Kinds of objects, in the order in which they are made: each needs those before it.
APPLICATION, INBOUND, OUTBOUND, RULE = KINDS = ("application", "inbound", "outbound", "rule")
OURS: Final = "ours:"
_Answer = TypeVar("_Answer")


def ours(tag: str) -> str:
    """What a part of a number holds while it comes to us, by the import's name."""
    return OURS + tag


@dataclass(kw_only=True)
class Thing:
    """An object; its name is that of the import it was made for."""

    kind: str
    tag: str
    content: str


@dataclass(frozen=True, kw_only=True)
class Late:
    """A write that is still under way: it lands at the latest when its time has come."""

    tag: str
    apply: Callable[[], object]
    by: float


@dataclass
class Outside:
    """Everything outside, and every wrong that was done to it."""

    clock: Clock
    #: Says what is wrong with a worker's writing now, if anything: asked of the database.
    objection: Callable[[Context], str | None]
    numbers: dict[str, dict[str, str]] = field(default_factory=dict)
    things: dict[str, Thing] = field(default_factory=dict)
    late: list[Late] = field(default_factory=list)
    wrongs: list[str] = field(default_factory=list)
    #: Imports of which somebody has taken an object away: what is missing is not their fault.
    robbed: set[str] = field(default_factory=set)
    writes: int = 0
    _ids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    # What steps call

    def read(self, ctx: Context) -> dict[str, str]:
        """Returns the routing of the import's number."""
        return self._call(ctx, "read", lambda: dict(self.numbers[ctx.spec.phone_number]))

    def point(self, ctx: Context, part: str, value: str) -> None:
        """Changes one part of the routing."""
        e164, tag = ctx.spec.phone_number, ctx.tag.import_id

        def apply() -> None:
            self.numbers[e164][part] = value
            self._check_calls(f"{part} of {e164} was pointed to {value}")

        self._write(ctx, f"point {part}", apply, tag)

    def find(self, ctx: Context, kind: str) -> list[str]:
        """Returns the ids of an import's objects of a kind."""
        tag = ctx.tag.import_id
        return self._call(ctx, f"find {kind}", lambda: self.ids(kind, tag))

    def make(self, ctx: Context, kind: str, content: str) -> str:
        """Makes an object; the vendor takes a second one with the same name as well."""
        tag = ctx.tag.import_id
        new_id = f"{kind}-{next(self._ids)}"

        def apply() -> str:
            self.things[new_id] = Thing(kind=kind, tag=tag, content=content)
            if len(self.ids(kind, tag)) > 1:
                self.wrongs.append(f"there are two of {kind} of {tag}")
            return new_id

        return self._write(ctx, f"make {kind}", apply, tag)

    def change(self, ctx: Context, object_id: str, content: str) -> None:
        """Changes an object."""

        def apply() -> None:
            if object_id in self.things:
                self.things[object_id].content = content

        self._write(ctx, f"change {object_id}", apply, ctx.tag.import_id)

    def delete(self, ctx: Context, object_id: str) -> None:
        """Deletes an object; one that is gone is no error."""

        def apply() -> None:
            gone = self.things.pop(object_id, None)
            if gone is not None:
                self._check_calls(f"{object_id} was deleted")

        self._write(ctx, f"delete {object_id}", apply, ctx.tag.import_id)

    # How calls fare

    def _call(
        self, ctx: Context, name: str, apply: Callable[[], _Answer], *, late_of: str | None = None
    ) -> _Answer:
        fate = gate(ctx.claim, name)
        # As every adapter does before every call.
        ctx.attempt.lease.require(ctx.settings.call_seconds)
        self._raise_as(fate, reads_only=late_of is None)
        if late_of is not None:
            self.writes += 1
            objection = self.objection(ctx)
            if objection is not None:
                self.wrongs.append(f"{name}: {objection}")
        if late_of is not None and fate in (Fate.LANDS_LATE, Fate.DIES_LANDS_LATE):
            dies = fate is Fate.DIES_LANDS_LATE
            # Nobody waits for the answer of a call of the dead longer than for any other's.
            wait = ctx.settings.call_seconds if dies else ctx.settings.settle_seconds
            self.late.append(Late(tag=late_of, apply=apply, by=self.clock.monotonic() + wait))
        elif fate not in (Fate.REQUEST_LOST, Fate.DIES_LANDS_LATE):
            answer = apply()
        if fate is Fate.DIES_LANDS_LATE:
            raise Killed
        if fate in UNKNOWN:
            raise ProviderUnavailable(outcome_unknown=late_of is not None)
        return answer

    def _write(self, ctx: Context, name: str, apply: Callable[[], _Answer], tag: str) -> _Answer:
        answer = self._call(ctx, name, apply, late_of=tag)
        gate(ctx.claim, f"after {name}")
        return answer

    @staticmethod
    def _raise_as(fate: Fate, *, reads_only: bool) -> None:
        """Raises what an adapter makes of an answer to a call that was not applied."""
        match fate:
            case Fate.FAILED:
                raise ProviderUnavailable
            case Fate.FAILED_BRIEFLY:
                raise ProviderUnavailable(retry_after=12)
            case Fate.LIMITED:
                raise ProviderRateLimited(retry_after=30)
            case Fate.REFUSED:
                raise NumberNotOwned
            case Fate.BUG:
                raise RuntimeError("a bug")
            case Fate.REQUEST_LOST | Fate.LANDS_LATE | Fate.ANSWER_LOST if reads_only:
                raise ProviderUnavailable

    # What happens by itself

    def land(self, by: float) -> None:
        """Applies the writes under way whose time has come."""
        due = [late for late in self.late if late.by <= by]
        self.late = [late for late in self.late if late.by > by]
        for late in due:
            late.apply()

    def land_one(self, place: int) -> None:
        """Applies one write under way, before its time."""
        if self.late:
            self.late.pop(place % len(self.late)).apply()

    def rob(self, tag: str, kind: str) -> None:
        """Takes an object away, as a customer may who does not know what it is."""
        for object_id in self.ids(kind, tag):
            del self.things[object_id]
            self.robbed.add(tag)

    def ids(self, kind: str, tag: str) -> list[str]:
        return [one for one, thing in self.things.items() if (thing.kind, thing.tag) == (kind, tag)]

    def made_for(self, tag: str) -> list[str]:
        return [one for one, thing in self.things.items() if thing.tag == tag]

    def _check_calls(self, event: str) -> None:
        """A live call must find everything it needs, from the first moment to the last."""
        for e164, parts in self.numbers.items():
            if not parts["voice"].startswith(OURS):
                continue
            tag = parts["voice"].removeprefix(OURS)
            missing = [kind for kind in KINDS if not self.ids(kind, tag)]
            if missing and tag not in self.robbed:
                self.wrongs.append(f"{event}: a call to {e164} would miss {', '.join(missing)}")
