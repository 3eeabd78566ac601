"""The judgement: what is wrong with what a run left. Plain functions of what was found."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.chaos.outside import Outside, outside, without
from tests.faults.held import differences

FINAL: Final = frozenset({"active", "failed", "cancelled", "stuck", "released"})
_HELD: Final = frozenset({"active", "releasing"})


@dataclass(frozen=True, kw_only=True)
class Job:
    """A job as its row ended."""

    id: str
    kind: str
    state: str
    #: The import that brought its number in: its own id for an import.
    import_id: str
    number: str
    error_code: str | None = None
    error_message: str | None = None
    undo_error_step: str | None = None


@dataclass(frozen=True, kw_only=True)
class Number:
    """A row of phone_numbers."""

    number: str
    import_id: str
    status: str


@dataclass(frozen=True, kw_only=True)
class Import:
    """What the run knows of an import that it sent."""

    key: str
    #: Every id that a request with its key was answered with; empty if it was refused.
    ids: frozenset[str]
    number: str
    #: The vendor's name and its account in the sandbox; None for a SIP carrier.
    account: tuple[str, str] | None
    #: Imports of one kind make the same objects.
    kind: tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that is judged."""

    imports: Sequence[Import]
    jobs: Sequence[Job]
    numbers: Sequence[Number]
    #: Idempotency keys of all rows that have one.
    keys: Sequence[str]
    #: The sandbox's state before the first import, and at the end.
    before: Mapping[str, Any]
    after: Mapping[str, Any]
    #: Kind → the import of that kind that nothing disturbed.
    models: Mapping[tuple[str, str, str], str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What is wrong, by promise; each a list of sentences, empty if it was kept."""

    duplicates: list[str]
    leftovers: list[str]
    unrestored: list[str]
    not_final: list[str]
    #: Where the database and the outside world, or two tables, tell different stories.
    contradictions: list[str]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return not any(vars(self).values())


def judge(evidence: Evidence) -> Verdict:
    """Judges a run that has come to its end."""
    found = outside(evidence.before, evidence.after)
    active = active_imports(evidence)
    return Verdict(
        duplicates=[*_twice(evidence), *_doubled(evidence, found, active)],
        leftovers=_leftovers(evidence, found, active),
        unrestored=_unrestored(evidence, found, active),
        not_final=[
            f"{job.kind} {job.id} is {job.state}"
            for job in evidence.jobs
            if job.state not in FINAL or job.state == "stuck"
        ],
        contradictions=_contradictions(evidence, found, active),
    )


def active_imports(evidence: Evidence) -> set[str]:
    """Returns the imports whose number is ours, by the table of numbers."""
    return {one.import_id for one in evidence.numbers if one.status in _HELD}


def _twice(evidence: Evidence) -> list[str]:
    wrong = [
        f"key {one.key} was answered with {len(one.ids)} imports"
        for one in evidence.imports
        if len(one.ids) > 1
    ]
    keys = Counter(evidence.keys)
    wrong += [f"key {key} has {count} jobs" for key, count in keys.items() if count > 1]
    held = Counter(one.number for one in evidence.numbers if one.status != "released")
    wrong += [f"number {one} is held {count} times" for one, count in held.items() if count > 1]
    return wrong


def _doubled(evidence: Evidence, found: Outside, active: set[str]) -> list[str]:
    """An active import has exactly what one of its kind makes undisturbed."""
    wrong = []
    models = {kind: found.of(import_id) for kind, import_id in evidence.models.items()}
    for one in evidence.imports:
        for import_id in one.ids & active:
            has, should = found.of(import_id), models[one.kind]
            wrong += [
                f"{import_id} ({'-'.join(one.kind)}) has {has[what]} of {what[0]}, not {count}"
                for what, count in sorted((has | should).items())
                if has[what] > should[what]
            ]
    return wrong


def _leftovers(evidence: Evidence, found: Outside, active: set[str]) -> list[str]:
    states = {job.id: job.state for job in evidence.jobs if job.kind == "import"}
    return [
        f"{one.where} {one.store} {one.id} of "
        + (f"{one.import_id}, which is {states.get(one.import_id)}" if one.import_id else "nobody")
        for one in found.things
        if one.import_id not in active
    ]


def _unrestored(evidence: Evidence, found: Outside, active: set[str]) -> list[str]:
    """Compares every account with what it was, but for what belongs to active imports.

    Things that imports left are not told again: `leftovers` has them.
    """
    made: dict[str, set[tuple[str, str]]] = defaultdict(set)
    for thing in found.things:
        made[thing.where].add((thing.store, thing.id))
    held: dict[tuple[str, str], set[str]] = defaultdict(set)
    for one in evidence.imports:
        if one.account is not None and one.ids & active:
            held[one.account] |= {one.number, one.number.lstrip("+")}
    wrong = []
    for vendor, world in evidence.before.items():
        if vendor == "livekit":
            continue
        for name, before in world["accounts"].items():
            ours = {("numbers", number) for number in held[vendor, name]}
            after = evidence.after[vendor]["accounts"].get(name, {})
            was = without(before, ours)
            now = without(after, ours | made[f"{vendor}/{name}"])
            wrong += [f"{vendor} {what}" for what in differences(was, now, name)]
    return wrong


def _contradictions(evidence: Evidence, found: Outside, active: set[str]) -> list[str]:
    wrong = []
    ended: dict[str, str] = {}
    for job in evidence.jobs:
        if job.kind == "import" and job.state == "active":
            ended.setdefault(job.import_id, "active")
        if job.kind == "release" and job.state == "released":
            ended[job.import_id] = "released"
    wrong += [
        f"{import_id} ended {state}, its number is {'ours' if import_id in active else 'not'}"
        for import_id, state in ended.items()
        if (state == "active") != (import_id in active)
    ]
    wrong += [
        f"{import_id} is active without having ended so" for import_id in active - ended.keys()
    ]
    models = {kind: found.of(import_id) for kind, import_id in evidence.models.items()}
    for one in evidence.imports:
        for import_id in one.ids & active:
            has, should = found.of(import_id), models[one.kind]
            wrong += [
                f"{import_id} ({'-'.join(one.kind)}) has {has[what]} of {what[0]}, not {count}"
                for what, count in sorted(should.items())
                if has[what] < count
            ]
    return wrong


def final_states(jobs: Iterable[Job]) -> dict[str, dict[str, int]]:
    """Counts jobs by kind and state."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for job in jobs:
        found[job.kind][job.state] += 1
    return {kind: dict(sorted(states.items())) for kind, states in sorted(found.items())}
