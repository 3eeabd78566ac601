"""One child process: started in its own group, logged to a file, ended with everything it started.

Restarting what died is `supervisor.py`; ending children of a dead parent is `lifeline.py`.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import psutil

from deploy.local.lifeline import lifeline

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from deploy.local.system_user import SystemUser

LOG_TAIL_LINES = 20


class StackError(RuntimeError):
    """A part of the embedded stack did not come up; the message says which, why and what to do."""


class ManagedProcess:
    """A child process that can be started, terminated, killed and started again; thread-safe."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str],
        log_file: Path,
        cwd: Path | None = None,
        user: SystemUser | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.argv = tuple(argv)
        self.log_file = log_file
        #: Whether it should be running: `start` sets it, `terminate` clears it, `kill` does not.
        self.wanted = False
        self._env = dict(env)
        self._cwd = cwd
        self._user = user
        self._stop_signal = stop_signal
        self._lock = threading.RLock()
        self._popen: subprocess.Popen[bytes] | None = None
        self._started_before = False

    @property
    def pid(self) -> int | None:
        """The process id of the last start, or None before the first."""
        return self._popen.pid if self._popen else None

    @property
    def alive(self) -> bool:
        """Whether the process runs now."""
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How the last run ended (negative: by that signal), or None while it runs."""
        return self._popen.poll() if self._popen else None

    def start(self) -> None:
        """Starts the process unless it runs; does not wait for readiness."""
        with self._lock:
            self.wanted = True
            self.revive()

    def revive(self) -> bool:
        """Starts the process again if it is wanted but dead; tells whether it did."""
        with self._lock:
            if not self.wanted or self.alive:
                return False
            self._spawn()
            return True

    def terminate(self, grace_seconds: float = 5.0) -> None:
        """Asks the process to end and kills it when the grace is over; it stays down."""
        self.ask_to_stop()
        self.finish_stop(grace_seconds)

    def ask_to_stop(self) -> None:
        """Sends the stop signal and returns at once, so that several can stop side by side."""
        with self._lock:
            self.wanted = False
            if self._popen is not None and self._popen.poll() is None:
                self._popen.send_signal(self._stop_signal)

    def finish_stop(self, grace_seconds: float) -> None:
        """Waits for a process that was asked to stop, and kills it when the grace is over."""
        with self._lock:
            if self._popen is not None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._popen.wait(grace_seconds)
                self.kill()

    def kill(self) -> None:
        """Kills the process and everything it started with SIGKILL: a crash, for fault tests."""
        with self._lock:
            if self._popen is None:
                return
            if self._popen.poll() is None:
                kill_tree(self._popen.pid)
            # What the leader left in its group; its id is not reused while one of them lives.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()
            lifeline().forget(self._popen.pid)

    def restart(self, grace_seconds: float = 5.0) -> None:
        """Terminates and starts again."""
        with self._lock:
            self.terminate(grace_seconds)
            self.start()

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Returns the last lines of the log."""
        return tail(self.log_file, lines)

    def _spawn(self) -> None:
        if self._popen is not None:
            self.kill()  # the rest of a group whose leader died
        self.log_file.parent.mkdir(parents=True, exist_ok=True)
        # The log holds one run of the owner; a restart within it adds to the same file.
        mode = "ab" if self._started_before else "wb"
        with self.log_file.open(mode) as log:
            self._popen = subprocess.Popen(  # noqa: S603 - argv comes from this package
                self.argv,
                env=self._env,
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Its own group: Ctrl-C reaches the owner alone, which then stops all in order.
                start_new_session=True,
                user=self._user.uid if self._user else None,
                group=self._user.gid if self._user else None,
                extra_groups=[] if self._user else None,
            )
        lifeline().watch(self._popen.pid, self._stop_signal)
        self._started_before = True


def kill_tree(pid: int) -> None:
    """Kills a process and all its descendants, also those that left its group."""
    with contextlib.suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        # Stopped first: between listing and killing it must not start another one.
        root.suspend()
        for process in [root, *root.children(recursive=True)]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def tail(log_file: Path, lines: int = LOG_TAIL_LINES) -> str:
    """Returns the last lines of a file, or a note when there are none."""
    try:
        text = log_file.read_text(errors="replace").rstrip()
    except FileNotFoundError:
        text = ""
    return "\n".join(text.splitlines()[-lines:]) or "(nothing was logged)"


def start_failure(name: str, reason: str, log_file: Path, advice: str) -> StackError:
    """Builds the error for a part that did not come up."""
    indented = "\n".join(f"  | {line}" for line in tail(log_file).splitlines())
    return StackError(f"{name} {reason}\nThe end of {log_file}:\n{indented}\nWhat to do: {advice}")
