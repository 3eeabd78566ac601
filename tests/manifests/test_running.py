"""The manifests' own commands, with their own settings, import a number.

Each is started as a process. Only hosts, ports, paths and secrets are put in place of those that
the operator, or the orchestrator, would bring; two of the three run as production.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from deploy.local.postgres import EmbeddedPostgres
from deploy.local.processes import ManagedProcess
from deploy.local.redis import redis_program
from deploy.local.sandbox_account import carrier_order
from deploy.local.waiting import free_port, http_status
from tests.manifests import reading
from tests.manifests.reading import Part, Probe
from tests.rig import eventually

BIN: Final = Path(sys.executable).parent
#: What runs for as long as the deployment does.
LASTING: Final = ("api", "worker", "beat", "flower")
READY_SECONDS: Final = 60.0
LOGIN: Final = f"operator:{secrets.token_hex(16)}"
_METRICS: Final = "TRUNKLINE_METRICS_PORT"
_HOSTS: Final = re.compile(r"\b0\.0\.0\.0\b")


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where the parts of one test are, in the place of where the manifests have them."""

    directory: Path
    ports: Mapping[str, int]
    #: Hosts and secrets that an operator fills in, or another machine has.
    environment: Mapping[str, str]

    def part(self, part: Part) -> Part:
        return replace(
            part,
            command=tuple(map(self._word, part.command)),
            environment={name: self._word(text) for name, text in part.environment.items()}
            | {
                # A worker is found as what is installed here, and loopback without a proxy.
                "PATH": f"{BIN}:{os.environ.get('PATH', os.defpath)}",
                "PYTHONPATH": str(Path(__file__).parents[2]),
                **{key: text for key, text in self.environment.items() if key in part.environment},
                # Each pod has an address of its own; all processes of this machine have one.
                **({_METRICS: str(free_port())} if _METRICS in part.environment else {}),
            },
            probes=tuple(
                Probe(command=tuple(map(self._word, one.command)), url=self._word(one.url))
                for one in part.probes
            ),
        )

    def _word(self, text: str) -> str:
        text = _HOSTS.sub("127.0.0.1", text)
        # First: this tree may itself be there.
        text = text.replace("/tmp/", f"{self.directory}/")  # noqa: S108 -- the pod's own
        text = text.replace("/opt/trunkline/bin", str(BIN))
        for port, taken in self.ports.items():
            text = re.sub(rf"\b{port}\b", str(taken), text)
        return text


@contextmanager
def _process(name: str, part: Part, place: Place) -> Iterator[ManagedProcess]:
    program = part.command[0]
    process = ManagedProcess(
        name,
        [program if "/" in program else str(BIN / program), *part.command[1:]],
        env=part.environment,
        log_file=place.directory / f"{name}.log",
        cwd=place.directory,
    )
    process.start()
    try:
        yield process
    finally:
        process.kill()


def _run(command: Sequence[str], part: Part, place: Place) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- the manifest's
        command,
        env=dict(part.environment),
        cwd=place.directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def _trunkline(part: Part, place: Place, *arguments: str) -> Any:
    done = _run([str(BIN / "trunkline"), *arguments], part, place)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _is_well(probe: Probe, part: Part, place: Place) -> bool:
    if probe.url:
        return http_status(probe.url) == 200
    return _run(probe.command, part, place).returncode == 0


# What stands beside the manifests


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgres]:
    with (
        tempfile.TemporaryDirectory(prefix="trunkline-", ignore_cleanup_errors=True) as directory,
        # As production demands: doctor fails without fsync.
        EmbeddedPostgres(Path(directory)) as server,
    ):
        yield server


@dataclass(frozen=True, kw_only=True)
class Beside:
    """Postgres, Redis and the sandbox of one test, the last two started as compose starts them."""

    database_url: str
    redis_port: int
    sandbox_url: str
    livekit: Mapping[str, str]


@pytest.fixture
def beside(
    server: EmbeddedPostgres, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Beside]:
    database = f"manifests_{request.node.name.partition('_')[2][:20]}"
    server.create_database(database)
    ports = {"6379": free_port(), "8090": free_port()}
    services = reading.compose({**_operator(), "REDIS_PASSWORD": _REDIS_PASSWORD})
    redis, sandbox = services["redis"], services["sandbox"]
    listening = ("--port", str(ports["6379"]), "--bind", "127.0.0.1", "--dir", str(tmp_path))
    place = Place(directory=tmp_path, ports=ports, environment={})
    command = (redis_program(), *redis.command[1:], *listening)
    seed = str(reading.DEPLOY / "sandbox" / "example.json")
    sandbox = place.part(sandbox)
    sandbox = replace(
        sandbox,
        command=tuple(seed if word == "/sandbox.json" else word for word in sandbox.command),
    )
    livekit = {"api_key": f"API{secrets.token_hex(6)}", "api_secret": secrets.token_urlsafe(32)}
    url = f"http://127.0.0.1:{ports['8090']}"
    with ExitStack() as stack:
        stack.enter_context(_process("redis", replace(redis, command=command), place))
        stack.enter_context(_process("sandbox", sandbox, place))
        eventually(lambda: http_status(f"{url}/_sandbox/state") == 200, seconds=READY_SECONDS)
        # The manifests' probe of the sandbox itself.
        assert all(_is_well(one, sandbox, place) for one in sandbox.probes)
        yield Beside(
            database_url=server.url(database),
            redis_port=ports["6379"],
            sandbox_url=url,
            livekit=livekit,
        )


