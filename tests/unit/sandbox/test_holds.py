from __future__ import annotations

import asyncio
import time
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import requests

from tests.unit.sandbox.conftest import AC, DEMO_URL, PN, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control

URL = "https://voice.example.com/"


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


def start_update(pool: ThreadPoolExecutor, twilio: Client) -> Future[Any]:
    return pool.submit(twilio.incoming_phone_numbers(PN).update, voice_url=URL)


def parked(control: Control, count: int = 1) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 3
    while len(holds := control.holds()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return holds


def stored_url(control: Control) -> str:
    return str(control.account()["numbers"]["+14155550100"]["voice_url"])


def test_hold_before_shows_who_waits_and_applies_nothing(
    control: Control, twilio: Client, pool: ThreadPoolExecutor
) -> None:
    twilio.http_client.attempt = "imp-1/route_number.undo/2"
    fault = control.fault(action="hold", when="before", match={"write": True})
    update = start_update(pool, twilio)
    assert parked(control) == [
        {
            "id": "h1",
            "fault_id": fault,
            "when": "before",
            "seq": 1,
            "vendor": "twilio",
            "operation": "twilio.incoming_phone_numbers.update",
            "import_id": "imp-1",
            "step": "route_number.undo",
            "attempt": 2,
        }
    ]
    assert stored_url(control) == DEMO_URL
    assert control.journal()[0]["outcome"] == "in_flight"

    assert control.post("/holds/release") == {"released": ["h1"]}
    assert control.holds() == []
    with pytest.raises(requests.exceptions.ConnectionError):
        update.result(3)
    assert stored_url(control) == DEMO_URL


def test_hold_after_has_applied(control: Control, twilio: Client, pool: ThreadPoolExecutor) -> None:
    control.fault(action="hold", when="after")
    update = start_update(pool, twilio)
    parked(control)
    assert stored_url(control) == URL
    control.post("/holds/release", {})
    with pytest.raises(requests.exceptions.ConnectionError):
        update.result(3)
    assert control.journal()[0]["applied"]


@pytest.mark.parametrize("when", ["before", "after"])
def test_released_to_proceed_goes_on_normally(
    control: Control, twilio: Client, pool: ThreadPoolExecutor, when: str
) -> None:
    control.fault(action="hold", when=when)
    update = start_update(pool, twilio)
    parked(control)
    control.post("/holds/release", {"proceed": True})
    assert update.result(3).voice_url == URL
    assert stored_url(control) == URL


def test_some_are_released_by_id(
    control: Control, twilio_client: Callable[..., Client], pool: ThreadPoolExecutor
) -> None:
    control.fault(action="hold", when="before", times=None)
    first = pool.submit(twilio_client().incoming_phone_numbers(PN).fetch)
    parked(control, 1)
    second = pool.submit(twilio_client().incoming_phone_numbers(PN).fetch)
    names = [hold["id"] for hold in parked(control, 2)]
    control.post("/holds/release", {"ids": names[:1], "proceed": True})
    assert first.result(3).sid == PN
    assert [hold["id"] for hold in control.holds()] == names[1:]
    assert control.http.post("/holds/release", json={"ids": ["h99"]}).status_code == 400
    control.post("/holds/release", {"proceed": True})
    assert second.result(3).sid == PN


def test_hold_outlives_its_client(control: Control, twilio_client: Callable[..., Client]) -> None:
    control.fault(action="hold", when="before")
    with pytest.raises(requests.exceptions.ReadTimeout):
        twilio_client(timeout=0.1).incoming_phone_numbers(PN).update(voice_url=URL)
    assert len(control.holds()) == 1
    control.post("/holds/release")
    assert control.holds() == []
    assert stored_url(control) == DEMO_URL


def test_request_of_a_dead_client_may_still_be_applied(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    control.fault(action="hold", when="before")
    with pytest.raises(requests.exceptions.ReadTimeout):
        twilio_client(timeout=0.1).incoming_phone_numbers(PN).update(voice_url=URL)
    control.post("/holds/release", {"proceed": True})
    deadline = time.monotonic() + 3
    while stored_url(control) != URL:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_reset_cuts_what_is_parked(
    control: Control, twilio: Client, pool: ThreadPoolExecutor
) -> None:
    control.fault(action="hold", when="before")
    update = start_update(pool, twilio)
    parked(control)
    control.post("/reset")
    with pytest.raises(requests.exceptions.ConnectionError):
        update.result(3)
    assert control.holds() == []


def test_two_hundred_requests_can_be_parked_at_once(
    server: str, control: Control, pool: ThreadPoolExecutor
) -> None:
    control.fault(action="hold", when="after", times=None)
    url = f"{server}/twilio/2010-04-01/Accounts/{AC}.json"
    authorization = {"Authorization": aiohttp.encode_basic_auth(AC, TOKEN)}

    async def fetch(session: aiohttp.ClientSession) -> int:
        async with session.get(url) as response:
            return response.status

    async def fetch_all() -> list[int]:
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector, headers=authorization) as session:
            return await asyncio.gather(*(fetch(session) for _ in range(200)))

    statuses = pool.submit(asyncio.run, fetch_all())
    assert len(parked(control, 200)) == 200
    control.post("/holds/release", {"proceed": True})
    assert statuses.result(5) == [200] * 200
