"""The whole product as separate processes, for tests: driven by HTTP, judged at the sandbox.

Each import gets a Twilio account of its own, so that a test can run a hundred of them at once, do
something different to each, and compare each account with what it was.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import httpx
import psycopg
from google.protobuf.message import Message
from livekit.api.access_token import AccessToken, SIPGrants

from deploy.local.service import Service as Process
from deploy.local.services import Surroundings, worker
from deploy.local.stack import Stack

#: Everything fast: leases, retries and sweeps of tenths of seconds.
FAST: Final = {
    "TRUNKLINE_LEASE_SECONDS": "3",
    "TRUNKLINE_HEARTBEAT_SECONDS": "0.5",
    "TRUNKLINE_CONNECT_TIMEOUT_SECONDS": "1",
    "TRUNKLINE_READ_TIMEOUT_SECONDS": "1",
    "TRUNKLINE_SETTLE_SECONDS": "1.5",
    "TRUNKLINE_SWEEP_SECONDS": "0.3",
    "TRUNKLINE_RESEND_AFTER_SECONDS": "1",
    "TRUNKLINE_RETRY_SCALE": "0.1",
}
TOKEN: Final = "sandbox-token-planted"
#: A foreign URL as customers have them: with a secret in its query.
FOREIGN_URL: Final = "https://pbx.example.com/voice?key=sandbox-planted-query"
_FINAL: Final = {"active", "failed", "cancelled", "stuck", "released"}
_CONDITIONS: Final = {"vendor", "operation", "write", "import_id", "step", "account"}
_serial = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Customer:
    """A Twilio account with one number, and the request that imports it."""

    sid: str
    number: str
    request: Mapping[str, Any]


@dataclass(kw_only=True)
class Outside:
    """Everything that one customer's import could have left outside."""

    account: Mapping[str, Any]
    inbound: list[Mapping[str, Any]] = field(default_factory=list)
    outbound: list[Mapping[str, Any]] = field(default_factory=list)
    rules: list[Mapping[str, Any]] = field(default_factory=list)

    @property
    def made(self) -> dict[str, int]:
        """How many of each kind exist."""
        return {
            "trunks": len(self.account["trunks"]),
            "credential_lists": len(self.account["credential_lists"]),
            "inbound": len(self.inbound),
            "outbound": len(self.outbound),
            "rules": len(self.rules),
        }