_REDIS_PASSWORD: Final = secrets.token_hex(24)


def _operator() -> dict[str, str]:
    """deploy/.env.example with all that it says must be set; the database's host is compose's."""
    filled = reading.env_file((reading.DEPLOY / ".env.example").read_text())
    given = {
        **reading.production(),
        "FLOWER_BASIC_AUTH": LOGIN,
    }
    assert given.keys() <= filled.keys()
    return {**filled, **given, "POSTGRES_PASSWORD": secrets.token_hex(24)}


def _place(beside: Beside, tmp_path: Path, **environment: str) -> Place:
    return Place(
        directory=tmp_path,
        ports={"8080": free_port(), "5555": free_port()},
        environment={
            "TRUNKLINE_DATABASE_URL": beside.database_url,
            "TRUNKLINE_BROKER_URL": f"redis://:{_REDIS_PASSWORD}@127.0.0.1:{beside.redis_port}/0",
            **environment,
        },
    )


def _production(beside: Beside, tmp_path: Path) -> Place:
    httpx.post(
        f"{beside.sandbox_url}/_sandbox/seed", json={"livekit": beside.livekit}, trust_env=False
    ).raise_for_status()
    return _place(
        beside,
        tmp_path,
        LIVEKIT_URL=f"{beside.sandbox_url}/livekit",
        LIVEKIT_API_KEY=beside.livekit["api_key"],
        LIVEKIT_API_SECRET=beside.livekit["api_secret"],
    )


# One after the other


