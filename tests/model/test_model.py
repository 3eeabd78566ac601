"""The promises of the design, held to random interleavings of everything that can happen.

``TRUNKLINE_MODEL_EXAMPLES`` drives more examples than the suite does, each time others; a run
prints its seed, and ``TRUNKLINE_MODEL_SEED`` repeats it. ``TRUNKLINE_MODEL_SHRINK=1`` makes a
failing example smaller first, which takes minutes.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Iterator

import hypothesis
import pytest
import structlog
from hypothesis.stateful import run_state_machine_as_test

from tests.conftest import make_settings
from tests.model.hands import Clock
from tests.model.machine import Model, Tally
from tests.model.stage import TIMES, Stage, built
from worker.domain import job
from worker.steps import _guard, _leases

_EXAMPLES = 12
_RULES = 50


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    for module in (job, _guard, _leases):
        monkeypatch.setattr(module, "time", clock)
    return clock


@pytest.fixture
def stage(database_url: str) -> Iterator[Stage]:
    # A worker that is refused its step says so; a run has thousands of these.
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("critical"))
    with built(make_settings(database_url, **TIMES)) as made:
        yield made
    structlog.configure(**before)


@pytest.mark.timeout(3600)
def test_nothing_is_lost_doubled_or_half_done_whatever_comes_when(
    stage: Stage, clock: Clock
) -> None:
    examples = int(os.environ.get("TRUNKLINE_MODEL_EXAMPLES") or 0)
    seed = os.environ.get("TRUNKLINE_MODEL_SEED") or (random.getrandbits(32) if examples else 1)
    phases = [hypothesis.Phase.generate]
    if os.environ.get("TRUNKLINE_MODEL_SHRINK"):
        phases.append(hypothesis.Phase.shrink)
    settings = hypothesis.settings(
        max_examples=examples or _EXAMPLES,
        stateful_step_count=_RULES,
        database=None,
        deadline=None,
        suppress_health_check=list(hypothesis.HealthCheck),
        phases=phases,
        report_multiple_bugs=False,
    )
    tally = Tally()
    print(f"TRUNKLINE_MODEL_SEED={seed}")  # noqa: T201 -- pytest shows it with a failure

    @hypothesis.seed(int(seed))
    def model() -> Model:
        return Model(stage, clock, tally)

    started = time.monotonic()
    run_state_machine_as_test(model, settings=settings)  # type: ignore[arg-type]
    print(tally, f"{time.monotonic() - started:.0f} s")  # noqa: T201 -- as above
    assert tally.rested >= (examples or _EXAMPLES)
