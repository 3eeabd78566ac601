"""Where engines are measured: one Postgres, one Redis and one vendor, the same for all."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psycopg
import redis
import urllib3

from deploy.local import services
from deploy.local.processes import ManagedProcess, StackError
from deploy.local.service import Service
from deploy.local.stack import Stack
from deploy.local.waiting import LOOPBACK, free_port, wait_until
from tests.bench.engines import Engine
from tests.bench.work import BROKER, DATABASE, PLACE, RUN_DIR, STEPS, THREADS, VENDOR

#: Processes of each engine's worker.
PROCESSES: Final = 2
#: An engine whose workers fill up no further for this long has what it will have.
_FULL_AFTER_SECONDS: Final = 4.0
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0
#: A submitter that needs longer than this is stuck.
_PRODUCE_SECONDS: Final = 300.0


class Failed(Exception):
    """An engine did not do its jobs; the message says what is missing."""


class Vendor:
    """The vendor's process, from outside."""

    def __init__(self, directory: Path) -> None:
        port = free_port()
        self.url = f"http://{LOOPBACK}:{port}"
        self._http = urllib3.PoolManager(retries=False, timeout=10)
        self._process = ManagedProcess(
            "vendor",
            [sys.executable, "-m", "tests.bench.vendor", str(port)],
            env={"PYTHONPATH": str(Path(__file__).parents[2])},
            log_file=directory / "vendor.log",
        )

    def start(self) -> None:
        self._process.start()
        if not wait_until(self._answers, _START_SECONDS):
            raise StackError("the vendor of the measurements did not start")

    def stop(self) -> None:
        self._process.terminate()

    def _answers(self) -> bool:
        try:
            return bool(self.told())
        except urllib3.exceptions.HTTPError:
            return False

    def told(self) -> dict[str, int]:
        """Returns how many calls there were, how many of them not twice, and how many at once."""
        return self._ask("GET", "/")

    def forget(self) -> None:
        self._ask("DELETE", "/")

    def close_gate(self) -> None:
        self._ask("PUT", "/?gate=closed")

    def open_gate(self, *, delay: float) -> None:
        self._ask("PUT", f"/?gate=open&delay={delay}")

    def _ask(self, method: str, path: str) -> dict[str, int]:
        found: dict[str, int] = self._http.request(method, self.url + path).json()
        return found


class Trial:
    """One engine on a fresh database, with or without its workers."""

    def __init__(
        self,
        site: Site,
        engine: Engine,
        url: str,
        *,
        threads: int,
        processes: int,
        settings: Mapping[str, str],
    ) -> None:
        self.engine = engine
        self.threads = threads
        self.processes = processes
        self.url = url
        self._site = site
        self._connection = psycopg.connect(url, autocommit=True)
        self.environment = {
            **site.stack.environment,
            DATABASE: url,
            BROKER: site.stack.redis.url,
            VENDOR: site.vendor.url,
            THREADS: str(threads),
            RUN_DIR: str(site.stack.run_dir),
            "TRUNKLINE_DATABASE_URL": url,
            # How many jobs of one customer go at a time is a matter of fairness among many. Here
            # is one, who may use the workers alone.
            "TRUNKLINE_ORGANIZATION_CONCURRENCY": "1000000",
            **settings,
        }
        self._workers: list[ManagedProcess | Service] = []
        self.run("prepare")

    def close(self) -> None:
        self.stop()
        self._connection.close()

    @property
    def worker_pids(self) -> list[int]:
        """The processes that do jobs."""
        return self.pids[: self.processes]

    @property
    def pids(self) -> list[int]:
        """The same, and what else belongs to the engine: Trunkline's beat."""
        return [worker.pid for worker in self._workers if worker.pid is not None]

    def run(self, *arguments: str) -> str:
        """Runs the producer and returns what it prints."""
        return self._site.program("producer", self.engine.name, *arguments, env=self.environment)

    def submit(self, count: int, *, gap: float = 0.0) -> list[float]:
        """Submits jobs one after the other and returns how long each took, in milliseconds."""
        took: list[float] = json.loads(self.run(str(count), str(gap)).splitlines()[-1])
        return took

    def start(self) -> None:
        """Starts the workers; does not wait."""
        make = self._trunkline if self.engine.name == "trunkline" else self._others
        self._workers = make()
        for worker in self._workers:
            worker.launch() if isinstance(worker, Service) else worker.start()

    def _trunkline(self) -> list[ManagedProcess | Service]:
        around = services.Surroundings(
            environment=self.environment,
            run_dir=self._site.stack.run_dir,
            logs_dir=self._site.stack.logs_dir,
            broker_url=self._site.stack.redis.url,
        )
        workers = [
            services.worker(
                around, f"worker{place}", self.threads, app="tests.bench.trunkline_worker"
            )
            for place in range(self.processes)
        ]
        return [*workers, services.beat(around)]

    def _others(self) -> list[ManagedProcess | Service]:
        return [
            ManagedProcess(
                f"{self.engine.name}{place}",
                [sys.executable, "-m", self.engine.path],
                env={**self.environment, PLACE: str(place)},
                log_file=self._site.stack.logs_dir / f"{self.engine.name}{place}.log",
                cwd=self._site.stack.run_dir,
            )
            for place in range(self.processes)
        ]

    def stop(self) -> None:
        for worker in self._workers:
            worker.ask_to_stop()
        for worker in self._workers:
            if isinstance(worker, Service):
                worker.stop(_STOP_SECONDS)
            else:
                worker.finish_stop(_STOP_SECONDS)
        self._workers = []

    def wait_full(self, wanted: int) -> None:
        """Waits until the workers hold as many calls as they will at a closed gate."""
        seen, since = 0, time.monotonic()
        deadline = since + _START_SECONDS
        while seen < wanted and (seen == 0 or time.monotonic() - since < _FULL_AFTER_SECONDS):
            self._require_workers()
            if time.monotonic() > deadline:
                raise Failed(f"made no call within {_START_SECONDS:.0f} s of its start")
            now = self._site.vendor.told()["in_flight"]
            if now > seen:
                seen, since = now, time.monotonic()
            time.sleep(0.05)

    def wait_done(self, count: int, *, seconds: float) -> None:
        """Waits until so many jobs are done; asks the database only when the vendor is done."""
        deadline = time.monotonic() + seconds
        while self._site.vendor.told()["distinct"] < count * len(STEPS) or self.done() < count:
            self._require_workers()
            if time.monotonic() > deadline:
                told = self._site.vendor.told()
                raise Failed(f"did {self.done()} of {count} jobs in {seconds:.0f} s ({told})")
            time.sleep(0.02)

    def wait_called(self, count: int, *, seconds: float) -> None:
        """Waits until the vendor was called so often; does not ask the database, however large."""
        deadline = time.monotonic() + seconds
        while (told := self._site.vendor.told())["distinct"] < count:
            self._require_workers()
            if time.monotonic() > deadline:
                raise Failed(f"made {told['distinct']} of {count} calls in {seconds:.0f} s")
            time.sleep(0.02)

    def _require_workers(self) -> None:
        for worker in self._workers:
            if not worker.alive:
                raise Failed(f"its worker ended, exit code {worker.exit_code}: {worker.log_file}")

    def done(self) -> int:
        """Returns how many jobs are done."""
        query = f"SELECT count(finished_at) FROM {self.engine.table}"  # noqa: S608 -- ours
        return int(self._query(query)[0][0])

    def open(self) -> int:
        """Returns how many jobs are not done."""
        query = f"SELECT count(*) FROM {self.engine.table} WHERE finished_at IS NULL"  # noqa: S608 -- ours
        return int(self._query(query)[0][0])

    def last_end(self) -> float:
        """Returns when the last job ended, as Unix time."""
        query = f"SELECT extract(epoch FROM max(finished_at)) FROM {self.engine.table}"  # noqa: S608 -- ours
        return float(self._query(query)[0][0])

    def latest(self, count: int) -> list[float]:
        """Returns how long the last jobs took from their row's insert to their end, in ms."""
        query = (
            "SELECT extract(epoch FROM finished_at - created_at) * 1000"  # noqa: S608 -- ours
            f" FROM {self.engine.table} ORDER BY created_at DESC LIMIT {count}"
        )
        return [float(took) for (took,) in self._query(query)]

    def _query(self, query: str) -> list[tuple[Any, ...]]:
        return self._connection.execute(query.encode()).fetchall()