@dataclass(frozen=True, kw_only=True)
class Running:
    """A deployment that is up."""

    parts: Mapping[str, Part]
    processes: Mapping[str, ManagedProcess]
    place: Place

    def import_one(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Imports a number and returns the job when it has ended."""
        made = _trunkline(
            self.parts["api"], self.place, "admin", "bootstrap", "--organization", "Acme", "--json"
        )
        with httpx.Client(
            base_url=f"http://127.0.0.1:{self.place.ports['8080']}",
            headers={"Authorization": f"Bearer {made['api_key']}"},
            trust_env=False,
            timeout=60,
        ) as api:
            wait = {"Prefer": "wait=40"}
            answer = api.post("/v1/imports", json=order, headers=wait)
            assert answer.status_code in {201, 202}, answer.text
            job: dict[str, Any] = api.get(answer.headers["Location"]).json()
        return job

    def stop(self) -> None:
        """Asks every process to end, as each orchestrator does; each must within its time."""
        began = time.monotonic()
        for process in self.processes.values():
            process.ask_to_stop()
        for name, process in self.processes.items():
            left = began + self.parts[name].grace_seconds - time.monotonic()
            eventually(lambda: not process.alive, seconds=left)  # noqa: B023 -- called at once
            # uvicorn ends by the signal that it was sent, after its own shutdown.
            assert process.exit_code in ({0, -15} if name == "api" else {0}), name


@contextmanager
def _running(parts: Mapping[str, Part], place: Place) -> Iterator[Running]:
    parts = {name: place.part(parts[name]) for name in reading.PARTS}
    with _process("migrate", parts["migrate"], place) as migrate:
        eventually(lambda: not migrate.alive, seconds=READY_SECONDS)
        assert migrate.exit_code == 0, migrate.log_tail()
    with ExitStack() as stack:
        processes = {
            name: stack.enter_context(_process(name, parts[name], place)) for name in LASTING
        }

        def all_well() -> bool:
            for name, process in processes.items():
                assert process.alive, f"{name} ended: {process.log_tail()}"
            return all(
                _is_well(probe, parts[name], place)
                for name in LASTING
                for probe in parts[name].probes
            )

        eventually(all_well, seconds=READY_SECONDS, pause_seconds=0.5)
        yield Running(parts=parts, processes=processes, place=place)


def _imports_a_carriers_number(running: Running) -> None:
    """The provider `sip` has no API: production refuses a vendor on this machine."""
    job = running.import_one(carrier_order("+14155550142", secrets.token_hex(12)))
    assert job["status"] == "active", job


def _answers_nobody_without_login(running: Running) -> None:
    url = f"http://127.0.0.1:{running.place.ports['5555']}/api/workers"
    eventually(lambda: http_status(url) is not None, seconds=READY_SECONDS)
    assert http_status(url) == 401
    user, password = LOGIN.split(":")
    assert httpx.get(url, auth=(user, password), trust_env=False).status_code == 200


def _tells_prometheus(running: Running) -> None:
    asked = {
        name: int(part.environment[_METRICS])
        for name, part in running.parts.items()
        if _METRICS in part.environment
    }
    assert asked.keys() == {"worker", "beat"}
    for port in asked.values():
        eventually(lambda: http_status(f"http://127.0.0.1:{port}/metrics") == 200)  # noqa: B023 -- called at once


def _every_probe_fails(running: Running) -> None:
    for name in LASTING:
        part = running.parts[name]
        if pulse := part.environment.get("TRUNKLINE_PULSE_FILE"):
            # Nobody touches it any more: two minutes later.
            os.utime(pulse, (time.time() - 120, time.time() - 120))
        assert not any(_is_well(probe, part, running.place) for probe in part.probes), name


@pytest.mark.timeout(180)
def test_kubernetes_imports_a_number_in_production(beside: Beside, tmp_path: Path) -> None:
    names = reading.env_file((reading.K8S / "secret.env.example").read_text())
    operator = _operator()
    given = {"trunkline": {name: operator[name] for name in names}}
    parts = reading.k8s({**given, "flower": {"FLOWER_BASIC_AUTH": LOGIN}})
    with _running(parts, _production(beside, tmp_path)) as running:
        _passes_doctor(running)
        _imports_a_carriers_number(running)
        _answers_nobody_without_login(running)
        _tells_prometheus(running)
        running.stop()
        _every_probe_fails(running)


@pytest.mark.timeout(180)
def test_systemd_imports_a_number_in_production(beside: Beside, tmp_path: Path) -> None:
    operator = _operator()
    file = "\n".join(f"{name}={value}" for name, value in operator.items())
    parts = reading.systemd({"/etc/trunkline.env": file})
    assert parts["worker"].raw["NotifyAccess"] == "main"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as watchdog,
        tempfile.TemporaryDirectory(prefix="trunkline-") as directory,
    ):
        # Where systemd listens where there is a WatchdogSec.
        watchdog.bind(f"{directory}/notify")
        notified = {**parts["worker"].environment, "NOTIFY_SOCKET": ""}
        parts = {**parts, "worker": replace(parts["worker"], environment=notified)}
        place = _production(beside, tmp_path)
        address = {"NOTIFY_SOCKET": f"{directory}/notify"}
        place = replace(place, environment={**place.environment, **address})
        _imports_as_a_service(parts, place, watchdog)


def _imports_as_a_service(parts: Mapping[str, Part], place: Place, watchdog: socket.socket) -> None:
    with _running(parts, place) as running:
        _passes_doctor(running)
        watchdog.settimeout(float(parts["worker"].raw["WatchdogSec"]))
        assert watchdog.recv(100) == b"WATCHDOG=1"
        _imports_a_carriers_number(running)
        _answers_nobody_without_login(running)
        running.stop()


@pytest.mark.timeout(180)
def test_compose_imports_a_number_from_its_sandbox(beside: Beside, tmp_path: Path) -> None:
    sandbox = reading.env_file((reading.DEPLOY / "sandbox.env").read_text())
    dotenv = {**_operator(), "REDIS_PASSWORD": _REDIS_PASSWORD, **sandbox}
    parts = reading.compose(dotenv)
    place = _place(beside, tmp_path)
    names = {"sandbox:8090": beside.sandbox_url.removeprefix("http://")}
    names["api:8080"] = f"127.0.0.1:{place.ports['8080']}"
    elsewhere = {
        name: value.replace(host, here)
        for name, value in sandbox.items()
        for host, here in names.items()
        if host in value
    }
    place = replace(place, environment={**place.environment, **elsewhere})
    _reaches_its_own_data(parts["api"].environment, dotenv)
    seed = json.loads((reading.DEPLOY / "sandbox" / "example.json").read_text())
    account = seed["twilio"]["accounts"][0]
    order = {
        "phone_number": account["numbers"][0]["phone_number"],
        "provider": "twilio",
        "credentials": {"account_sid": account["sid"], "auth_token": account["auth_token"]},
    }
    with _running(parts, place) as running:
        job = running.import_one(order)
        assert job["status"] == "active", job
        _answers_nobody_without_login(running)
        running.stop()
        _every_probe_fails(running)


def _reaches_its_own_data(environment: Mapping[str, str], dotenv: Mapping[str, str]) -> None:
    postgres = reading.compose_document()["services"]["postgres"]["environment"]
    user, database = postgres["POSTGRES_USER"], postgres["POSTGRES_DB"]
    assert environment["TRUNKLINE_DATABASE_URL"] == (
        f"postgresql://{user}:{dotenv['POSTGRES_PASSWORD']}@postgres:5432/{database}"
    )
    assert environment["TRUNKLINE_BROKER_URL"] == (
        f"redis://:{dotenv['REDIS_PASSWORD']}@redis:6379/0"
    )


def _passes_doctor(running: Running) -> None:
    """Its exit code is 1 if anything failed, and 2 if a setting is refused."""
    told = _trunkline(running.parts["api"], running.place, "doctor", "--json")
    assert all(found["verdict"] != "failed" for found in told.values()), told
    assert running.parts["api"].environment.get("TRUNKLINE_ENV", "production") == "production"
