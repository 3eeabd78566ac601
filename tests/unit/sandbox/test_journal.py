from __future__ import annotations

from typing import TYPE_CHECKING

import httpx
import pytest
from livekit import api

from tests.unit.sandbox.conftest import AC, LK_KEY, PN, TOKEN

if TYPE_CHECKING:
    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control, LiveKitCalls


def test_every_request_is_there_in_order(
    control: Control, twilio: Client, livekit: LiveKitCalls
) -> None:
    twilio.incoming_phone_numbers(PN).update(voice_url="https://v.example.com/")
    livekit(lambda sip: sip.list_inbound_trunk(api.ListSIPInboundTrunkRequest(numbers=["+1"])))
    twilio.trunking.v1.trunks.create(friendly_name="t")
    first, second, third = control.journal()
    assert [entry["seq"] for entry in (first, second, third)] == [1, 2, 3]
    assert first["operation"] == "twilio.incoming_phone_numbers.update"
    assert (first["vendor"], first["method"], first["write"]) == ("twilio", "POST", True)
    assert (first["account"], first["status"], first["outcome"]) == (AC, 200, "answered")
    assert first["body"] == {"VoiceUrl": "https://v.example.com/"}
    assert first["duration_ms"] >= 0
    assert second["operation"] == "livekit.list_sip_inbound_trunk"
    assert (second["account"], second["write"]) == (LK_KEY, False)
    assert second["body"] == {"numbers": ["+1"]}
    assert (third["operation"], third["account"]) == ("twilio.trunks.create", AC)
    assert third["path"] == "/twilio-trunking/v1/Trunks"


def test_requests_are_attributed_by_header(control: Control, twilio: Client) -> None:
    twilio.http_client.attempt = "imp-1/configure_webhooks/3"
    twilio.incoming_phone_numbers(PN).fetch()
    twilio.http_client.attempt = "imp-2/route_number.undo/1"
    twilio.incoming_phone_numbers(PN).fetch()
    (entry,) = control.journal(import_id="imp-1")
    assert (entry["import_id"], entry["step"], entry["attempt"]) == (
        "imp-1",
        "configure_webhooks",
        3,
    )
    assert [entry["import_id"] for entry in control.journal(step="*.undo")] == ["imp-2"]


@pytest.mark.parametrize("header", ["", "imp-1", "imp-1/step", "imp-1/step/x", "a/b/c/1", "//1"])
def test_other_headers_attribute_nothing(control: Control, twilio: Client, header: str) -> None:
    twilio.http_client.attempt = header
    twilio.incoming_phone_numbers(PN).fetch()
    (entry,) = control.journal()
    assert (entry["import_id"], entry["step"], entry["attempt"]) == (None, None, None)


def test_selection(control: Control, twilio: Client, livekit: LiveKitCalls) -> None:
    twilio.incoming_phone_numbers(PN).fetch()
    livekit(lambda sip: sip.list_dispatch_rule(api.ListSIPDispatchRuleRequest()))
    twilio.incoming_phone_numbers.list(limit=1)
    assert [entry["seq"] for entry in control.journal(vendor="twilio")] == [1, 3]
    assert [entry["seq"] for entry in control.journal(operation="*.list*")] == [2, 3]
    assert [entry["seq"] for entry in control.journal(after=2)] == [3]
    answer = control.get("/journal", after=3)
    assert answer == {"entries": [], "last": 3, "dropped": 0}
    assert control.http.get("/journal", params={"opration": "x"}).status_code == 400


def test_secrets_are_masked(control: Control, livekit: LiveKitCalls) -> None:
    trunk = api.SIPInboundTrunkInfo(auth_username="u", auth_password="sandbox-secret")
    livekit(lambda sip: sip.create_inbound_trunk(api.CreateSIPInboundTrunkRequest(trunk=trunk)))
    (entry,) = control.journal()
    assert entry["body"] == {"trunk": {"auth_username": "u", "auth_password": "***"}}
    assert TOKEN not in str(entry)


def test_refused_and_unknown_requests_are_there_too(control: Control) -> None:
    control.http.get(f"{control.url}/twilio/2010-04-01/Accounts/{AC}.json", auth=(AC, "wrong"))
    control.http.post(f"{control.url}/twilio/2010-04-01/Accounts/{AC}/Calls.json", auth=(AC, TOKEN))
    control.http.get(f"{control.url}/livekit/nothing")
    assert [(entry["operation"], entry["status"]) for entry in control.journal()] == [
        ("twilio.accounts.fetch", 401),
        ("twilio.unknown", 404),
        ("livekit.unknown", 404),
    ]


def test_control_and_unknown_vendors_are_not_there(control: Control) -> None:
    control.get("/state")
    assert control.http.get(f"{control.url}/nobody/v1").status_code == httpx.codes.NOT_FOUND
    assert control.http.get("/nothing").status_code == httpx.codes.NOT_FOUND
    assert control.journal() == []
