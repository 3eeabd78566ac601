"""The real API process on a real Postgres; no worker, and Redis only where a test starts it.

The process and its database serve all tests, which keep apart as customers do: each has its own
organisations and its own numbers.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from threading import Barrier
from typing import Any, Final
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from deploy.local.environment import child_environment, sandbox_vendors
from deploy.local.postgres import EmbeddedPostgres
from deploy.local.service import Service as Process
from deploy.local.services import Surroundings, api
from deploy.local.waiting import LOOPBACK, free_port, wait_until
from deploy.sandbox.thread import running
from tests.conftest import make_settings
from worker.db.claims import Claims
from worker.db.engine import make_engine
from worker.db.numbers import Numbers
from worker.db.records import Claim, JobRecord, NumberFacts
from worker.db.repository import JobRepository
from worker.db.vault import Vault
from worker.domain.errors import TrunklineError, UndoFailed
from worker.domain.job import StepName
from worker.domain.values import Routing, parse_id
from worker.service import Role, Service, migrate_database
from worker.settings import Settings

PROJECT: Final = Path(__file__).resolve().parents[3]
SID: Final = "AC0123456789abcdef0123456789abcdef"
#: Planted wherever a caller may put a secret; nothing but the vault may ever hold it.
TOKEN: Final = "planted-twilio-auth-token"
NUMBER_SID: Final = f"PN{'1' * 32}"
#: Of a customer, with a secret in its query.
FOREIGN: Final = "https://pbx.example.com/voice?key=planted-query"
_serial = itertools.count(1)


def new_number() -> str:
    return f"+1415{5560000 + next(_serial):07}"


def new_request(**changes: Any) -> dict[str, Any]:
    """A request that is accepted, for a number that nobody else uses."""
    return {
        "phone_number": new_number(),
        "provider": "twilio",
        "credentials": {"account_sid": SID, "auth_token": TOKEN},
        **changes,
    }


def without(request: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name not in names}


def _facts(job: JobRecord) -> NumberFacts:
    """What the last step of an import writes about its number."""
    return NumberFacts(
        agent_id=job.agent_id,
        friendly_name=job.request["friendly_name"],
        details={name: job.request.get(name) for name in ("price", "metadata", "carrier")},
        provider_number_id="PN1",
        country="US",
        sms_capable=True,
    )


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """An organisation with a client for each of its keys."""

    organization_id: str
    #: The admin's.
    key: str
    http: httpx.Client
    #: Makes a key of another role, and a client that uses it.
    add_key: Callable[[Role], tuple[str, httpx.Client]]

    @property
    def uuid(self) -> UUID:
        found = parse_id("org", self.organization_id)
        assert found is not None
        return found

    def submit(self, request: Mapping[str, Any] | None = None, **headers: str) -> dict[str, Any]:
        answer = self.http.post("/v1/imports", json=request or new_request(), headers=headers)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def store(self) -> str:
        """Stores a credential and returns its id."""
        body = {"provider": "twilio", "credentials": {"account_sid": SID, "auth_token": TOKEN}}
        answer = self.http.post("/v1/credentials", json=body)
        assert answer.status_code == 201, answer.text
        credential_id: str = answer.json()["id"]
        return credential_id


@dataclass(kw_only=True)
class Platform:
    """The API process, and what lies behind it."""

    settings: Settings
    process: Process
    url: str
    sandbox_url: str
    broker_port: int
    engine: Engine
    service: Service
    jobs: JobRepository
    claims: Claims
    numbers: Numbers
    _transport: httpx.HTTPTransport = field(
        default_factory=lambda: httpx.HTTPTransport(
            verify=False, limits=httpx.Limits(max_connections=None, max_keepalive_connections=20)
        )
    )

    def client(self, **headers: str) -> httpx.Client:
        # One transport for all: making one costs more than a whole test.
        return httpx.Client(
            base_url=self.url,
            headers=headers,
            timeout=30,
            transport=self._transport,
            event_hooks={"response": [self._is_documented]},
        )

    @cached_property
    def operations(self) -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
        """Method, path and description of every route, from the OpenAPI document."""
        document = httpx.get(f"{self.url}/openapi.json", trust_env=False).json()
        return [
            (method.upper(), re.compile(re.sub(r"{[a-z_]+}", "[^/]+", path)), operation)
            for path, methods in document["paths"].items()
            for method, operation in methods.items()
        ]

    def _is_documented(self, answer: httpx.Response) -> None:
        """Every answer of every test has a status that its route lists."""
        for method, path, operation in self.operations:
            asked = answer.request
            if method != asked.method or path.fullmatch(asked.url.path) is None:
                continue
            listed = set(operation["responses"]) - {"default"}
            # What stands before all routes refuses a body that none of them asked for.
            unasked = answer.status_code == 413 and "requestBody" not in operation
            assert str(answer.status_code) in listed or unasked, (
                method,
                path.pattern,
                answer.status_code,
            )
            return

    def tenant(self) -> Tenant:
        name = f"Tenant {next(_serial)}"
        organization_id, key = self.service.bootstrap(name)

        def add_key(role: Role) -> tuple[str, httpx.Client]:
            _, other = self.service.bootstrap(name, role=role)
            return other, self.client(Authorization=f"Bearer {other}")

        client = self.client(Authorization=f"Bearer {key}")
        return Tenant(organization_id=organization_id, key=key, http=client, add_key=add_key)

    def sql(self, statement: str, **values: Any) -> list[tuple[Any, ...]]:
        with self.engine.begin() as connection:
            found = connection.execute(text(statement), values)
            return [tuple(row) for row in found] if found.returns_rows else []

    def rows(self, tenant: Tenant) -> dict[str, int]:
        """How many rows of each kind a tenant has."""
        tables = ("import_jobs", "phone_numbers", "credentials")
        count = "SELECT count(*) FROM {} WHERE organization_id = :id"
        return {name: self.sql(count.format(name), id=tenant.uuid)[0][0] for name in tables}

    def log(self) -> str:
        return self.process.log_file.read_text()

    @contextmanager
    def without_failure(self) -> Iterator[None]:
        """Fails if a request fails meanwhile that is ours to answer; before, other tests' may."""
        seen = len(self.log())
        yield
        lines = self.log()[seen:].splitlines()
        failed = [line for line in lines if '"request failed"' in line or "Traceback" in line]
        assert not failed, failed[0]

    def logged(self, count: int, request_id: str) -> list[dict[str, Any]]:
        """Waits for this many lines of a request: they are written after its answer."""
        found: list[dict[str, Any]] = []

        def complete() -> bool:
            lines = [json.loads(line) for line in self.log().splitlines() if line.startswith("{")]
            found[:] = [line for line in lines if line.get("request_id") == request_id]
            return len(found) >= count

        assert wait_until(complete, 5), found
        return found

    # What a worker would do

    def job(self, import_id: str) -> JobRecord:
        job_id = parse_id("imp", import_id)
        assert job_id is not None
        job = self.jobs.get(job_id)
        assert job is not None
        return job

    def begin(self, import_id: str, step: StepName = StepName.VALIDATE_CREDENTIALS) -> Claim:
        job_id = self.job(import_id).id
        claim = self.claims.begin_step(job_id, step, attempts=3, lease_seconds=30)
        assert isinstance(claim, Claim), claim
        return claim

    @property
    def vault(self) -> Vault:
        return Vault(self.settings.vault_keys)

    def find(self, import_id: str, original: Routing) -> None:
        """Does the steps until the number and its routing are known."""
        for step in (StepName.VALIDATE_CREDENTIALS, StepName.CHECK_OWNERSHIP):
            claim = self.begin(import_id, step)
            found = step is StepName.CHECK_OWNERSHIP
            sealed = self.vault.seal({"routing": original.to_json()}) if found else None
            self.claims.finish_step(claim, output={}, sealed=sealed)

    def control(self, command: str, body: Any) -> None:
        """Seeds the sandbox, or scripts a fault of it; LiveKit's key outlives a reset."""
        if command == "reset":
            secret = self.settings.livekit_api_secret.get_secret_value()
            key = {"api_key": self.settings.livekit_api_key, "api_secret": secret}
            body = {"livekit": key, **body}
        url = f"{self.sandbox_url}/_sandbox/{command}"
        answer = httpx.post(url, json=body, timeout=10, trust_env=False)
        assert answer.is_success, answer.text

    def finish_all(self, import_id: str, **output: Any) -> None:
        """Does every step, so that the import becomes active."""
        for step in StepName:
            claim = self.begin(import_id, step)
            number = _facts(claim.job) if step is StepName.PERSIST_NUMBER else None
            found = output if step is StepName.CHECK_OWNERSHIP else {}
            self.claims.finish_step(claim, output=found, sealed=None, number=number)

    def fail(self, import_id: str, error: TrunklineError) -> None:
        """Lets the first step fail for good and undoes it."""
        self.claims.fail(self.begin(import_id), error, settle=None)
        self.claims.finish_undo(self.begin_undo(import_id))

    def stick(self, import_id: str, error: TrunklineError, left: str) -> None:
        """Lets the first step fail for good, and its undo too."""
        self.claims.fail(self.begin(import_id), error, settle=None)
        self.claims.stick(self.begin_undo(import_id), UndoFailed(left))

    def begin_undo(self, import_id: str) -> Claim:
        claim = self.claims.begin_undo(
            self.job(import_id).id, StepName.VALIDATE_CREDENTIALS, attempts=3, lease_seconds=30
        )
        assert isinstance(claim, Claim), claim
        return claim

    def close(self) -> None:
        self._transport.close()
        self.service.close()
        self.engine.dispose()


