from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deploy.local.demo import inventory
from deploy.local.progress import Board


def job(status: str, *states: str, number: str = "+14155550100", **more: object) -> dict[str, Any]:
    steps = [
        {
            "name": f"step_{index}",
            "state": state,
            "attempts": 1,
            "started_at": "2026-01-01T00:00:00.000Z" if state == "done" else None,
            "finished_at": "2026-01-01T00:00:00.250Z" if state == "done" else None,
            "error": None,
        }
        for index, state in enumerate(states)
    ]
    base = {"phone_number": number, "routing_mode": "webhook", "status": status, "error": None}
    return base | {"steps": steps} | more


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)


def test_a_pipe_gets_one_line_per_change() -> None:
    file = io.StringIO()
    with Board(Console(file=file), ["+14155550100"]) as board:
        board.show(job("queued", "waiting", "waiting"))
        board.show(job("running", "running", "waiting"))
        board.show(job("running", "running", "waiting"))
        board.show(job("active", "done", "done"))
    assert file.getvalue().splitlines() == [
        "  +14155550100  import                queued",
        "  +14155550100  import                running",
        "  +14155550100  step_0                running",
        "  +14155550100  step_0                done  0.25 s",
        "  +14155550100  step_1                done  0.25 s",
        "  +14155550100  import                active",
    ]


def test_a_pipe_gets_errors_without_control_characters() -> None:
    file = io.StringIO()
    failed = job("failed", "failed", error={"code": "number_not_owned", "message": "", "step": ""})
    failed["steps"][0] |= {"error": {"code": "number_not_owned"}, "attempts": 2}
    with Board(Console(file=file), ["+14155550100"]) as board:
        board.show(failed)
    assert "failed  attempt 2  number_not_owned" in file.getvalue()
    assert file.getvalue().replace("\n", "").isprintable()


def test_a_terminal_gets_all_imports_side_by_side() -> None:
    file = io.StringIO()
    numbers = ["+14155550100", "+12025550123"]
    console = Console(file=file, force_terminal=True, width=120, no_color=True, _environ={})
    with Board(console, numbers) as board:
        board.show(job("active", "done", number=numbers[0]))
        board.show(job("active", "done", number=numbers[1]))
    assert any(line.count("active") == 2 for line in file.getvalue().splitlines())


def test_the_inventory_counts_what_an_owner_holds() -> None:
    account = {"sid": "AC1", "numbers": {"+1": {}, "+2": {}}, "api_keys": ["SK1"], "trunks": {}}
    assert inventory(account) == "2 numbers, 1 api keys"
    assert inventory({"trunks": {}}) == "nothing"
