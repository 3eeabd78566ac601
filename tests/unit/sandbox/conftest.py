from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
import pytest
from livekit import api
from twilio.http.http_client import TwilioHttpClient
from twilio.rest import Client

from deploy.sandbox.journal import ATTEMPT_HEADER
from deploy.sandbox.thread import running

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from livekit.api.sip_service import SipService
    from twilio.http.response import Response

AC = "AC" + "0" * 31 + "1"
TOKEN = "sandbox-token-1"
OTHER_AC = "AC" + "0" * 31 + "2"
OTHER_TOKEN = "sandbox-token-2"
NUMBER = "+14155550100"
PN = "PN" + "0" * 31 + "1"
DEMO_URL = "https://demo.twilio.com/welcome/voice/"

LK_KEY = "sandbox-livekit-key"
LK_SECRET = "sandbox-livekit-secret-of-32-characters"

SEED: dict[str, Any] = {
    "twilio": {
        "accounts": [
            {
                "sid": AC,
                "auth_token": TOKEN,
                "numbers": [{"phone_number": NUMBER, "sid": PN, "voice_url": DEMO_URL}],
            },
            {"sid": OTHER_AC, "auth_token": OTHER_TOKEN},
        ]
    },
    "livekit": {"api_key": LK_KEY, "api_secret": LK_SECRET},
}


@dataclass
class Control:
    """The control API, as a test uses it."""

    url: str
    http: httpx.Client = field(init=False)

    def __post_init__(self) -> None:
        self.http = httpx.Client(base_url=f"{self.url}/_sandbox")

    def get(self, path: str, **query: str | int) -> dict[str, Any]:
        return self._checked(self.http.get(path, params=query))

    def post(self, path: str, body: object = None) -> dict[str, Any]:
        return self._checked(self.http.post(path, json=body))

    def fault(self, **spec: object) -> str:
        """Sets one fault and gives its id."""
        return str(self.post("/faults", spec)["faults"][0]["id"])

    def faults(self) -> list[dict[str, Any]]:
        faults: list[dict[str, Any]] = self.get("/faults")["faults"]
        return faults

    def journal(self, **query: str | int) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = self.get("/journal", **query)["entries"]
        return entries

    def holds(self) -> list[dict[str, Any]]:
        holds: list[dict[str, Any]] = self.get("/holds")["holds"]
        return holds

    def account(self, sid: str = AC) -> dict[str, Any]:
        account: dict[str, Any] = self.get("/state")["twilio"]["accounts"][sid]
        return account

    def livekit(self) -> dict[str, Any]:
        state: dict[str, Any] = self.get("/state")["livekit"]
        return state

    @staticmethod
    def _checked(response: httpx.Response) -> dict[str, Any]:
        assert response.status_code == httpx.codes.OK, response.text
        document: dict[str, Any] = response.json()
        return document


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    with running() as url:
        yield url


@pytest.fixture(scope="session")
def connected(server: str) -> Iterator[Control]:
    client = Control(server)
    yield client
    client.http.close()


@pytest.fixture
def control(connected: Control) -> Iterator[Control]:
    connected.post("/reset", SEED)
    yield connected
    connected.post("/reset")


class AttributingHttpClient(TwilioHttpClient):  # type: ignore[misc] # the SDK is untyped
    """The SDK's own HTTP client with the attribution header that the platform sends."""

    attempt: str | None = None

    def request(
        self, method: str, url: str, headers: dict[str, str] | None = None, **options: object
    ) -> Response:
        attributed = {ATTEMPT_HEADER: self.attempt} if self.attempt else {}
        return super().request(method, url, headers={**(headers or {}), **attributed}, **options)


@pytest.fixture
def twilio_client(server: str, control: Control) -> Iterator[Callable[..., Client]]:
    """Makes real SDK clients that talk to the sandbox."""
    assert control.url == server
    clients: list[AttributingHttpClient] = []

    def make(
        user: str = AC, secret: str = TOKEN, account_sid: str | None = None, *, timeout: float = 5
    ) -> Client:
        http = AttributingHttpClient(timeout=timeout)
        clients.append(http)
        client = Client(user, secret, account_sid, http_client=http, environment={"_": ""})
        client.api.base_url = f"{server}/twilio"
        for product in ("trunking", "numbers", "messaging", "routes"):
            getattr(client, product).base_url = f"{server}/twilio-{product}"
        return client

    yield make
    for http in clients:
        http.session.close()


@pytest.fixture
def twilio(twilio_client: Callable[..., Client]) -> Client:
    return twilio_client()


T = TypeVar("T")


@dataclass
class LiveKitCalls:
    """Makes calls of the real SDK, each on its own event loop."""

    url: str
    key: str = LK_KEY
    secret: str = LK_SECRET

    def __call__(self, call: Callable[[SipService], Awaitable[T]], timeout: float = 5) -> T:
        async def run() -> T:
            async with (
                api.LiveKitAPI(self.url, self.key, self.secret, failover=False) as client,
                asyncio.timeout(timeout),
            ):
                return await call(client.sip)

        return asyncio.run(run())


@pytest.fixture
def livekit(server: str, control: Control) -> LiveKitCalls:
    assert control.url == server
    return LiveKitCalls(f"{server}/livekit")