def environment(settings: Settings) -> dict[str, str]:
    """What a process needs in order to have these settings."""
    return {
        **child_environment("sandbox", os.environ),
        "PYTHONPATH": str(PROJECT),
        # What the tests demand of themselves.
        "PYTHONWARNINGS": "error",
        "TRUNKLINE_ENV": settings.env,
        "TRUNKLINE_DATABASE_URL": settings.database_url.get_secret_value(),
        "TRUNKLINE_BROKER_URL": settings.broker_url.get_secret_value(),
        "TRUNKLINE_VAULT_KEYS": ",".join(key.get_secret_value() for key in settings.vault_keys),
        "TRUNKLINE_PUBLIC_BASE_URL": settings.public_base_url,
        "LIVEKIT_URL": settings.livekit_url,
        "LIVEKIT_API_KEY": settings.livekit_api_key,
        "LIVEKIT_API_SECRET": settings.livekit_api_secret.get_secret_value(),
        "LIVEKIT_SIP_URI": settings.livekit_sip_uri,
        "TRUNKLINE_SELF_TEST": str(settings.self_test).lower(),
        "TRUNKLINE_DIALECT_WAIT_SECONDS": str(settings.dialect_wait_seconds),
        "TRUNKLINE_IMPORTS_PER_MINUTE": str(settings.imports_per_minute),
        "TRUNKLINE_BATCHES_PER_MINUTE": str(settings.batches_per_minute),
        "TRUNKLINE_LOOKS_PER_MINUTE": str(settings.looks_per_minute),
        **{
            name: getattr(settings, name.lower())
            for name in sandbox_vendors("", "")
            if name.endswith("_BASE_URL") and getattr(settings, name.lower()) is not None
        },
    }


