"""Which request gets which fault: parsing, matching, counting. What a fault does: actions.py."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from deploy.sandbox.holds import When
from deploy.sandbox.journal import Entry

Action = Literal["status", "delay", "cut", "garbage", "empty", "lost", "lost_status", "hold"]
ACTIONS: tuple[str, ...] = get_args(Action)

#: The settings that each action needs, and those it may have.
_NEEDS: dict[str, frozenset[str]] = {
    "status": frozenset({"status"}),
    "delay": frozenset({"seconds"}),
    "cut": frozenset(),
    "garbage": frozenset(),
    "empty": frozenset(),
    "lost": frozenset(),
    "lost_status": frozenset({"status"}),
    "hold": frozenset({"when"}),
}
_MAY_HAVE: dict[str, frozenset[str]] = {
    "status": frozenset({"code", "message", "retry_after", "body"}),
    "lost_status": frozenset({"code", "message", "retry_after", "body"}),
}
assert _NEEDS.keys() == set(ACTIONS)

_SETTINGS = frozenset({"status", "code", "message", "retry_after", "body", "seconds", "when"})


class Match(BaseModel):
    """The conditions of a fault; all that are given must hold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    vendor: str | None = None
    #: May hold wildcards, as may `step`.
    operation: str | None = None
    write: bool | None = None
    import_id: str | None = None
    step: str | None = None
    account: str | None = None

    def covers(self, entry: Entry) -> bool:
        """Whether the request meets every condition."""
        return (
            (self.vendor is None or self.vendor == entry.vendor)
            and (self.write is None or self.write == entry.write)
            and (self.import_id is None or self.import_id == entry.made_by.import_id)
            and (self.account is None or self.account == entry.account)
            and (self.step is None or entry.made_by.in_step(self.step))
            and (self.operation is None or fnmatchcase(entry.operation, self.operation))
        )


class FaultSpec(BaseModel):
    """A fault as it is posted.

    Anything unknown or missing is refused: a fault that never fires looks like a test that passes.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    match: Match = Match()
    #: Only the nth matching request since the fault was made, counted from 1.
    nth: Annotated[int, Field(ge=1)] | None = None
    #: How many requests it hits; None for ever.
    times: Annotated[int, Field(ge=1)] | None = 1
    probability: Annotated[float, Field(gt=0, le=1)] | None = None
    seed: int = 0

    action: Action
    status: Annotated[int, Field(ge=400, le=599)] | None = None
    code: int | str | None = None
    message: str | None = None
    #: Seconds, or a date as HTTP writes it.
    retry_after: Annotated[int, Field(ge=0)] | str | None = None
    #: Sent instead of the vendor's error body, as a load balancer would.
    body: str | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    when: When | None = None

    @model_validator(mode="after")
    def _settings_fit_action(self) -> Self:
        given = {name for name in _SETTINGS if getattr(self, name) is not None}
        needed = _NEEDS[self.action]
        if missing := needed - given:
            msg = f"action {self.action} needs {', '.join(sorted(missing))}"
            raise ValueError(msg)
        if extra := given - needed - _MAY_HAVE.get(self.action, frozenset()):
            msg = f"action {self.action} does not take {', '.join(sorted(extra))}"
            raise ValueError(msg)
        return self


@dataclass(slots=True)
class Fault:
    """A fault that is set, and what it has met so far."""

    id: str
    #: Its place among all that were set: the lowest is the oldest.
    age: int
    spec: FaultSpec
    seen: int = 0
    hits: int = 0
    dice: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.dice = random.Random(self.spec.seed)  # noqa: S311 - repeatable, not secret

    def due(self, entry: Entry) -> bool:
        """Counts a matching request and says whether the fault would act on it."""
        if not self.spec.match.covers(entry):
            return False
        self.seen += 1
        if self.spec.nth is not None:
            return self.seen == self.spec.nth
        if self.spec.times is not None and self.hits >= self.spec.times:
            return False
        return self.spec.probability is None or self.dice.random() < self.spec.probability

    def document(self) -> dict[str, object]:
        """The fault as JSON, with its counts."""
        return {
            "id": self.id,
            **self.spec.model_dump(exclude_defaults=True),
            "seen": self.seen,
            "hits": self.hits,
        }


class Faults:
    """All faults that are set, oldest first."""

    def __init__(self) -> None:
        self._faults: dict[str, Fault] = {}
        #: The same by the import that they name: most do, and there may be thousands.
        self._by_import: defaultdict[str | None, dict[str, Fault]] = defaultdict(dict)
        self._count = 0

    def add(self, spec: FaultSpec) -> Fault:
        """Sets a fault."""
        self._count += 1
        fault = Fault(f"f{self._count}", self._count, spec)
        self._faults[fault.id] = fault
        self._by_import[spec.match.import_id][fault.id] = fault
        return fault

    def remove(self, fault_id: str | None = None) -> None:
        """Removes one fault, or all; raises KeyError for an unknown id."""
        if fault_id is None:
            self._faults.clear()
            self._by_import.clear()
        else:
            removed = self._faults.pop(fault_id)
            del self._by_import[removed.spec.match.import_id][fault_id]

    def strike(self, entry: Entry) -> tuple[float, Fault | None]:
        """The seconds to wait and the fault to act out, if any.

        Every fault that matches counts the request. All delays that are due add up; of the others
        the oldest that is due acts, and the rest keep their turn, except that an `nth` has had it.
        """
        seconds = 0.0
        acting: Fault | None = None
        for fault in self._candidates(entry):
            if not fault.due(entry) or (acting is not None and fault.spec.action != "delay"):
                continue
            fault.hits += 1
            entry.faults.append({"id": fault.id, "action": fault.spec.action})
            if fault.spec.action == "delay":
                seconds += fault.spec.seconds or 0.0
            else:
                acting = fault
        return seconds, acting

    def _candidates(self, entry: Entry) -> Iterable[Fault]:
        """The faults that do not name another import, oldest first."""
        of_any = self._by_import[None].values()
        import_id = entry.made_by.import_id
        if import_id is None or import_id not in self._by_import:
            return list(of_any)
        return sorted([*of_any, *self._by_import[import_id].values()], key=lambda fault: fault.age)

    def document(self) -> list[dict[str, object]]:
        """All faults as JSON."""
        return [fault.document() for fault in self._faults.values()]
