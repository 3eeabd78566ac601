"""The whole stack: what it consists of, in which order it starts, where everything listens."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
from cryptography.fernet import Fernet

from deploy.local import environment as env
from deploy.local import services
from deploy.local.directory import DirectoryLock, private_file
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.processes import StackError, start_failure
from deploy.local.redis import EmbeddedRedis
from deploy.local.supervisor import Restart, Supervisor
from deploy.local.waiting import LOOPBACK, free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from deploy.local.service import Service

    Part = EmbeddedPostgres | EmbeddedRedis | Service

PROJECT: Final = Path(__file__).resolve().parents[2]
DATABASE: Final = "trunkline"
FLOWER_USER: Final = "operator"
COMMAND_SECONDS: Final = 60.0
STOP_SECONDS: Final = 4.0


#: Where the vendors would reach the callbacks, were they the real ones.
PUBLIC_URL = "https://voice.trunkline.example"


@dataclass(frozen=True, kw_only=True)
class Ports:
    """The ports to take when they are free; None or taken: some free one."""

    api: int | None = None
    flower: int | None = None
    sandbox: int | None = None


class Stack:
    """Postgres, Redis, sandbox, API, workers, beat and Flower; a context manager.

    Entering it starts every part except those named in `without`, which can be started later, each
    with its own start, stop, kill and restart: `postgres`, `redis`, `sandbox`, `api`, `workers`,
    `beat`, `flower`. The `migrations` can be left out, too, of a database that has them. With
    `supervise`, what dies is started again; without it (the default, for tests) a killed part stays
    down until it is started.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        profile: env.Profile = "sandbox",
        env_overrides: Mapping[str, str] | None = None,
        workers: int = 1,
        worker_concurrency: int = 32,
        without: Collection[str] = (),
        ports: Ports | None = None,
        fsync: bool = True,
        supervise: bool = False,
        sandbox_seed: Mapping[str, Any] | None = None,
        on_started: Callable[[str, float], None] | None = None,
        on_restart: Callable[[Restart], None] | None = None,
    ) -> None:
        inherited = env.child_environment(profile, os.environ)
        ports = ports or Ports()
        self.profile = profile
        self.state_dir = state_dir.resolve()
        self.logs_dir = self.state_dir / "logs"
        self.run_dir = self.state_dir / "run"
        self.api_url = f"http://{LOOPBACK}:{free_port(ports.api)}"
        self.flower_url = f"http://{LOOPBACK}:{free_port(ports.flower)}"
        self.sandbox_url = f"http://{LOOPBACK}:{free_port(ports.sandbox)}"
        self.flower_user = FLOWER_USER
        self.flower_password = self._secret("flower-password")
        self.postgres = EmbeddedPostgres(
            self.state_dir / "postgres", fsync=fsync, log_file=self.logs_dir / "postgres.log"
        )
        self.redis = EmbeddedRedis(self.state_dir / "redis", log_file=self.logs_dir / "redis.log")
        #: What every child process gets.
        self.environment = {**inherited, **self._own_environment(), **(env_overrides or {})}

        around = services.Surroundings(
            environment=self.environment,
            run_dir=self.run_dir,
            logs_dir=self.logs_dir,
            broker_url=self.environment["TRUNKLINE_BROKER_URL"],
        )
        self.sandbox = services.sandbox(around, self.sandbox_url, self.seed_sandbox)
        self.api = services.api(around, self.api_url)
        names = [f"worker{number + 1}" for number in range(workers)]
        #: Where each worker and beat tell what they count; the API tells it at /metrics.
        self.metrics_urls = {
            name: f"http://{LOOPBACK}:{free_port(None)}/metrics" for name in (*names, "beat")
        }
        self.workers = tuple(
            services.worker(around, name, worker_concurrency, metrics_url=self.metrics_urls[name])
            for name in names
        )
        self.beat = services.beat(around, metrics_url=self.metrics_urls["beat"])
        self.flower = services.flower(
            around, self.flower_url, f"{FLOWER_USER}:{self.flower_password}"
        )
        self.parts: tuple[Part, ...] = (
            *(self.postgres, self.redis, self.sandbox, self.api),
            *(*self.workers, self.beat, self.flower),
        )
        self._lock = DirectoryLock(self.state_dir)
        self._without = {*without, *({"sandbox"} if profile == "live" else ())}
        self._sandbox_seed = dict(sandbox_seed or {})
        self._on_started = on_started or (lambda _name, _seconds: None)
        self._supervisor = Supervisor(self.parts, on_restart=on_restart) if supervise else None

    @property
    def database_url(self) -> str:
        """The URL of the stack's database."""
        return self.postgres.url(DATABASE)

    @property
    def restarts(self) -> tuple[Restart, ...]:
        """What the supervisor had to start again, oldest first."""
        return self._supervisor.restarts if self._supervisor else ()

    def part(self, name: str) -> Part:
        """Returns a part by its name: postgres, redis, sandbox, api, worker1, ..., beat, flower."""
        return {part.name: part for part in self.parts}[name]

    def start(self) -> None:
        """Starts every part that is not left out, and waits until each is ready.

        Raises:
            DirectoryInUseError: another process runs a stack in the state directory.
            StackError: a part did not come up; everything is stopped again.
        """
        self._lock.acquire()
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stops everything in reverse order, within ten seconds."""
        if self._supervisor:
            self._supervisor.stop()
        with contextlib.ExitStack() as last_to_first:
            last_to_first.callback(self._lock.release)
            last_to_first.callback(self.postgres.stop)
            last_to_first.callback(self.redis.stop)
            last_to_first.callback(self.sandbox.stop, 1.0)
            # These stop side by side: each may use the whole time.
            clients = (self.flower, self.beat, *self.workers, self.api)
            for client in clients:
                client.ask_to_stop()
            deadline = time.monotonic() + STOP_SECONDS
            for client in clients:
                client.stop(max(0.0, deadline - time.monotonic()))

    def migrate(self) -> None:
        """Creates the database if need be and brings its tables up to date."""
        if not self.postgres.has_database(DATABASE):
            self.postgres.create_database(DATABASE)
        self.command("migrate", "admin", "migrate")

    def bootstrap(self, organization: str) -> dict[str, str]:
        """Creates an organisation with its first key: `organization_id` and `api_key`."""
        arguments = ("admin", "bootstrap", "--organization", organization, "--json")
        created: dict[str, str] = json.loads(self.command("bootstrap", *arguments))
        return created

    def command(self, name: str, *arguments: str) -> str:
        """Runs the `trunkline` command in the stack's environment and returns what it printed.

        Raises:
            StackError: the command failed.
        """
        log_file = self.logs_dir / f"{name}.log"
        with log_file.open("wb") as log:
            try:
                done = subprocess.run(  # noqa: S603 - our own module and arguments
                    [sys.executable, "-m", "worker.cli", *arguments],
                    env=self.environment,
                    cwd=self.run_dir,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    timeout=COMMAND_SECONDS,
                    check=False,
                )
                reason = f"failed with exit code {done.returncode}" if done.returncode else None
            except subprocess.TimeoutExpired:
                reason = f"did not end within {COMMAND_SECONDS:.0f} s"
        if reason is not None:
            raise start_failure(name, reason, log_file, "read the log above, then start again")
        return done.stdout.decode()

    def seed_sandbox(self, seed: Mapping[str, Any] | None = None) -> None:
        """Tells the sandbox which vendor accounts exist, LiveKit's among them.

        Happens by itself, with the `sandbox_seed` of this stack, whenever the sandbox has started.
        """
        livekit = {
            "api_key": self.environment["LIVEKIT_API_KEY"],
            "api_secret": self.environment["LIVEKIT_API_SECRET"],
        }
        accounts = {"livekit": livekit, **(self._sandbox_seed if seed is None else seed)}
        self._tell_sandbox("seed", accounts)
        self._tell_sandbox("public-urls", {PUBLIC_URL: self.api_url})

    def _tell_sandbox(self, command: str, document: Mapping[str, Any]) -> None:
        url = f"{self.sandbox_url}/_sandbox/{command}"
        answer = httpx.post(url, json=document, trust_env=False)
        if answer.is_error:
            raise StackError(f"The sandbox refused its {command}: {answer.text}")

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _start(self) -> None:
        for directory in (self.run_dir, self.logs_dir):
            directory.mkdir(parents=True, exist_ok=True)
        has_sandbox = "sandbox" not in self._without
        if has_sandbox:
            self.sandbox.launch()  # imports while the servers start
        self._timed("postgres", self.postgres.start)
        if "redis" not in self._without:
            self._timed("redis", self.redis.start)
        if "migrations" not in self._without:
            self._timed("migrations", self.migrate)
        if has_sandbox:
            self._timed("sandbox", self.sandbox.wait_ready)
        begun = time.monotonic()
        clients = [
            client
            for client in (self.api, *self.workers, self.beat, self.flower)
            if client.name not in self._without
        ]
        for client in clients:
            client.launch()
        for client in clients:
            client.wait_ready()
            self._on_started(client.name, time.monotonic() - begun)
        if self._supervisor:
            self._supervisor.start()

    def _timed(self, name: str, action: Callable[[], None]) -> None:
        begun = time.monotonic()
        action()
        self._on_started(name, time.monotonic() - begun)

    def _secret(self, name: str) -> str:
        return private_file(self.state_dir / name, lambda: secrets.token_urlsafe(24))

    def _own_environment(self) -> dict[str, str]:
        vault_key = private_file(
            self.state_dir / "vault-key", lambda: Fernet.generate_key().decode()
        )
        own = {
            "PYTHONPATH": str(PROJECT),
            "TRUNKLINE_ENV": "development",
            "TRUNKLINE_DATABASE_URL": self.database_url,
            "TRUNKLINE_BROKER_URL": self.redis.url,
            "TRUNKLINE_VAULT_KEYS": vault_key,
            "TRUNKLINE_LOG_FORMAT": "json",
        }
        if self.profile == "sandbox":
            # The vendors refuse a webhook URL on loopback, and so does the sandbox.
            own["TRUNKLINE_PUBLIC_BASE_URL"] = PUBLIC_URL
            own["TRUNKLINE_SELF_TEST_BASE_URL"] = self.api_url
            own["TRUNKLINE_NOTIFY_LOOPBACK"] = "true"
            own |= env.SANDBOX_ALLOWANCES
            own |= env.sandbox_vendors(self.sandbox_url, self._secret("livekit-secret"))
        return own
