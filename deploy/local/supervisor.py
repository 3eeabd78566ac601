"""Starts again what died, and remembers that it did."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable


class Supervised(Protocol):
    """What a supervisor needs to know of a process."""

    @property
    def name(self) -> str: ...  # noqa: D102 - the name says it
    @property
    def wanted(self) -> bool: ...  # noqa: D102 - the name says it
    @property
    def alive(self) -> bool: ...  # noqa: D102 - the name says it
    @property
    def exit_code(self) -> int | None: ...  # noqa: D102 - the name says it
    def revive(self) -> bool:
        """Starts it again if it is wanted but dead; tells whether it did."""


@dataclass(frozen=True, kw_only=True)
class Restart:
    """One restart: what died, how, when, and what stood in the way of starting it again."""

    name: str
    exit_code: int | None
    at: datetime
    problem: str | None = None


@dataclass
class _Backoff:
    failures: int = 0
    not_before: float = 0.0
    last_start: float = field(default_factory=time.monotonic)


class Supervisor:
    """Watches processes from a thread of its own; a context manager."""

    def __init__(
        self,
        processes: Iterable[Supervised],
        *,
        on_restart: Callable[[Restart], None] | None = None,
        every_seconds: float = 0.2,
        first_delay_seconds: float = 0.2,
        longest_delay_seconds: float = 5.0,
    ) -> None:
        self._backoffs = [(process, _Backoff()) for process in processes]
        self._on_restart = on_restart
        self._every = every_seconds
        self._first_delay = first_delay_seconds
        self._longest_delay = longest_delay_seconds
        self._restarts: list[Restart] = []
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """Every restart so far, oldest first."""
        return tuple(self._restarts)

    def start(self) -> None:
        """Starts watching."""
        if self._thread is None:
            self._ending.clear()
            self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Stops watching; the processes stay as they are."""
        if self._thread is not None:
            self._ending.set()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _watch(self) -> None:
        while not self._ending.wait(self._every):
            for process, backoff in self._backoffs:
                if process.wanted and not process.alive and not self._ending.is_set():
                    self._restart(process, backoff)

    def _restart(self, process: Supervised, backoff: _Backoff) -> None:
        now = time.monotonic()
        if backoff.not_before == 0.0:
            # A process that ran for a while starts again at once-ish; one that dies on start waits.
            if now - backoff.last_start > 2 * self._longest_delay:
                backoff.failures = 0
            delay = min(self._first_delay * 2**backoff.failures, self._longest_delay)
            backoff.failures += 1
            backoff.not_before = now + delay
        if now < backoff.not_before:
            return
        backoff.not_before = 0.0
        exit_code = process.exit_code
        problem = None
        try:
            if not process.revive():
                return
        except Exception as exc:  # noqa: BLE001 - whatever stood in the way, the watch goes on
            problem = str(exc)
        backoff.last_start = time.monotonic()
        restart = Restart(
            name=process.name, exit_code=exit_code, at=datetime.now(UTC), problem=problem
        )
        self._restarts.append(restart)
        if self._on_restart is not None:
            self._on_restart(restart)
