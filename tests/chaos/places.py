"""Every place where a secret must not be: what is read of it for the search."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import urlsplit

import httpx
import psycopg
import redis
from celery import Celery
from pydantic import SecretStr

from tests.chaos.accounts import MARKER
from tests.chaos.search import Search
from tests.rig import Rig, eventually
from worker.db.vault import Vault

#: The vault's columns.
SEALED: Final = ("sealed", "replaced_sealed")
#: Names under which the vault holds passwords and keys; PINs are planted, and too short to be made.
_SECRET_NAME: Final = re.compile("password|secret|key")
_TABLES: Final = (
    "SELECT table_schema, table_name FROM information_schema.tables "
    "WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema')"
)
#: Pages of Flower that show tasks one by one; all tasks are in one document, too.
_TASK_PAGES: Final = 20


class Spool:
    """Text that comes in while a run goes on, kept in a file until all secrets are known."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._file: IO[str] = path.open("w", errors="replace")

    def add(self, text: str) -> None:
        """Keeps a text."""
        with self._lock:
            self._file.write(text + "\n")

    def texts(self) -> Iterator[str]:
        """Returns what was kept, a line at a time."""
        with self._lock:
            self._file.flush()
        with self.path.open(errors="replace") as file:
            yield from file

    def close(self) -> None:
        """Ends it."""
        self._file.close()


class RedisListener:
    """Spools every command that Redis gets, as Redis itself saw it, over all its restarts."""

    def __init__(self, url: str, spool: Spool) -> None:
        parts = urlsplit(url)
        self._address = str(parts.hostname), int(parts.port or 0)
        self._spool = spool
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listener", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stops listening."""
        self._ending.set()
        self._thread.join(timeout=5)

    def _listen(self) -> None:
        while not self._ending.wait(0.1):
            # By hand: the client library breaks when its connection does.
            with (
                contextlib.suppress(OSError),
                socket.create_connection(self._address, timeout=1) as connection,
            ):
                connection.sendall(b"MONITOR\r\n")
                self._hear(connection)

    def _hear(self, connection: socket.socket) -> None:
        rest = b""
        while not self._ending.is_set():
            try:
                heard = connection.recv(1 << 16)
            except TimeoutError:
                continue
            if not heard:
                return
            *lines, rest = (rest + heard).split(b"\n")
            for line in lines:
                self._spool.add(line.decode(errors="replace"))


def secrets_of(rig: Rig, planted: Mapping[str, str]) -> dict[str, str]:
    """Returns secret → its name: those of the stack, and those that the product made itself.

    The latter are in the vault, which is opened with the stack's key.
    """
    stack, found = rig.stack, dict(planted)
    vault_key = stack.environment["TRUNKLINE_VAULT_KEYS"]
    own = {
        "the vault's key": vault_key,
        "LiveKit's secret": stack.environment["LIVEKIT_API_SECRET"],
        "Flower's password": stack.flower_password,
        "the API key": rig.api.headers["Authorization"].split("_", 2)[2],
    }
    found |= {value: name for name, value in own.items()}
    vault = Vault([SecretStr(vault_key)])
    for table in ("import_jobs", "organizations"):
        for (sealed,) in rig.sql(f"SELECT sealed FROM {table} WHERE sealed IS NOT NULL"):  # noqa: S608 -- ours
            for name, value in _named(vault.open(bytes(sealed))):
                if _SECRET_NAME.search(name) and not value.startswith(MARKER):
                    found[value.removeprefix("whsec_")] = f"{name} of {table}"
    return found


