"""What processes and servers use: CPU, memory, statements, transactions, messages."""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
import psycopg
import redis

#: A statement in Postgres' log, of the simple and of the extended protocol.
_STATEMENT: Final = re.compile(r"\[(\d+)\] LOG:  (?:statement|execute [^:]+): (.*)")
_BEGIN: Final = re.compile(r"(?i)(begin|start transaction)\b")
_END: Final = re.compile(r"(?i)(commit|rollback|end|abort)\b(?! to)")
#: Statements that are part of a transaction's frame, not of its work.
_FRAME: Final = re.compile(
    r"(?i)(begin|start transaction|commit|rollback|end|abort|savepoint|release)\b"
)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Returns the CPU time of processes and everything they have started, also what has ended."""
    total = 0.0
    for process in _trees(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.cpu_times()
            total += used.user + used.system + used.children_user + used.children_system
    return total


def memory_mb(pids: Iterable[int]) -> tuple[float, float]:
    """Returns resident memory in MB, with shared pages counted in each process and once in all."""
    resident = proportional = 0
    for process in _trees(pids):
        with contextlib.suppress(psutil.NoSuchProcess):
            used = process.memory_full_info()
            resident += used.rss
            # Only Linux tells; elsewhere both are the same.
            proportional += getattr(used, "pss", used.rss)
    return resident / 2**20, proportional / 2**20


def _trees(pids: Iterable[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(pid)
            found += [process, *process.children(recursive=True)]
    return found


@dataclass(frozen=True, kw_only=True)
class Talk:
    """What was said to the servers, in how many seconds."""

    seconds: float
    #: Statements that do something, without those that begin and end a transaction.
    statements: int
    transactions: int
    #: Messages that were put into a queue of Redis.
    messages: int
    broker_commands: int

    def a_second(self) -> dict[str, float]:
        """Returns how much of each was said in a second."""
        return {name: getattr(self, name) / self.seconds for name in _COUNTS}

    def a_job(self, jobs: int, *, idle: Talk) -> dict[str, float]:
        """Returns how much of each a job needed, without what is said when there is none."""
        said = idle.a_second()
        return {
            name: max(0.0, getattr(self, name) - said[name] * self.seconds) / jobs
            for name in _COUNTS
        }


_COUNTS: Final = ("statements", "transactions", "messages", "broker_commands")


class Listener:
    """Counts what is said to Postgres and Redis while something is done."""

    def __init__(self, database_url: str, broker_url: str, log_file: Path) -> None:
        self._database_url = database_url
        self._broker = redis.Redis.from_url(broker_url)
        self._log_file = log_file

    def during(self, work: Callable[[], None]) -> Talk:
        """Does it and returns what was said meanwhile."""
        self._log("all")
        try:
            offset = self._log_file.stat().st_size
            self._broker.config_resetstat()
            started = time.monotonic()
            work()
            seconds = time.monotonic() - started
            calls = self._broker.info("commandstats")
            end = self._log_file.stat().st_size
        finally:
            self._log("none")
        with self._log_file.open("rb") as log:
            log.seek(offset)
            said = log.read(end - offset).decode(errors="replace")
        statements, transactions = count_statements(said.splitlines())
        commands = {name.removeprefix("cmdstat_"): one["calls"] for name, one in calls.items()}
        return Talk(
            seconds=seconds,
            statements=statements,
            transactions=transactions,
            messages=commands.get("lpush", 0) + commands.get("rpush", 0),
            broker_commands=sum(
                count for name, count in commands.items() if not name.startswith("config")
            ),
        )

    def _log(self, what: str) -> None:
        with psycopg.connect(self._database_url, autocommit=True) as connection:
            connection.execute("SET log_statement = 'none'")
            connection.execute(f"ALTER SYSTEM SET log_statement = '{what}'".encode())
            connection.execute("SELECT pg_reload_conf()")
        # Each session takes it over before its next statement, once it has been told.
        time.sleep(0.3)


def count_statements(log: Iterable[str]) -> tuple[int, int]:
    """Counts statements and transactions in Postgres' log.

    A statement outside of BEGIN and COMMIT is a transaction by itself.
    """
    statements = transactions = 0
    open_in: Counter[str] = Counter()
    for line in log:
        found = _STATEMENT.search(line)
        if found is None:
            continue
        session, statement = found.groups()
        if _BEGIN.match(statement):
            open_in[session] = 1
            transactions += 1
        elif _END.match(statement):
            open_in[session] = 0
        if _FRAME.match(statement):
            continue
        statements += 1
        transactions += not open_in[session]
    return statements, transactions