def api_process(settings: Settings, directory: Path, url: str) -> Process:
    around = Surroundings(
        environment=environment(settings),
        run_dir=directory,
        logs_dir=directory,
        broker_url=settings.broker_url.get_secret_value(),
    )
    return api(around, url)


@pytest.fixture(scope="session")
def sandbox() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture(scope="session")
def platform(
    postgres: EmbeddedPostgres, sandbox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    postgres.create_database("api")
    broker_port = free_port()
    settings = make_settings(
        postgres.url("api"),
        broker_url=SecretStr(f"redis://{LOOPBACK}:{broker_port}/0"),
        # What the self-test calls is nobody's name.
        self_test=False,
        **sandbox_vendors(sandbox, "sandbox-secret-that-is-long-enough"),
    )
    url = f"http://{LOOPBACK}:{free_port()}"
    process = api_process(settings, tmp_path_factory.mktemp("api"), url)
    migrate_database(settings)
    try:
        process.start()
    except BaseException:
        process.stop()
        raise
    engine = make_engine(settings)
    platform = Platform(
        settings=settings,
        process=process,
        url=url,
        sandbox_url=sandbox,
        broker_port=broker_port,
        engine=engine,
        service=Service.from_settings(settings),
        jobs=JobRepository(engine, resend_after_seconds=settings.resend_after_seconds),
        claims=Claims(engine, resend_after_seconds=settings.resend_after_seconds),
        numbers=Numbers(engine),
    )
    yield platform
    platform.close()
    process.stop()


@pytest.fixture
def tenant(platform: Platform) -> Tenant:
    return platform.tenant()


@pytest.fixture
def other(platform: Platform) -> Tenant:
    return platform.tenant()


@pytest.fixture
def account(platform: Platform) -> Iterator[str]:
    """A Twilio account of the sandbox with a number that somebody answers."""
    number = new_number()
    owned = {"phone_number": number, "sid": NUMBER_SID, "voice_url": FOREIGN}
    held = {"sid": SID, "auth_token": TOKEN, "numbers": [owned]}
    platform.control("reset", {"twilio": {"accounts": [held]}})
    yield number
    platform.control("reset", {})


@pytest.fixture
def at_once() -> Callable[[int, Callable[[int], Any]], list[Any]]:
    """Calls a function many times at the same moment."""

    def run(copies: int, call: Callable[[int], Any]) -> list[Any]:
        barrier = Barrier(copies)

        def one(index: int) -> Any:
            barrier.wait()
            return call(index)

        with ThreadPoolExecutor(copies) as pool:
            return list(pool.map(one, range(copies)))

    return run


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """Checks that an answer is this problem, and returns it."""
    assert (answer.status_code, answer.headers["Content-Type"]) == (
        status,
        "application/problem+json",
    ), answer.text
    found: dict[str, Any] = answer.json()
    assert (found["code"], found["status"]) == (code, status), found
    assert found["type"] == f"urn:trunkline:problem:{code}"
    assert found["title"]
    assert found["detail"]
    return found
