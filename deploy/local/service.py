"""A child process that is up only when it answers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from deploy.local.processes import ManagedProcess, start_failure
from deploy.local.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

STOP_GRACE_SECONDS = 4.0
_PING_SECONDS = 0.5


class Service:
    """A managed process with a readiness check; has the same verbs as the embedded servers."""

    def __init__(
        self,
        process: ManagedProcess,
        *,
        ready: Callable[[], bool],
        timeout_seconds: float,
        advice: str,
        on_ready: Callable[[], None] | None = None,
    ) -> None:
        self._process = process
        self._ready = ready
        self._timeout = timeout_seconds
        self._advice = advice
        self._on_ready = on_ready

    @property
    def name(self) -> str:
        """The part's name: its log file carries it."""
        return self._process.name

    @property
    def log_file(self) -> Path:
        """Where its output goes."""
        return self._process.log_file

    @property
    def wanted(self) -> bool:
        """Whether it should be running."""
        return self._process.wanted

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process.alive

    @property
    def exit_code(self) -> int | None:
        """How the last run ended, or None while it runs."""
        return self._process.exit_code

    @property
    def pid(self) -> int | None:
        """The process id of the last start."""
        return self._process.pid

    def launch(self) -> None:
        """Starts the process and returns at once."""
        self._process.start()

    def wait_ready(self) -> None:
        """Waits until it answers.

        Raises:
            StackError: it ended, or did not answer in time.
        """
        in_time = wait_until(lambda: not self.alive or self._ready(), self._timeout)
        if not (in_time and self.alive):
            reason = (
                f"ended with exit code {self.exit_code} while starting"
                if in_time
                else f"was not ready after {self._timeout:.0f} s"
            )
            raise start_failure(self.name, reason, self.log_file, self._advice)
        if self._on_ready is not None:
            self._on_ready()

    def start(self) -> None:
        """Starts the process and waits until it answers."""
        self.launch()
        self.wait_ready()

    def revive(self) -> bool:
        """Starts it again if it is wanted but dead; tells whether it did."""
        if not self._process.revive():
            return False
        if self._on_ready is not None:
            self.wait_ready()
        return True

    def ask_to_stop(self) -> None:
        """Sends the stop signal and returns at once."""
        self._process.ask_to_stop()

    def stop(self, grace_seconds: float = STOP_GRACE_SECONDS) -> None:
        """Stops it, by SIGKILL when the grace is over; it stays down."""
        self._process.terminate(grace_seconds)

    def kill(self) -> None:
        """Kills it with SIGKILL; a running supervisor starts it again."""
        self._process.kill()

    def restart(self) -> None:
        """Stops it, starts it and waits until it answers."""
        self.stop()
        self.start()


def worker_node(name: str) -> str:
    """Returns the name under which Celery knows a worker of this machine."""
    return f"{name}@{socket.gethostname()}"


def worker_answers(broker_url: str, node: str) -> bool:
    """Tells whether a worker consumes: it answers a ping only once it does."""
    with Celery(set_as_current=False) as app:
        # Not broker_url: CELERY_BROKER_URL in the caller's environment would win over that.
        app.conf.update(broker_read_url=broker_url, broker_write_url=broker_url)
        # Without these a ping waits for seconds when there is no broker.
        app.conf.broker_transport_options = {"max_retries": 1, "interval_start": 0}
        try:
            replies = app.control.ping([node], timeout=_PING_SECONDS)
        except (OperationalError, OSError, RedisError):
            # The broker may go away half-way through the answer.
            return False
    return any(node in reply for reply in replies)
