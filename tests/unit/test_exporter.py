"""A worker's own metrics port: a busy one is told of, and taken once it is free."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest
from structlog.testing import capture_logs

from deploy.local.waiting import LOOPBACK
from tests.rig import eventually
from worker import exporter


def test_a_busy_port_is_told_of_once_and_taken_when_it_is_free(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exporter, "_AGAIN_SECONDS", 0.05)
    with socket.create_server((LOOPBACK, 0)) as taken, capture_logs() as logs:
        port = taken.getsockname()[1]
        thread = threading.Thread(target=exporter._listen, args=(LOOPBACK, port), daemon=True)
        thread.start()
        eventually(lambda: len(logs) == 1)
        thread.join(0.2)
        assert [one["log_level"] for one in logs] == ["warning"]
        assert "TRUNKLINE_METRICS_PORT of its own" in logs[0]["event"]
        assert logs[0]["port"] == port
        taken.close()
        thread.join(5)
    answer = httpx.get(f"http://{LOOPBACK}:{port}/metrics", trust_env=False)
    assert "trunkline_build_info" in answer.text
