"""A worker's own metrics port: a busy one is told of, and taken once it is free."""

from __future__ import annotations

import socket
import threading

import httpx
import pytest
from celery.concurrency.prefork import TaskPool as PreforkPool
from celery.concurrency.thread import TaskPool as ThreadPool
from structlog.testing import capture_logs

from deploy.local.waiting import LOOPBACK, free_port
from tests.conftest import make_settings
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
    assert "python_info" in answer.text


def answers(port: int) -> bool:
    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/metrics", trust_env=False).is_success
    except httpx.ConnectError:
        return False


def test_threads_are_told_of_where_a_port_is_set() -> None:
    pool, port = ThreadPool.__new__(ThreadPool), free_port()
    exporter.serve_worker(make_settings("postgresql://h/d"), pool)
    assert not answers(port)
    exporter.serve_worker(make_settings("postgresql://h/d", metrics_port=port), pool)
    eventually(lambda: answers(port))


def test_children_that_count_for_themselves_are_not_told_of_and_the_log_says_why() -> None:
    pool, port = PreforkPool.__new__(PreforkPool), free_port()
    with capture_logs() as logs:
        exporter.serve_worker(make_settings("postgresql://h/d", metrics_port=port), pool)
    assert [one["event"] for one in logs] == ["no metrics: they need the threads pool"]
    assert not answers(port)
