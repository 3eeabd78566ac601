"""The arithmetic of `make bench`."""

from __future__ import annotations

import pytest

from tests.bench.figures import Spread, Worse, not_measured, percentile, ratios, spreads, worse
from tests.bench.import_table import longest_chain
from tests.bench.usage import Talk, count_statements


def test_a_spread_is_the_median_between_the_least_and_the_most() -> None:
    found = spreads([{"a": 3.0, "b": 1.0}, {"a": 1.0}, {"a": 10.0}])

    assert found["a"] == Spread(median=3.0, least=1.0, most=10.0, runs=3)
    assert found["b"] == Spread(median=1.0, least=1.0, most=1.0, runs=1)


@pytest.mark.parametrize(
    ("part", "expected"), [(0.0, 1), (0.5, 50), (0.9, 90), (0.99, 99), (1.0, 100)]
)
def test_a_percentile_is_a_value_that_was_measured(part: float, expected: float) -> None:
    assert percentile(range(100, 0, -1), part) == expected


def test_a_percentile_of_one_value_is_that_value() -> None:
    assert percentile([7.0], 0.99) == 7.0


def test_ratios_are_of_medians_and_none_is_of_nothing() -> None:
    of = spreads([{"cpu_ms": 9.0, "messages": 1.0, "own": 1.0}, {"cpu_ms": 3.0, "messages": 1.0}])
    floor = spreads([{"cpu_ms": 4.0, "messages": 0.0}])

    assert ratios(of, floor) == {"cpu_ms": 1.5}


def test_more_cpu_and_fewer_jobs_are_worse_and_the_worst_comes_first() -> None:
    accepted = {"0 ms/cpu_ms": 1.0, "0 ms/jobs_per_second": 0.8, "200 ms/cpu_ms": 1.0}
    now = {"0 ms/cpu_ms": 1.2, "0 ms/jobs_per_second": 0.4, "200 ms/cpu_ms": 0.5}

    assert worse(now, accepted) == [
        Worse(name="0 ms/jobs_per_second", accepted=0.8, now=0.4),
        Worse(name="0 ms/cpu_ms", accepted=1.0, now=1.2),
    ]
    assert str(worse(now, accepted)[0]) == (
        "0 ms/jobs_per_second: 0.8 accepted, 0.4 now, 50% worse"
    )


@pytest.mark.parametrize(("now", "is_named"), [(1.14, False), (1.16, True), (0.5, False)])
def test_only_what_is_worse_by_more_than_a_sixth_is_named(now: float, *, is_named: bool) -> None:
    assert bool(worse({"alone/cpu_ms": now}, {"alone/cpu_ms": 1.0})) is is_named


def test_something_instead_of_nothing_is_worse() -> None:
    (found,) = worse({"alone/messages": 1.0}, {"alone/messages": 0.0})
    assert found.by == float("inf")


def test_a_figure_that_is_no_longer_measured_is_missed() -> None:
    assert not_measured({"a": 1.0, "new": 1.0}, {"a": 1.0, "lost": 1.0}) == ["lost"]


def test_statements_and_transactions_are_told_from_postgres_log() -> None:
    log = """\
2026-01-01 00:00:00.000 UTC [11] LOG:  execute <unnamed>: SELECT 1
2026-01-01 00:00:00.000 UTC [11] LOG:  statement: BEGIN
2026-01-01 00:00:00.000 UTC [11] LOG:  execute _pg3_0: UPDATE jobs
\tSET step = $1
2026-01-01 00:00:00.000 UTC [12] LOG:  execute _pg3_1: SELECT 2
2026-01-01 00:00:00.000 UTC [11] DETAIL:  Parameters: $1 = 'LOG:  statement: SELECT 3'
2026-01-01 00:00:00.000 UTC [11] LOG:  execute _pg3_2: INSERT INTO records
2026-01-01 00:00:00.000 UTC [11] LOG:  execute _pg3_3: COMMIT
2026-01-01 00:00:00.000 UTC [11] LOG:  execute <unnamed>: UPDATE jobs
"""
    # One by itself, one of two statements, one beside it in another session, one after it.
    assert count_statements(log.splitlines()) == (5, 4)


def call(name: str, at_ms: int, *, took_ms: float) -> dict[str, object]:
    time = f"2026-01-01T00:00:00.{at_ms:03}000+00:00"
    return {"time": time, "duration_ms": took_ms, "vendor": "v", "operation": name}


def test_the_path_is_the_longest_row_of_calls_one_after_the_other() -> None:
    entries = [
        call("a", 0, took_ms=100.0),
        # These three are side by side; the first is the only one that is waited for by others.
        call("b", 110, took_ms=100.0),
        call("c", 112, took_ms=300.0),
        call("d", 113, took_ms=300.0),
        call("e", 205, took_ms=100.0),
        call("f", 420, took_ms=100.0),
    ]

    assert longest_chain(entries) == ("v a", "v b", "v e", "v f")
    assert longest_chain([]) == ()


def test_what_is_said_when_there_is_nothing_to_do_is_no_part_of_a_job() -> None:
    idle = Talk(seconds=10.0, statements=100, transactions=50, messages=20, broker_commands=0)
    busy = Talk(seconds=2.0, statements=320, transactions=210, messages=14, broker_commands=30)

    assert busy.a_job(10, idle=idle) == {
        "statements": 30.0,
        "transactions": 20.0,
        "messages": 1.0,
        "broker_commands": 3.0,
    }
