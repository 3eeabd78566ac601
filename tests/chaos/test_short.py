"""A fault run that is short enough for every day: everything is killed once, for real."""

from __future__ import annotations

import pytest

from tests.chaos import report
from tests.chaos.plan import SIZES, plan_of
from tests.chaos.run import run


@pytest.mark.timeout(500)
def test_nothing_is_lost_in_a_short_fault_run() -> None:
    found = run(plan_of(1, SIZES["short"]), say=lambda _: None)
    figures = report.figures(found)
    assert figures["passed"], report.told(figures)
    # Everything was hurt that was to be, or the run would prove little.
    assert figures["faults"].keys() >= {"worker killed", "all workers killed", "redis stopped"}
    assert figures["recovery_seconds"]["that_held_jobs"] > 0
    assert figures["faults_left_out"] == 0
