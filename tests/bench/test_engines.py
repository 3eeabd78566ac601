"""That what is compared is the same job: Trunkline's bench worker and the floor, side by side."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from tests.bench.engines import ENGINES
from tests.bench.site import Site, Trial, opened
from tests.bench.work import STEPS

_JOBS = 3
_BY_NAME = {engine.name: engine for engine in ENGINES}


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    with opened() as started:
        yield started


def do_jobs(site: Site, trial: Trial) -> dict[str, int]:
    """Does some jobs, and returns what the vendor was asked."""
    trial.submit(_JOBS)
    site.vendor.close_gate()
    trial.start()
    trial.wait_full(_JOBS)
    held = site.vendor.told()
    site.vendor.open_gate(delay=0)
    trial.wait_done(_JOBS, seconds=60)
    return {**site.vendor.told(), "held": held["in_flight"]}


def test_the_floor_makes_a_call_and_a_row_a_step(site: Site) -> None:
    with site.trial(_BY_NAME["floor"], threads=4) as trial:
        told = do_jobs(site, trial)
        with psycopg.connect(trial.url) as connection:
            rows = connection.execute("SELECT step, finished_at > created_at FROM jobs").fetchall()
            records = connection.execute("SELECT count(*) FROM records").fetchone()

    assert told["held"] == _JOBS, "the gate holds every job back at its first call"
    assert (told["calls"], told["distinct"]) == (_JOBS * len(STEPS), _JOBS * len(STEPS))
    assert rows == [(STEPS[-1], True)] * _JOBS
    assert records == (_JOBS,)


def test_trunkline_makes_the_same_calls_and_leaves_what_a_real_import_leaves(site: Site) -> None:
    with site.trial(_BY_NAME["trunkline"], threads=4) as trial:
        told = do_jobs(site, trial)
        with psycopg.connect(trial.url) as connection:
            jobs = connection.execute(
                "SELECT state, step, finished_at > created_at FROM import_jobs"
            ).fetchall()
            steps = connection.execute(
                "SELECT step, state, attempts, objects <> '{}', sealed IS NOT NULL, count(*)"
                " FROM job_steps GROUP BY 1, 2, 3, 4, 5"
            ).fetchall()
            numbers = connection.execute("SELECT status, count(*) FROM phone_numbers GROUP BY 1")
            active = numbers.fetchall()

    assert told["held"] == _JOBS
    assert (told["calls"], told["distinct"]) == (_JOBS * len(STEPS), _JOBS * len(STEPS))
    assert {(state, ended) for state, _, ended in jobs} == {("active", True)}
    made = {"configure_webhooks", "provision_trunks", "create_dispatch_rule"}
    assert {tuple(row) for row in steps} == {
        (step, "done", 1, step in made, step == "check_ownership", _JOBS) for step in STEPS
    }, "each step once, with its undo record, and the original routing sealed"
    assert active == [("active", _JOBS)]
