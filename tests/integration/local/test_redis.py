from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
import redis

from deploy.local.directory import DirectoryInUseError
from deploy.local.processes import StackError
from deploy.local.redis import EmbeddedRedis
from deploy.local.waiting import free_port
from tests.integration.local.owners import are_gone, owner

if TYPE_CHECKING:
    from pathlib import Path

OWNER = """
    import pathlib, sys
    from deploy.local.redis import EmbeddedRedis
    server = EmbeddedRedis(pathlib.Path({directory!r}))
    server.start()
    print(server.pid, flush=True)
    sys.stdin.readline()
"""


def test_keys_survive_stop_and_kill_on_the_same_port(state_dir: Path) -> None:
    with EmbeddedRedis(state_dir) as server, redis.Redis.from_url(server.url) as client:
        client.set("before", "stop")
        server.stop()
        assert not server.answers()
        server.start()
        assert client.get("before") == b"stop"
        client.set("before", "kill")
        time.sleep(1.1)  # everysec: what is older than a second is on disk
        server.kill()
        assert server.exit_code == -signal.SIGKILL
        server.start()
        assert client.get("before") == b"kill"


def test_is_a_broker_that_drops_nothing_and_listens_on_loopback(state_dir: Path) -> None:
    with (
        EmbeddedRedis(state_dir) as server,
        redis.Redis.from_url(server.url, decode_responses=True) as client,
    ):
        expected = {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "bind": "127.0.0.1",
        }
        assert {name: client.config_get(name)[name] for name in expected} == expected


def test_two_owners_are_refused(state_dir: Path) -> None:
    late = EmbeddedRedis(state_dir)
    with EmbeddedRedis(state_dir), pytest.raises(DirectoryInUseError, match=str(os.getpid())):
        late.start()


def test_a_taken_port_is_named(state_dir: Path) -> None:
    port = free_port()
    late = EmbeddedRedis(state_dir / "two", port=port)
    with (
        EmbeddedRedis(state_dir / "one", port=port),
        pytest.raises(StackError, match=f"port {port}"),
    ):
        late.start()


def test_ends_with_its_owner_and_starts_again(state_dir: Path) -> None:
    with owner(OWNER.format(directory=str(state_dir))) as (process, pids):
        process.kill()
        assert are_gone(pids)
    with EmbeddedRedis(state_dir) as server:
        assert server.answers()
