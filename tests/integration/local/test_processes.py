from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from deploy.local.processes import ManagedProcess
from deploy.local.supervisor import Supervisor
from deploy.local.waiting import wait_until
from tests.integration.local.owners import are_gone, owner

if TYPE_CHECKING:
    from pathlib import Path

SLEEP = "import time; time.sleep(60)"
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("deaf", flush=True)
time.sleep(60)
"""
# Two grandchildren: one in the group of the child, one that left it.
PARENT = """
import subprocess, sys, time
sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
near = subprocess.Popen(sleep)
far = subprocess.Popen(sleep, start_new_session=True)
print(near.pid, far.pid, flush=True)
time.sleep(60)
"""
OWNER = """
    import pathlib, sys, threading
    from deploy.local.processes import ManagedProcess
    argv, log = [sys.executable, "-c", {code!r}], pathlib.Path({log!r})
    processes = [ManagedProcess(name, argv, env={{}}, log_file=log) for name in ("one", "two")]
    for process in processes:
        thread = threading.Thread(target=process.start)
        thread.start()
        thread.join()
    print(*(process.pid for process in processes), flush=True)
    sys.stdin.readline()
"""


def python(code: str, directory: Path, name: str = "child") -> ManagedProcess:
    argv = [sys.executable, "-c", code]
    return ManagedProcess(name, argv, env={}, log_file=directory / "logs" / f"{name}.log")


def logged(process: ManagedProcess) -> str:
    assert wait_until(lambda: process.log_file.exists() and bool(process.log_file.read_text()), 20)
    return process.log_file.read_text()


def test_starts_terminates_and_starts_again(tmp_path: Path) -> None:
    child = python(SLEEP, tmp_path)
    assert not child.alive
    child.start()
    first = child.pid
    child.start()
    assert child.alive
    assert child.pid == first
    child.restart()
    assert child.pid != first
    child.terminate()
    assert not child.alive
    assert child.exit_code == -signal.SIGTERM


def test_what_ignores_the_stop_signal_is_killed_after_the_grace(tmp_path: Path) -> None:
    child = python(STUBBORN, tmp_path)
    child.start()
    logged(child)
    begun = time.monotonic()
    child.terminate(grace_seconds=0.3)
    assert 0.3 <= time.monotonic() - begun < 10
    assert child.exit_code == -signal.SIGKILL


def test_kill_reaches_every_descendant(tmp_path: Path) -> None:
    child = python(PARENT, tmp_path)
    child.start()
    grandchildren = [int(pid) for pid in logged(child).split()]
    assert all(psutil.pid_exists(pid) for pid in grandchildren)
    child.kill()
    assert are_gone(grandchildren)


def test_the_environment_is_given_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "ambient")
    child = ManagedProcess(
        "child",
        [sys.executable, "-c", "import os; print(sorted(os.environ))"],
        env={"ONLY": "this"},
        log_file=tmp_path / "child.log",
    )
    child.start()
    assert "ONLY" in logged(child)
    assert "TWILIO_AUTH_TOKEN" not in child.log_tail()
    child.terminate()


def test_the_log_holds_one_run_with_its_restarts(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "child.log").write_text("of the last run\n")
    child = python("print('hello')", tmp_path)
    for _ in range(2):
        child.start()
        assert wait_until(lambda: not child.alive, 20)
    assert child.log_tail() == "hello\nhello"


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGKILL, STUBBORN), (signal.SIGTERM, SLEEP), (signal.SIGINT, SLEEP), (None, SLEEP)],
    ids=["SIGKILL", "SIGTERM", "SIGINT", "exit"],
)
def test_children_end_with_their_parent_however_it_ends(
    tmp_path: Path, number: signal.Signals | None, code: str
) -> None:
    with owner(OWNER.format(log=str(tmp_path / "log"), code=code)) as (process, pids):
        assert len(pids) == 2
        assert all(psutil.pid_exists(pid) for pid in pids)
        if number is None:
            process.communicate("end\n")
        else:
            process.send_signal(number)
        assert are_gone(pids)


def test_the_supervisor_restarts_what_dies_and_says_so(tmp_path: Path) -> None:
    child = python(SLEEP, tmp_path)
    other = python(SLEEP, tmp_path, "other")
    heard: list[str] = []
    child.start()
    other.start()
    with Supervisor(
        [child, other],
        on_restart=lambda restart: heard.append(restart.name),
        every_seconds=0.02,
        first_delay_seconds=0.05,
    ) as supervisor:
        first = child.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        assert wait_until(lambda: len(supervisor.restarts) == 1, 20)
        assert child.alive
        assert child.pid != first
        other.terminate()
        time.sleep(0.3)
        assert not other.alive
    assert [(r.name, r.exit_code) for r in supervisor.restarts] == [("child", -signal.SIGKILL)]
    assert heard == ["child"]
    child.terminate()


def test_the_supervisor_backs_off_from_what_cannot_live(tmp_path: Path) -> None:
    child = python("raise SystemExit(3)", tmp_path)
    child.start()
    begun = time.monotonic()
    with Supervisor([child], every_seconds=0.01, first_delay_seconds=0.1) as supervisor:
        assert wait_until(lambda: len(supervisor.restarts) == 3, 20)
    assert time.monotonic() - begun > 0.1 + 0.2 + 0.4
    assert supervisor.restarts[0].exit_code == 3
    child.terminate()
