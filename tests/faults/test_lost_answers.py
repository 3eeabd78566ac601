"""Every write of an import, and of the undo of one that fails, is hit in every way an answer can be
lost, for every kind of number.

Of each kind a dozen are imported. Together they meet every loss at every write, and each at most
one at the writes of one operation in a step, or it could meet its own second try instead.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pytest

from tests.faults.held import (
    ALL_KINDS,
    Held,
    count_made,
    journal_of,
    livekit_texts,
    not_given_back,
    not_whole,
    refused,
    submit,
)
from tests.faults.scenes import LOSSES, Call, faults_of
from tests.rig import Rig

#: Imports of a kind: each write meets all losses, and no operation writes thrice in a step.
_IMPORTS = 2 * len(LOSSES)


def _losses(calls: Iterable[Call]) -> list[list[dict[str, Any]]]:
    """Returns, for each import of a kind, the faults that it meets."""
    writes = Counter((call.step, call.operation) for call in calls if call.write)
    assert max(writes.values()) * len(LOSSES) <= _IMPORTS
    imports: list[list[dict[str, Any]]] = [[] for _ in range(_IMPORTS)]
    met = itertools.cycle(imports)
    for (step, operation), times in writes.items():
        match = {"step": step, "operation": operation}
        for nth, loss in itertools.product(range(1, times + 1), LOSSES.values()):
            next(met).append({"match": match, "nth": nth, **loss})
    return imports


def _lose(rig: Rig, held: Held, faults: Sequence[dict[str, Any]]) -> str:
    """Scripts the losses of one import; returns them for whoever reads of a failure."""
    of_it = {"import_id": held.import_id}
    rig.control("faults", [{**fault, "match": {**fault["match"], **of_it}} for fault in faults])
    return f"{held.kind}: {faults}"


@pytest.mark.timeout(400)
@pytest.mark.parametrize("fails", [False, True], ids=["succeeds", "fails"])
def test_every_lost_answer_converges(rig: Rig, *, fails: bool) -> None:
    worker = rig.stack.workers[0]
    undisturbed = submit(rig, ALL_KINDS)
    if fails:
        refused(rig, undisturbed)
    worker.start()
    rig.settle()
    worker.stop()
    state = rig.state()
    texts = livekit_texts(state)
    made = {one.kind: count_made(state, texts, one) for one in undisturbed}
    calls = {one.kind: journal_of(rig, one.import_id) for one in undisturbed}
    if fails:
        # The one that is refused is not applied, whatever becomes of its answer.
        calls = {kind: _without_refused(its) for kind, its in calls.items()}

    losses = {kind: _losses(its) for kind, its in calls.items()}
    numbers = submit(rig, (kind for kind in ALL_KINDS for _ in range(_IMPORTS)))
    names = {held.import_id: _lose(rig, held, losses[held.kind].pop()) for held in numbers}
    jobs = {held.import_id: held for held in numbers}
    if fails:
        refused(rig, numbers)
    worker.start()
    try:
        rig.settle(seconds=200)
    finally:
        worker.stop()
    faults = rig.sandbox.get("/_sandbox/faults").json()["faults"]
    rig.sandbox.delete("/_sandbox/faults")
    assert not (missed := [fault["match"] for fault in faults if not fault["hits"]]), missed
    wrong = not_given_back(rig, jobs, ended="failed") if fails else not_whole(rig, jobs, made)
    assert not wrong, faults_of(wrong, names)


def _without_refused(calls: Sequence[Call]) -> list[Call]:
    steps = [call.step for call in calls]
    undone = next(place for place, step in enumerate(steps) if step.endswith(".undo"))
    last = max(place for place, call in enumerate(calls[:undone]) if call.write)
    return [call for call in calls if call is not calls[last]]
