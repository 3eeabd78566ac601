"""A sandbox per test process, emptied before each test, and LiveKit adapters against it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest
from livekit import api
from livekit.api.sip_service import SipService
from pydantic import SecretStr

from deploy.sandbox.thread import running
from worker import livekit
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import E164, ImportTag, MediaEncryption, SipLogin, SipTransport
from worker.livekit import (
    DispatchRule,
    FallbackRoute,
    InboundTrunk,
    LiveKit,
    OutboundTrunk,
    SipSetup,
    fallback_route,
)
from worker.livekit import client as livekit_client
from worker.settings import Environment, Settings

IMPORT: str = "imp_0189aaaa"
NUMBER = E164("+14155550100")
TAG = ImportTag(import_id=IMPORT)
NAMES = livekit.names(TAG)
SECRET = "planted-api-secret-of-32-characters"
PASSWORD = "planted-sip-password"
PIN = "471199"


class Sandbox:
    """The control side of the sandbox."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._http = httpx.Client(base_url=f"{url}/_sandbox")

    def close(self) -> None:
        self._http.close()

    def reset(self) -> None:
        self._post("reset", {"livekit": {"api_key": "APIsandbox", "api_secret": SECRET}})

    def seed(self, **objects: object) -> None:
        self._post("seed", {"livekit": objects})

    def fault(self, operation: str, action: str, **settings: object) -> None:
        match = {"vendor": "livekit", "operation": f"livekit.{operation}"}
        self._post("faults", {"match": match, "action": action, **settings})

    def held(self, count: int = 1) -> None:
        """Waits until so many requests are parked."""
        deadline = time.monotonic() + 5
        while len(self._http.get("holds").json()["holds"]) < count:
            assert time.monotonic() < deadline, "nothing was parked"
            time.sleep(0.01)

    def release(self) -> None:
        self._post("holds/release", {"proceed": True})

    def journal(self, operation: str = "*") -> list[dict[str, Any]]:
        query = {"vendor": "livekit", "operation": f"livekit.{operation}"}
        entries: list[dict[str, Any]] = self._http.get("journal", params=query).json()["entries"]
        return entries

    def writes(self) -> list[str]:
        return [entry["operation"] for entry in self.journal() if entry["write"]]

    def _objects(self, kind: str) -> dict[str, dict[str, Any]]:
        objects: dict[str, dict[str, Any]] = self._http.get("state").json()["livekit"][kind]
        return objects

    @property
    def inbound(self) -> dict[str, dict[str, Any]]:
        return self._objects("inbound_trunks")

    @property
    def outbound(self) -> dict[str, dict[str, Any]]:
        return self._objects("outbound_trunks")

    @property
    def rules(self) -> dict[str, dict[str, Any]]:
        return self._objects("dispatch_rules")

    def by_hand(self, change: Callable[[SipService], Awaitable[Any]]) -> None:
        """Does something at LiveKit as its owner does, past our adapter."""

        async def act() -> None:
            async with api.LiveKitAPI(f"{self.url}/livekit", "APIsandbox", SECRET) as livekit:
                await change(livekit.sip)

        asyncio.run(act())

    def _post(self, path: str, body: object) -> None:
        answer = self._http.post(path, json=body)
        assert answer.is_success, answer.text


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[Sandbox]:
    with running() as url:
        sandbox = Sandbox(url)
        yield sandbox
        sandbox.close()
        livekit_client.close()


@pytest.fixture
def sandbox(_sandbox: Sandbox) -> Sandbox:
    _sandbox.reset()
    return _sandbox


def make_settings(url: str, **changes: object) -> Settings:
    values: dict[str, object] = {
        "env": Environment.DEVELOPMENT,
        "database_url": SecretStr("postgresql://unused"),
        "broker_url": SecretStr("redis://unused"),
        "vault_keys": (SecretStr("unused"),),
        "public_base_url": "http://127.0.0.1:8080",
        "LIVEKIT_URL": url,
        "LIVEKIT_API_KEY": "APIsandbox",
        "LIVEKIT_API_SECRET": SecretStr(SECRET),
        "LIVEKIT_SIP_URI": "sip:sandbox.sip.livekit.example",
    }
    return Settings(**{**values, **changes})  # type: ignore[arg-type]


def make_attempt(
    import_id: str = IMPORT, *, number: int = 1, lease_seconds: float = 3600
) -> Attempt:
    return Attempt(
        import_id=import_id,
        step=StepName.PROVISION_TRUNKS,
        number=number,
        lease=Lease(seconds=lease_seconds),
    )


Connect = Callable[..., LiveKit]


@pytest.fixture
def connect(sandbox: Sandbox) -> Connect:
    """Makes an adapter; keyword arguments change the settings."""

    def make(attempt: Attempt | None = None, **changes: object) -> LiveKit:
        settings = make_settings(f"{sandbox.url}/livekit", **changes)
        attempt = attempt or make_attempt()
        return LiveKit(settings, attempt, ImportTag(import_id=attempt.import_id))

    return make


def inbound(**changes: Any) -> InboundTrunk:
    values: dict[str, Any] = {
        "name": NAMES.inbound,
        "number": NUMBER,
        "login": SipLogin(username="trunkline", password=PASSWORD),
        "allowed_addresses": (),
        "encryption": MediaEncryption.ALLOW,
    }
    return InboundTrunk(**{**values, **changes})


def outbound(**changes: Any) -> OutboundTrunk:
    values: dict[str, Any] = {
        "name": NAMES.outbound,
        "number": NUMBER,
        "address": "sip.carrier.example:5061",
        "login": SipLogin(username="carrier", password=PASSWORD),
        "transport": SipTransport.TLS,
        "encryption": MediaEncryption.REQUIRE,
    }
    return OutboundTrunk(**{**values, **changes})


def rule(trunk_id: str, **changes: Any) -> DispatchRule:
    values: dict[str, Any] = {
        "name": NAMES.rule,
        "trunk_id": trunk_id,
        "number": NUMBER,
        "room_prefix": "call-",
        "pin": "",
        "agent_name": "receptionist",
        "agent_metadata": '{"agent_id": "agt_1"}',
        "attributes": {"trunkline.agent_id": "agt_1"},
    }
    return DispatchRule(**{**values, **changes})


def fallback(**changes: Any) -> FallbackRoute:
    main = rule("", pin=PIN, **changes)
    return fallback_route(inbound(), main, NUMBER, "night-shift")


def setup(**changes: Any) -> SipSetup:
    values: dict[str, Any] = {
        "inbound": inbound(),
        "outbound": outbound(),
        "rule": rule("", pin=PIN),
        "fallback": fallback(),
    }
    return SipSetup(**{**values, **changes})


def make(lk: LiveKit, wanted: SipSetup) -> dict[str, str]:
    """Makes everything as the steps do; returns the recorded ids."""
    recorded: dict[str, str] = {}
    if wanted.inbound:
        recorded[livekit.INBOUND] = lk.ensure_inbound_trunk(wanted.inbound)
    if wanted.outbound:
        recorded[livekit.OUTBOUND] = lk.ensure_outbound_trunk(wanted.outbound)
    if wanted.rule:
        served = replace(wanted.rule, trunk_id=recorded[livekit.INBOUND])
        recorded[livekit.RULE] = lk.ensure_dispatch_rule(served)
    if wanted.fallback:
        lk.ensure_fallback(wanted.fallback, recorded, record=recorded.update)
    return recorded
