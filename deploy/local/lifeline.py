"""Ends every child process when the process that started it is gone, however it went.

A small guardian process holds the read end of a pipe whose write end only the owner has. When the
owner exits, is terminated or is killed with SIGKILL, the pipe reads end-of-file and the guardian
ends all process groups that were registered. Linux has PR_SET_PDEATHSIG for this, but it fires when
the *thread* that forked ends (a supervisor restarts children from its own thread), setting it needs
``preexec_fn`` (which may deadlock in a process with threads), it does not reach grandchildren, and
macOS has no such thing. A pipe has none of these faults.

This file is both sides: a module for the owner, and the guardian's script, which therefore imports
nothing but the standard library.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import time

GRACE_SECONDS = 2.5
"""How long the guardian waits after the polite signal before it kills."""


class Lifeline:
    """Registers the process groups that must not outlive this process; use `lifeline()`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._guardian: subprocess.Popen[bytes] | None = None
        self._watched: dict[int, int] = {}

    def watch(self, pid: int, farewell: signal.Signals) -> None:
        """Has the guardian send `farewell`, later SIGKILL, to this group once we are gone."""
        with self._lock:
            self._watched[pid] = int(farewell)
            self._tell(f"{pid} {int(farewell)}\n")

    def forget(self, pid: int) -> None:
        """Takes a group that has ended off the guardian's list."""
        with self._lock:
            if self._watched.pop(pid, None) is not None:
                self._tell(f"{pid} 0\n")

    def close(self) -> None:
        """Lets the guardian end what is left, and waits for it."""
        with self._lock:
            guardian, self._guardian = self._guardian, None
            if guardian is None or guardian.stdin is None:
                return
            with contextlib.suppress(BrokenPipeError):
                guardian.stdin.close()
            while guardian.poll() is None:
                # Our dead children stay in the process table, and in their groups, until we look.
                for pid in self._watched:
                    with contextlib.suppress(ChildProcessError):
                        os.waitpid(pid, os.WNOHANG)
                time.sleep(0.01)

    def _tell(self, message: str) -> None:
        if self._guardian is None or self._guardian.poll() is not None:
            self._guardian = _start_guardian()
            message = "".join(f"{pid} {number}\n" for pid, number in self._watched.items())
        assert self._guardian.stdin is not None
        self._guardian.stdin.write(message.encode())


def _start_guardian() -> subprocess.Popen[bytes]:
    return subprocess.Popen(  # noqa: S603 - our own file, run by our own interpreter
        [sys.executable, "-I", "-S", __file__],
        stdin=subprocess.PIPE,
        # Whoever reads our output must not wait for the guardian's end as well.
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        # A session of its own: Ctrl-C and a killed process group must not take the guardian too.
        start_new_session=True,
    )


@functools.cache
def _lifeline_of(_owner: int) -> Lifeline:
    line = Lifeline()
    atexit.register(line.close)
    return line


def lifeline() -> Lifeline:
    """Returns the one lifeline of this process; a forked child gets its own."""
    return _lifeline_of(os.getpid())


def _signal_group(group: int, number: int) -> bool:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def _guard() -> None:
    for ignored in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(ignored, signal.SIG_IGN)
    watched: dict[int, int] = {}
    for message in sys.stdin:
        pid, number = (int(word) for word in message.split())
        if number:
            watched[pid] = number
        else:
            watched.pop(pid, None)
    left = {pid for pid, number in watched.items() if _signal_group(pid, number)}
    deadline = time.monotonic() + GRACE_SECONDS
    while left and time.monotonic() < deadline:
        time.sleep(0.02)
        left = {pid for pid in left if _signal_group(pid, 0)}
    for pid in left:
        _signal_group(pid, signal.SIGKILL)


if __name__ == "__main__":
    _guard()