class Site:
    """The servers, and what is measured on them."""

    def __init__(self, directory: Path) -> None:
        # Durable as in production.
        self.stack = Stack(
            directory, without={"sandbox", "api", "worker1", "beat", "flower"}, fsync=True
        )
        self.vendor = Vendor(directory)

    @contextmanager
    def trial(
        self,
        engine: Engine,
        *,
        threads: int,
        processes: int = PROCESSES,
        settings: Mapping[str, str] | None = None,
    ) -> Iterator[Trial]:
        """Gives an engine with empty tables, an empty broker and a vendor that answers at once."""
        redis.Redis.from_url(self.stack.redis.url).flushall()
        self.vendor.open_gate(delay=0)
        self.vendor.forget()
        name = f"bench_{engine.name}"
        self.stack.postgres.create_database(name)
        try:
            trial = Trial(
                self,
                engine,
                self.stack.postgres.url(name),
                threads=threads,
                processes=processes,
                settings=settings or {},
            )
            try:
                yield trial
            finally:
                trial.close()
        finally:
            self.stack.postgres.drop_database(name)

    @contextmanager
    def api(self, trial: Trial) -> Iterator[tuple[str, str]]:
        """Gives the address of an API on a trial's database, and a key."""
        url = f"http://{LOOPBACK}:{free_port()}"
        around = services.Surroundings(
            environment=trial.environment,
            run_dir=self.stack.run_dir,
            logs_dir=self.stack.logs_dir,
            broker_url=self.stack.redis.url,
        )
        arguments = ("admin", "bootstrap", "--organization", "Bench", "--json")
        told = self._run(["worker.cli", *arguments], env=trial.environment)
        service = services.api(around, url)
        service.start()
        try:
            yield url, json.loads(told)["api_key"]
        finally:
            service.stop()

    def program(self, name: str, *arguments: str, env: Mapping[str, str]) -> str:
        """Runs a program of this package to its end and returns what it prints."""
        return self._run([f"tests.bench.{name}", *arguments], env=env)

    def _run(self, module: list[str], *, env: Mapping[str, str]) -> str:
        try:
            done = subprocess.run(  # noqa: S603 -- our own module and arguments
                [sys.executable, "-m", *module],
                env=env,
                cwd=self.stack.run_dir,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PRODUCE_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Failed(f"{' '.join(module)} did not end") from None
        if done.returncode != 0:
            raise Failed(f"{' '.join(module)} failed: {done.stderr.strip()[-2000:]}")
        return done.stdout


@contextmanager
def opened() -> Iterator[Site]:
    """Starts the servers in a directory of their own and stops them."""
    with tempfile.TemporaryDirectory(prefix="trunkline-", ignore_cleanup_errors=True) as directory:
        site = Site(Path(directory))
        with site.stack:
            site.vendor.start()
            try:
                yield site
            finally:
                site.vendor.stop()