def _named(document: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Returns every text of a document with the name that it stands under."""
    if isinstance(document, Mapping):
        for inner, value in document.items():
            yield from _named(value, str(inner))
    elif isinstance(document, list):
        for value in document:
            yield from _named(value, name)
    elif isinstance(document, str) and document:
        yield name, document


class Places:
    """Where a run looks for secrets, and the proof that it looks."""

    def __init__(self, rig: Rig, answers: Spool, commands: Spool) -> None:
        self._rig = rig
        self._spools = {"API answers": answers, "Redis commands": commands}

    def plant(self) -> None:
        """Leaves a secret in every place, which the search has to find."""
        for name, spool in self._spools.items():
            spool.add(_canary(name))
        stack = self._rig.stack
        (stack.logs_dir / "canary.log").write_text(_canary("logs"))
        self._rig.sql(f"CREATE TABLE chaos.canary AS SELECT '{_canary('database')}'::bytea AS text")
        with redis.Redis.from_url(stack.redis.url) as client:
            client.hset("canary", "field", json.dumps(_canary("Redis keys")))
        # A worker refuses it, and Flower shows what it was asked to do.
        with Celery(set_as_current=False) as app:
            app.conf.update(broker_url=stack.redis.url, task_ignore_result=True)
            app.send_task("imports.start", args=[_canary("Flower")], queue="imports")
        with self._flower() as flower:
            eventually(lambda: _canary("Flower") in flower.get("/api/tasks?limit=20").text)

    def find(self, search: Search) -> tuple[list[str], list[str]]:
        """Returns where secrets are, and the places in which the planted one was not found."""
        found: dict[str, set[str]] = {}
        for place, text in self._texts():
            found.setdefault(place, set()).update(search.find(text))
        canaries = {f"{MARKER}-{_word(place)}": place for place in _PLACES}
        blind = [place for name, place in canaries.items() if name not in found.get(place, set())]
        secrets = [
            f"{name} in {place}"
            for place, names in found.items()
            for name in sorted(names - canaries.keys())
        ]
        return sorted(secrets), blind

    def _texts(self) -> Iterator[tuple[str, str]]:
        for name, spool in self._spools.items():
            yield from ((name, text) for text in spool.texts())
        yield from (("Redis keys", text) for text in self._redis_keys())
        stack = self._rig.stack
        for path in stack.redis.data_dir.rglob("*.aof"):
            yield "Redis' file", path.read_text(errors="replace")
        for path in stack.logs_dir.glob("*.log"):
            with path.open(errors="replace") as log:
                yield from (("logs", line) for line in log)
        yield from (("database", row) for row in self._rows())
        with self._flower() as flower:
            yield from (("Flower", text) for text in _pages(flower))

    def _redis_keys(self) -> Iterator[str]:
        with redis.Redis.from_url(self._rig.stack.redis.url, decode_responses=True) as client:
            for key in client.scan_iter():
                yield str(key)
                match client.type(key):
                    case "string":
                        yield str(client.get(key))
                    case "list":
                        yield from map(str, client.lrange(key, 0, -1))
                    case "hash":
                        yield str(client.hgetall(key))
                    case "set":
                        yield str(client.smembers(key))
                    case "zset":
                        yield str(client.zrange(key, 0, -1))
                    case other:
                        msg = f"a Redis key of the type {other} was not searched"
                        raise AssertionError(msg)

    def _rows(self) -> Iterator[str]:
        """Every row of every table but the vault's columns."""
        vault = "".join(f" - '{name}'" for name in SEALED)
        with psycopg.connect(self._rig.stack.database_url, autocommit=True) as connection:
            for schema, table in connection.execute(_TABLES).fetchall():
                query = f'SELECT (to_jsonb(t){vault})::text FROM "{schema}"."{table}" t'  # noqa: S608 -- catalogue
                yield from (row for (row,) in connection.execute(query.encode()))

    def _flower(self) -> httpx.Client:
        stack = self._rig.stack
        login = (stack.flower_user, stack.flower_password)
        return httpx.Client(base_url=stack.flower_url, auth=login, trust_env=False, timeout=60)


#: Places that hold a planted secret, and its word there.
_PLACES: Final = (*("API answers", "Redis commands", "Redis keys", "logs", "database", "Flower"),)


def _word(place: str) -> str:
    return "canary" + place.lower().replace(" ", "")


def _canary(place: str) -> str:
    return f"{MARKER}-{_word(place)}-00000"


def _pages(flower: httpx.Client) -> Iterator[str]:
    def get(path: str) -> Any:
        answer = flower.get(path)
        assert answer.is_success, f"Flower answers {answer.status_code} at {path}"
        return answer

    tasks = get("/api/tasks?limit=100000")
    yield tasks.text
    for path in ("/", "/tasks", "/workers", "/broker", "/api/workers?refresh=1"):
        yield get(path).text
    for task_id in [*tasks.json()][:_TASK_PAGES]:
        yield get(f"/api/task/info/{task_id}").text
        yield get(f"/task/{task_id}").text
