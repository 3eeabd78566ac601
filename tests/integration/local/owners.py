"""Runs code in a process of its own, which tests can then end in any way."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from deploy.local.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

PROJECT = Path(__file__).resolve().parents[3]


@contextlib.contextmanager
def owner(code: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """Runs code that prints the ids of its children on one line; gives it and them."""
    process = subprocess.Popen(  # noqa: S603 - the code is in the test
        [sys.executable, "-c", textwrap.dedent(code)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process, [int(pid) for pid in process.stdout.readline().split()]
        finally:
            process.kill()


def are_gone(pids: list[int], timeout_seconds: float = 20.0) -> bool:
    """Waits until none of the processes runs."""
    return wait_until(lambda: not any(_runs(pid) for pid in pids), timeout_seconds)


def _runs(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
