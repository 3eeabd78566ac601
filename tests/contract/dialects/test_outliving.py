"""An import that outlives its request: 202, an address to follow, and in the end a number.

The same stack has the platform's own SIP login at Telnyx, which requests may leave to it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.contract.dialects.case import TIME, WORDS, Contract, Matching
from tests.contract.dialects.cases import oneinbox, weya
from tests.contract.dialects.world import World
from tests.rig import FAST, Rig, running

PLATFORM = {
    "TRUNKLINE_DIALECT_WAIT_SECONDS": "0",
    "TELNYX_TRUNK_ADDRESS": "sip.platform.example",
    "TELNYX_SIP_USERNAME": "platform",
    "TELNYX_SIP_PASSWORD": "planted-platform-password",
}


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running(env={**FAST, **PLATFORM}) as started:
        yield started


@pytest.fixture(scope="module")
def tenant(rig: Rig) -> dict[str, str]:
    arguments = ("admin", "bootstrap", "--organization", "Acme", "--role", "admin", "--json")
    made: dict[str, str] = json.loads(rig.stack.command("bootstrap", *arguments))
    return made


@pytest.fixture
def world(rig: Rig, tenant: dict[str, str]) -> World:
    return World(
        rig=rig,
        key=tenant["api_key"],
        viewer_key="",
        other_key="",
        organization_id=tenant["organization_id"],
        other_organization_id="",
    )


def _send(world: World, contract: Contract, body: Any, status: int = 202) -> httpx.Response:
    url = f"{world.rig.stack.api_url}/dialects/{contract.name}{contract.path}"
    answer = httpx.request(
        contract.method,
        url,
        json=body,
        headers=contract.headers(world, world.key),
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == status, answer.text
    return answer


def _follow(world: World, answer: httpx.Response) -> dict[str, Any]:
    """Waits at the address that a 202 names, and returns the number."""
    with world.api() as client:
        job = client.get(answer.headers["location"], params={"wait": 30}).json()
        assert job["status"] == "active", job["error"]
        number: dict[str, Any] = client.get(f"/v1/phone-numbers/{job['phone_number_id']}").json()
    return number


def test_weya_says_that_the_number_is_being_added(world: World) -> None:
    answer = _send(world, weya.CONTRACT, weya.request(world))
    assert answer.json() == {
        "message": WORDS,
        "status": True,
        "code": 202,
        "errorMessage": "",
        "data": None,
    }
    assert _follow(world, answer)["phone_number"] == world.order().number


def test_oneinbox_says_that_the_number_is_pending(world: World) -> None:
    answer = _send(world, oneinbox.CONTRACT, oneinbox.request(world))
    told = answer.json()
    assert told == {
        "id": Matching(shape="[0-9a-f-]{36}"),
        "phone_number": world.order("telnyx").number,
        "friendly_name": "Front desk",
        "provider": "telnyx",
        "agent_id": WORDS,
        "status": "pending",
        "inbound_trunk_id": None,
        "outbound_trunk_id": None,
        "dispatch_rule_id": None,
        "inbound_routing": None,
        "sms_capable": None,
        "created_at": TIME,
        "updated_at": TIME,
    }
    assert _follow(world, answer)["id"] == f"num_{told['id'].replace('-', '')}"


@pytest.mark.parametrize(
    ("config", "login"),
    [
        ({}, ("sip.platform.example", "platform")),
        ({"trunk_address": "sip.platform.example"}, ("sip.platform.example", "platform")),
        (
            {"auth_username": "acme", "auth_password": oneinbox.PASSWORD},
            ("sip.platform.example", "acme"),
        ),
        (oneinbox.CONFIG, ("sip.telnyx.com", "acme")),
    ],
    ids=["nothing", "the platform's address", "a login", "everything"],
)
def test_what_provider_config_leaves_out_is_the_platforms(
    world: World, config: dict[str, str], login: tuple[str, str]
) -> None:
    answer = _send(world, oneinbox.CONTRACT, oneinbox.request(world, provider_config=config))
    number = _follow(world, answer)
    assert "planted" not in str(number)
    (outbound,) = oneinbox.trunks(world, "outbound")
    assert (outbound["address"], outbound["auth_username"]) == login
    assert oneinbox.call(world, "telnyx", oneinbox.SOURCES["telnyx"])["outcome"] == "agent"


def test_the_platforms_login_goes_to_no_other_address(world: World) -> None:
    body = oneinbox.request(world, provider_config={"trunk_address": "sip.elsewhere.example"})
    answer = _send(world, oneinbox.CONTRACT, body, status=400)
    assert answer.json()["detail"]["code"] == "SIP_TRUNK_PROVISION_FAILED"


def test_the_platforms_login_at_one_carrier_is_not_used_at_another(world: World) -> None:
    body = oneinbox.request(world, "twilio", provider_config={})
    answer = _send(world, oneinbox.CONTRACT, body, status=400)
    assert answer.json()["detail"]["code"] == "SIP_TRUNK_PROVISION_FAILED"
