from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from deploy.local.processes import ManagedProcess, StackError
from deploy.local.service import Service, worker_answers
from deploy.local.waiting import free_port, http_status

if TYPE_CHECKING:
    from pathlib import Path

WEB = """
from http.server import BaseHTTPRequestHandler, HTTPServer
HTTPServer(("127.0.0.1", {port}), BaseHTTPRequestHandler).serve_forever()
"""
BROKEN = "print('line\\n' * 30); print('no such setting'); raise SystemExit(3)"
SILENT = "import time; time.sleep(60)"


def service(code: str, directory: Path, port: int, seconds: float = 5.0) -> Service:
    process = ManagedProcess(
        "web", [sys.executable, "-c", code], env={}, log_file=directory / "web.log"
    )
    return Service(
        process,
        ready=lambda: http_status(f"http://127.0.0.1:{port}/") is not None,
        timeout_seconds=seconds,
        advice="set it",
    )


def test_is_up_when_it_answers(tmp_path: Path) -> None:
    port = free_port()
    web = service(WEB.format(port=port), tmp_path, port)
    web.start()
    assert http_status(f"http://127.0.0.1:{port}/") == 501
    web.stop()
    assert http_status(f"http://127.0.0.1:{port}/") is None


def test_the_error_shows_the_end_of_the_log_and_what_to_do(tmp_path: Path) -> None:
    web = service(BROKEN, tmp_path, free_port())
    with pytest.raises(StackError) as caught:
        web.start()
    message = str(caught.value)
    assert message.startswith("web ended with exit code 3 while starting\n")
    assert "  | no such setting\n" in message
    assert message.count("  | ") == 20
    assert message.endswith("What to do: set it")


def test_the_error_tells_that_nothing_answered(tmp_path: Path) -> None:
    web = service(SILENT, tmp_path, free_port(), seconds=0.2)
    with pytest.raises(StackError, match="was not ready after 0 s"):
        web.start()
    web.stop()


def test_no_worker_answers_without_a_broker() -> None:
    assert not worker_answers(f"redis://127.0.0.1:{free_port()}/0", "worker1@nowhere")