class Rig:
    """A running stack and the means to ask and hurt it."""

    def __init__(self, stack: Stack, key: str) -> None:
        self.stack = stack
        self.api = httpx.Client(
            base_url=stack.api_url,
            headers={"Authorization": f"Bearer {key}"},
            timeout=30,
            trust_env=False,
        )
        self.sandbox = httpx.Client(base_url=stack.sandbox_url, timeout=30, trust_env=False)

    def close(self) -> None:
        self.api.close()
        self.sandbox.close()

    def customer(self, *, mode: str = "webhook", owns: bool = True, **request: Any) -> Customer:
        serial = next(_serial)
        sid = f"AC{serial:032x}"
        number = f"+1415555{serial:04}"
        owned = {
            "phone_number": number if owns else f"+1202555{serial:04}",
            "voice_url": FOREIGN_URL,
            "voice_method": "GET",
            "voice_fallback_url": "https://pbx.example.com/fallback",
            "status_callback": "https://pbx.example.com/status",
            "sms_url": "https://pbx.example.com/sms",
        }
        self.control(
            "seed",
            {"twilio": {"accounts": [{"sid": sid, "auth_token": TOKEN, "numbers": [owned]}]}},
        )
        return Customer(
            sid=sid,
            number=number,
            request={
                "phone_number": number,
                "provider": "twilio",
                "credentials": {"account_sid": sid, "auth_token": TOKEN},
                "routing_mode": mode,
                "replace_existing_routing": True,
                **request,
            },
        )

    def submit(self, customer: Customer, **headers: str) -> dict[str, Any]:
        answer = self.api.post("/v1/imports", json=customer.request, headers=headers)
        assert answer.status_code == 202, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def job(self, import_id: str) -> dict[str, Any]:
        answer = self.api.get(f"/v1/imports/{import_id}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def wait(self, import_ids: Iterable[str], *, seconds: float = 60) -> dict[str, dict[str, Any]]:
        """Waits until all are final; fails with those that are not."""
        waiting, done = set(import_ids), {}
        deadline = time.monotonic() + seconds
        while waiting:
            for import_id in list(waiting):
                job = self.job(import_id)
                if job["status"] in _FINAL:
                    done[import_id] = job
                    waiting.discard(import_id)
            if time.monotonic() > deadline:
                stuck = [self.job(import_id) for import_id in waiting]
                raise AssertionError(f"not final after {seconds} s: {stuck}")
            if waiting:
                time.sleep(0.1)
        return done

    def settle(self, *, seconds: float = 120) -> None:
        """Waits until no job at all is open; cheaper than asking for each of hundreds."""
        waiting = (
            "SELECT kind, state, step, count(*) FROM import_jobs "
            "WHERE state IN ('queued', 'running', 'undoing') GROUP BY kind, state, step"
        )
        deadline = time.monotonic() + seconds
        while left := self.sql(waiting):
            assert time.monotonic() < deadline, f"not final after {seconds} s: {left}"
            time.sleep(0.2)

    def agent(self, name: str) -> str:
        """Gives the organisation an agent that LiveKit knows by this name; returns its id."""
        agent_id = uuid4()
        self.sql(
            "INSERT INTO agents (id, organization_id, name, dispatch_name) "  # noqa: S608 -- ours
            f"SELECT '{agent_id}', id, '{name}', '{name}' FROM organizations"
        )
        return f"agt_{agent_id.hex}"

    # The outside world

    def state(self) -> dict[str, Any]:
        """Returns all that the vendors and LiveKit hold."""
        state: dict[str, Any] = self.sandbox.get("/_sandbox/state").json()
        return state

    def livekit(self, method: str, request: Message) -> None:
        """Calls LiveKit's own API, as somebody else who has the project's key."""
        environment = self.stack.environment
        token = AccessToken(environment["LIVEKIT_API_KEY"], environment["LIVEKIT_API_SECRET"])
        token = token.with_sip_grants(SIPGrants(admin=True))
        answer = self.sandbox.post(
            f"/livekit/twirp/livekit.SIP/{method}",
            content=request.SerializeToString(),
            headers={
                "Authorization": f"Bearer {token.to_jwt()}",
                "Content-Type": "application/protobuf",
            },
        )
        assert answer.is_success, answer.text

    def call(self, vendor: str, account: str, number: str) -> dict[str, Any]:
        """Calls a number and returns what became of the call."""
        order = {"vendor": vendor, "account": account, "number": number, "from": "+14155550199"}
        trace: dict[str, Any] = self.control("calls", order)
        return trace

    def control(self, command: str, body: Any) -> Any:
        answer = self.sandbox.post(f"/_sandbox/{command}", json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def fault(self, **fault: Any) -> None:
        """Scripts a fault of the sandbox; its conditions and its settings may be mixed."""
        match = {name: fault.pop(name) for name in _CONDITIONS & fault.keys()}
        self.control("faults", {"match": match, **fault})

    def journal(self, import_id: str) -> list[dict[str, Any]]:
        answer = self.sandbox.get("/_sandbox/journal", params={"import_id": import_id})
        entries: list[dict[str, Any]] = answer.json()["entries"]
        return entries

    def holds(self) -> list[dict[str, Any]]:
        holds: list[dict[str, Any]] = self.sandbox.get("/_sandbox/holds").json()["holds"]
        return holds

    def outside(self, customers: Iterable[Customer]) -> dict[str, Outside]:
        """Returns, by number, what exists for each customer at Twilio and at LiveKit."""
        state = self.state()
        livekit = state["livekit"]
        found = {}
        for customer in customers:
            inbound = [t for t in livekit["inbound_trunks"].values() if _has(t, customer)]
            ids = {trunk["sip_trunk_id"] for trunk in inbound}
            found[customer.number] = Outside(
                account=state["twilio"]["accounts"][customer.sid],
                inbound=inbound,
                outbound=[t for t in livekit["outbound_trunks"].values() if _has(t, customer)],
                rules=[
                    rule
                    for rule in livekit["dispatch_rules"].values()
                    if ids & set(rule["trunk_ids"]) or _has(rule, customer)
                ],
            )
        return found

    # Hurting it

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self.stack.database_url, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def expire_leases(self) -> None:
        """Lets the time pass that a dead worker's leases, and the messages it held, have left."""
        self.sql(
            "UPDATE import_jobs SET due_at = now(), "
            "lease_until = CASE WHEN lease_until IS NOT NULL THEN now() END "
            "WHERE due_at IS NOT NULL"
        )

    def patient_worker(self, concurrency: int) -> Process:
        """A worker whose calls and leases last so long that a test can stop the world meanwhile."""
        environment = {
            **self.stack.environment,
            "TRUNKLINE_LEASE_SECONDS": "300",
            "TRUNKLINE_HEARTBEAT_SECONDS": "60",
            # A hundred jobs that begin at once are no reason to try a call again.
            "TRUNKLINE_CONNECT_TIMEOUT_SECONDS": "20",
            # It has a thread for every job, so that no message waits long enough to be lost.
            "TRUNKLINE_RESEND_AFTER_SECONDS": "10",
            "TRUNKLINE_READ_TIMEOUT_SECONDS": "120",
            "TRUNKLINE_DATABASE_MAX_OVERFLOW": "60",
        }
        around = Surroundings(
            environment=environment,
            run_dir=self.stack.run_dir,
            logs_dir=self.stack.logs_dir,
            broker_url=self.stack.redis.url,
        )
        return worker(around, "patient", concurrency)


def _has(thing: Mapping[str, Any], customer: Customer) -> bool:
    return customer.number in thing.get("numbers", ())


@functools.cache
def _model() -> tuple[Path, str]:
    """Makes a state directory whose database has all tables and Acme; returns it, and Acme's key.

    A server's directory is copied in a moment; making one, its tables and a key takes seconds.
    """
    directory = tempfile.TemporaryDirectory(prefix="trunkline-", ignore_cleanup_errors=True)
    atexit.register(directory.cleanup)
    path = Path(directory.name)
    parts = {"redis", "sandbox", "api", "worker1", "beat", "flower"}
    with Stack(path, without=parts, fsync=False) as stack:
        return path, stack.bootstrap("Acme")["api_key"]


@contextmanager
def running(
    *,
    without: Iterable[str] = (),
    env: Mapping[str, str] = FAST,
    fsync: bool = False,
    **stack: Any,
) -> Iterator[Rig]:
    """Starts a stack in a directory of its own and stops it."""
    model, key = _model()
    without = {*without, "migrations"}
    with tempfile.TemporaryDirectory(prefix="trunkline-", ignore_cleanup_errors=True) as directory:
        subprocess.run(  # noqa: S603 -- our own paths; keeps the owner, as Python's copies do not
            ["cp", "-a", model / "postgres", directory],  # noqa: S607
            check=True,
        )
        path = Path(directory)
        with Stack(path, without=without, env_overrides=env, fsync=fsync, **stack) as started:
            rig = Rig(started, key)
            try:
                yield rig
            finally:
                rig.close()


def eventually(
    condition: Callable[[], bool], *, seconds: float = 20, pause_seconds: float = 0.05
) -> None:
    """Waits until a condition holds, asking again after each pause."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(pause_seconds)
