"""What a customer's own server is told, when, and with which signature; and the periodic check."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.receiver import Received, Receiver, Told, receiving
from tests.rig import FAST, Rig, eventually, running
from tests.vendors import VENDORS, order_of

WAIT = {"Prefer": "wait=30"}
TWILIO = VENDORS[0]


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(env={**FAST, "TRUNKLINE_CHECK_SECONDS": "1.5"}) as started:
        yield started


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as server:
        yield server


def bring_in(rig: Rig, url: str, status: int = 201, **request: Any) -> tuple[Any, Any]:
    order = order_of(rig, TWILIO, "webhook", callback_url=url, **request)
    answer = rig.api.post("/v1/imports", json=dict(order.body), headers=WAIT)
    assert answer.status_code == status, answer.text
    return order, answer.json()


def is_signed(received: Received, secret: str) -> bool:
    """As the specification has it, written down once more."""
    message_id, timestamp = received.headers["webhook-id"], received.headers["webhook-timestamp"]
    assert abs(time.time() - int(timestamp)) < 60
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = b".".join([message_id.encode(), timestamp.encode(), received.body])
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return f"v1,{wanted}" in received.headers["webhook-signature"].split(" ")


def of_type(receiver: Receiver, kind: str) -> list[Received]:
    return [one for one in receiver.received if json.loads(one.body)["type"] == kind]


def test_an_import_its_drift_its_events_and_its_release_are_told_signed(
    rig: Rig, receiver: Receiver
) -> None:
    order, number = bring_in(rig, f"{receiver.url}?token=planted-callback-token")
    secret = rig.api.get("/v1/signing-secret").json()["secret"]

    eventually(lambda: len(of_type(receiver, "import.active")) == 1)
    told = of_type(receiver, "import.active")[0]
    assert is_signed(told, secret)
    assert told.path.endswith("?token=planted-callback-token")
    data = json.loads(told.body)["data"]
    assert (data["status"], data["phone_number"], data["phone_number_id"]) == (
        "active",
        order.number,
        number["id"],
    )
    job = f"/v1/imports/{number['import_id']}"
    eventually(lambda: rig.api.get(job).json()["notifications"][0]["state"] == "delivered")
    shown = rig.api.get(job).json()["notifications"][0]
    assert (shown["id"], shown["attempts"]) == (told.headers["webhook-id"], 1)

    call = {"vendor": "twilio", "account": order.account, "number": order.number}
    rig.control("calls", {**call, "from": "+12025550123", "repeat": 2})
    eventually(lambda: len(of_type(receiver, "call.received")) == 1)
    event = json.loads(of_type(receiver, "call.received")[0].body)["data"]
    assert (event["from"], event["status"]) == ("+12025550123", "completed")

    path = f"/v1/phone-numbers/{number['id']}"
    eventually(lambda: rig.api.get(path).json()["verdict"] == "ok")
    edit = {"vendor": "twilio", "account": order.account, "phone_number": order.number}
    rig.control("edit", {**edit, "set": {"voice_url": "https://new.example.com/voice"}})
    eventually(lambda: len(of_type(receiver, "number.drifted")) == 1)
    drift = json.loads(of_type(receiver, "number.drifted")[0].body)["data"]
    assert "https://new.example.com/voice" in drift["summary"]
    assert rig.api.get(path).json()["verdict"] == "drifted"
    assert 'trunkline_numbers_drifted{provider="twilio"} 1.0' in rig.api.get("/metrics").text

    rig.api.post(f"{path}/check", params={"repair": "true"}, headers=WAIT)
    eventually(lambda: rig.api.get(path).json()["verdict"] == "ok")
    rig.api.delete(path, headers=WAIT)
    eventually(lambda: len(of_type(receiver, "release.released")) == 1)
    assert len(of_type(receiver, "repair.active")) == 1
    assert all(is_signed(one, secret) for one in receiver.received)
    assert len({one.headers["webhook-id"] for one in receiver.received}) == len(receiver.received)


def test_a_receiver_that_fails_is_told_again_with_the_same_id(rig: Rig, receiver: Receiver) -> None:
    answers = iter([500, 503, 302])
    receiver.script = lambda _: Told(status=next(answers, 200))
    _, number = bring_in(rig, receiver.url)
    job = f"/v1/imports/{number['import_id']}"
    eventually(
        lambda: rig.api.get(job).json()["notifications"][0]["state"] == "delivered", seconds=40
    )
    assert rig.api.get(job).json()["notifications"][0]["attempts"] == 4
    assert len({(one.headers["webhook-id"], one.body) for one in receiver.received}) == 1


def test_a_failed_import_is_told_with_its_reason(rig: Rig, receiver: Receiver) -> None:
    bring_in(rig, receiver.url, 409, replace_existing_routing=False)
    eventually(lambda: len(of_type(receiver, "import.failed")) == 1)
    error = json.loads(of_type(receiver, "import.failed")[0].body)["data"]["error"]
    assert (error["code"], error["step"]) == ("number_in_use", "check_ownership")


@pytest.mark.parametrize(
    "url",
    [
        "http://10.0.0.1/hook",
        "https://192.168.1.1/hook",
        "https://169.254.169.254/latest/meta-data",
        "https://[::ffff:10.0.0.1]/hook",
        "https://user:pass@example.com/hook",
        "ftp://example.com/hook",
        "nonsense",
    ],
)
def test_a_url_of_our_own_network_is_refused_at_submit(rig: Rig, url: str) -> None:
    order = order_of(rig, TWILIO, "webhook", callback_url=url)
    answer = rig.api.post("/v1/imports", json=dict(order.body))
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_request")
    assert "callback_url" in answer.json()["detail"]
    assert url not in answer.text
