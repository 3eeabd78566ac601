"""What is told of a measurement, and what the next one is held against."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.bench.__main__ import accept, judge
from tests.bench.engine_table import EngineTable
from tests.bench.figures import Spread
from tests.bench.import_table import ImportTable, Row
from tests.bench.report import Found, as_json, as_text, compared, exact
from tests.bench.scale_table import ScaleTable


def one(value: float) -> Spread:
    return Spread.of([value])


ENGINES = EngineTable(
    found={
        "0 ms": {
            "floor": {"jobs_per_second": one(400), "cpu_ms": one(5), "cpu_broker_ms": one(0)},
            "trunkline": {
                "jobs_per_second": Spread.of([190.0, 200.0, 220.0]),
                "cpu_ms": one(8),
                "cpu_broker_ms": one(0.2),
            },
            "dbos": {"jobs_per_second": one(50), "cpu_ms": one(25), "cpu_broker_ms": one(0)},
        },
        "alone": {
            "floor": {"alone_p50_ms": one(5), "statements": one(9), "messages": one(0)},
            "trunkline": {"alone_p50_ms": one(15), "statements": one(30), "messages": one(1)},
        },
    },
    absent={"Absurd": "not installed: absurd_sdk"},
)
IMPORTS = ImportTable(
    rows={
        "twilio webhook": Row(
            calls=23,
            chain=("twilio a", "livekit b"),
            fast={"total": one(50), "in_steps": one(40), "at_sandbox": one(10)},
            slow={"total": one(440)},
        )
    },
    memory_mb={"at start": 140.4},
)
SCALE = ScaleTable(
    costs={
        "100 sent": {"jobs_per_second": one(90), "cpu_ms": one(11)},
        "1,000 sent": {"jobs_per_second": one(100), "cpu_ms": one(10)},
    },
    reads={"empty": {"an import": (1.0, 2.0)}, "1,000,000 ended": {"an import": (1.5, 3.25)}},
)
ALL = Found(engines=ENGINES, imports=IMPORTS, scale=SCALE)


def test_ratios_and_counts_are_compared_and_never_a_time() -> None:
    assert compared(ALL) == {
        "0 ms/jobs_per_second": 0.5,
        "0 ms/cpu_ms": 1.6,
        "alone/alone_p50_ms": 3.0,
        "alone/statements": 3.333,
        "alone/messages": 1.0,
        "twilio webhook/calls": 23,
        "twilio webhook/path": 2,
        "twilio webhook/times_path": 1.1,
        "100 sent/times_base": 1.1,
        "1,000 sent/times_base": 1.0,
    }


def test_a_short_run_compares_what_is_no_matter_of_time() -> None:
    assert exact(compared(ALL)).keys() == {
        "alone/statements",
        "alone/messages",
        "twilio webhook/calls",
        "twilio webhook/path",
    }


def test_the_text_tells_medians_spreads_multiples_and_who_is_absent() -> None:
    text = as_text(ALL)

    assert "200.0 (190.0 - 220.0; ×0.50)" in text
    assert "25.0 (×5.00)" in text, "DBOS' CPU"
    assert "not measured: Absurd: not installed: absurd_sdk" in text
    assert "at start 140" in text
    assert "11.0 (×1.10)" in text, "what a job costs beside a hundred"
    assert "1.5 / 3.2" in text


def test_all_figures_are_in_the_json() -> None:
    told = json.loads(json.dumps(as_json(ALL)))

    assert told["engines"]["0 ms"]["trunkline"]["jobs_per_second"] == {
        "median": 200.0,
        "min": 190.0,
        "max": 220.0,
        "runs": 3,
    }
    assert told["imports"]["twilio webhook"]["path_calls"] == ["twilio a", "livekit b"]
    assert told["scale"]["reads"]["1,000,000 ended"]["an import"] == {"p50_ms": 1.5, "p99_ms": 3.25}


@pytest.mark.parametrize(
    ("accepted", "code", "told"),
    [
        ({"a/cpu_ms": 1.0}, 0, "Nothing got worse"),
        ({"a/cpu_ms": 0.8}, 1, "worse: a/cpu_ms: 0.8 accepted, 1 now, 25% worse"),
        ({"a/cpu_ms": 1.0, "lost/cpu_ms": 1.0}, 1, "accepted once, but not measured now: lost"),
    ],
)
def test_the_exit_code_says_whether_anything_got_worse(
    accepted: dict[str, float],
    code: int,
    told: str,
    *,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    file = tmp_path / "accepted.json"
    file.write_text(json.dumps(accepted))

    assert judge({"a/cpu_ms": 1.0}, file, is_whole=True) == code
    assert told in capsys.readouterr().out


def test_only_a_whole_run_can_be_accepted(tmp_path: Path) -> None:
    file = tmp_path / "accepted.json"

    assert accept({"a/cpu_ms": 1.0}, file, is_whole=False) == 2
    assert not file.exists()
    assert accept({"a/cpu_ms": 1.0}, file, is_whole=True) == 0
    assert judge({"a/cpu_ms": 1.2}, file, is_whole=True) == 1
