from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING

import httpx
import psutil
import psycopg
import pytest

from deploy.local.directory import DirectoryInUseError
from deploy.local.processes import StackError
from deploy.local.stack import Stack
from deploy.local.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

NOT_NEEDED_HERE = ("api", "beat", "flower")


def test_parts_die_come_back_and_stop(state_dir: Path) -> None:
    stack = Stack(state_dir, without=NOT_NEEDED_HERE, supervise=True, fsync=False)
    late = Stack(state_dir)
    with stack:
        assert {part.name for part in stack.parts if part.alive} == {
            "postgres",
            "redis",
            "sandbox",
            "worker1",
        }
        with pytest.raises(DirectoryInUseError):
            late.start()
        assert set(stack.bootstrap("Test")) == {"organization_id", "api_key"}

        for name in ("postgres", "redis", "sandbox"):
            stack.part(name).kill()
        assert wait_until(lambda: len(stack.restarts) == 3, 30)
        assert {restart.exit_code for restart in stack.restarts} == {-signal.SIGKILL}
        state = httpx.get(f"{stack.sandbox_url}/_sandbox/state").json()
        assert stack.environment["LIVEKIT_API_KEY"] in state["livekit"]["api_keys"]
        with psycopg.connect(stack.database_url) as connection:
            connection.execute("SELECT * FROM organizations")

        children = [psutil.Process(part.pid) for part in stack.parts if part.pid]
        begun = time.monotonic()
    assert time.monotonic() - begun < 10
    assert not any(child.is_running() for child in children)


def test_a_stack_that_does_not_come_up_says_why_and_stops(state_dir: Path) -> None:
    stack = Stack(state_dir, env_overrides={"TRUNKLINE_LEASE_SECONDS": "soon"}, fsync=False)
    with pytest.raises(StackError) as caught:
        stack.start()
    assert str(caught.value).startswith("migrate failed with exit code")
    assert "lease_seconds" in str(caught.value)
    assert not any(part.alive for part in stack.parts)


def test_secrets_and_keys_stay_the_same_in_one_directory(state_dir: Path) -> None:
    first, second, other = (Stack(state_dir / name) for name in ("a", "a", "b"))
    for name in ("TRUNKLINE_VAULT_KEYS", "LIVEKIT_API_SECRET"):
        assert first.environment[name] == second.environment[name] != other.environment[name]
    assert first.flower_password == second.flower_password != other.flower_password
    assert not (state_dir / "a" / "postgres").exists()
