from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from livekit import api as lk

from tests.unit.sandbox.phone_api import FOREIGN, PUBLIC, Api, Asked, response, serving
from tests.unit.sandbox.test_livekit import inbound, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.sandbox.conftest import Control, LiveKitCalls

ACCOUNT = "acct-1"
NUMBER, CALLER = "+14155550130", "+442079460018"
HOST = "sandbox.sip.livekit.example"
USER, PASSWORD = "trunkline-t", "sandbox-sip-password"
SEED = b"\x07" * 32
KEY = Ed25519PrivateKey.from_private_bytes(SEED)


@pytest.fixture
def api(control: Control) -> Iterator[Api]:
    with serving() as api:
        control.post("/public-urls", {PUBLIC: api.base_url})
        yield api


def seeded(control: Control, number: dict[str, Any] | None = None, **account: Any) -> None:
    known = {"id": ACCOUNT, "api_key": "KEYsandbox"}
    key = base64.b64encode(SEED).decode()
    numbers = [{"phone_number": NUMBER, **(number or {})}]
    accounts = [{**known, "webhook_private_key": key, **account, "numbers": numbers}]
    control.post("/seed", {"telnyx": {"accounts": accounts}})


def texml(url: str, **fields: Any) -> dict[str, Any]:
    common = {"record_type": "texml_application", "id": "1001", "friendly_name": "ours"}
    return {"connections": [{**common, "voice_url": url, **fields}]}


def fqdn(host: str = HOST, **fields: Any) -> dict[str, Any]:
    connection = {"record_type": "fqdn_connection", "id": "1002", "connection_name": "ours"}
    return {
        "connections": [{**connection, "transport_protocol": "TCP", **fields}],
        "fqdns": [{"connection_id": "1002", "fqdn": host, "dns_record_type": "a", "port": 5060}],
    }


def called(control: Control, **order: Any) -> dict[str, Any]:
    fixed = {"vendor": "telnyx", "account": ACCOUNT, "number": NUMBER, "from": CALLER}
    return control.post("/calls", {**fixed, **order})


def dial(attributes: str = "") -> str:
    return (
        f'<Dial timeout="20" {attributes}><Sip username="{USER}" password="{PASSWORD}">'
        f"sip:{NUMBER}@{HOST};transport=tcp</Sip></Dial>"
    )


def verify(asked: Asked, key: Ed25519PrivateKey = KEY) -> None:
    """As the documentation says it, with the public half."""
    at = asked.headers["telnyx-timestamp"]
    signature = base64.b64decode(asked.headers["telnyx-signature-ed25519"])
    assert abs(int(at) - time.time()) < 60
    key.public_key().verify(signature, f"{at}|".encode() + asked.body)


@pytest.fixture
def room(livekit: LiveKitCalls) -> str:
    trunk = inbound(livekit, NUMBER, auth_username=USER, auth_password=PASSWORD).sip_trunk_id
    config = lk.RoomConfiguration(agents=[lk.RoomAgentDispatch(agent_name="desk")])
    rule(livekit, trunk, room_config=config)
    return trunk


class TestTexml:
    def test_application_reaches_the_agent(self, control: Control, api: Api, room: str) -> None:
        voice = api.answers("/voice", response(dial(f'action="{PUBLIC}/dialed"')))
        api.answers("/dialed", response("<Hangup/>"))
        status = api.answers("/status", "", status=204)
        seeded(control, {"connection_id": "1001"}, **texml(voice, status_callback=status))
        trace = called(control, repeat=2)
        assert (trace["outcome"], trace["agent_name"], trace["trunk"]) == ("agent", "desk", room)
        assert trace["problems"] == []
        assert [len(api.at(path)) for path in ("/voice", "/dialed", "/status")] == [1, 1, 2]
        for asked in api.asked:
            verify(asked)
        with pytest.raises(InvalidSignature):
            verify(api.asked[0], Ed25519PrivateKey.from_private_bytes(b"\x08" * 32))
        assert api.at("/dialed")[0].form["DialCallStatus"] == "completed"
        first, second = api.at("/status")
        assert first.form == second.form
        assert (first.form["CallStatus"], first.form["CallDuration"]) == ("completed", "5")

    def test_inactive_application_is_rejected(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", response(dial()))
        seeded(control, {"connection_id": "1001"}, **texml(voice, active=False))
        trace = called(control)
        assert trace["outcome"] == "rejected"
        assert trace["reason"] == "the texml_application is not active"
        assert api.asked == []

    @pytest.mark.parametrize(
        "body",
        [
            response('<Dial answerOnBridge="true"><Sip>sip:a@b.example</Sip></Dial>'),
            response("<Dial>+14155550188</Dial>"),
            response('<Dial timeout="121"><Sip>sip:a@b.example</Sip></Dial>'),
            response("<Speak>hello</Speak>"),
            "<Response>",
        ],
    )
    def test_what_texml_does_not_know_fails(self, control: Control, api: Api, body: str) -> None:
        seeded(control, {"connection_id": "1001"}, **texml(api.answers("/voice", body)))
        assert called(control)["outcome"] == "failed"

    def test_failover_url_is_asked(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", "", status=500)
        fields = texml(voice, voice_fallback_url=FOREIGN)
        seeded(control, {"connection_id": "1001"}, **fields)
        trace = called(control)
        assert (trace["outcome"], trace["reason"]) == ("forwarded", f"answered by {FOREIGN}")

    def test_get_has_an_empty_signed_body(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", response("<Hangup/>"))
        seeded(control, {"connection_id": "1001"}, **texml(voice, voice_method="get"))
        called(control)
        (asked,) = api.asked
        assert (asked.method, asked.body, asked.query["To"]) == ("GET", b"", NUMBER)
        verify(asked)

    def test_voicemail_ends_with_the_next_verb(self, control: Control, api: Api) -> None:
        ready = api.answers("/recording", "", status=204)
        record = f'<Say>Speak.</Say><Record recordingStatusCallback="{ready}"/><Hangup/>'
        voice = api.answers("/voice", response(record))
        seeded(control, {"connection_id": "1001"}, **texml(voice))
        trace = called(control)
        assert (trace["outcome"], trace["problems"]) == ("voicemail", [])
        (asked,) = api.at("/recording")
        assert (asked.form["RecordingStatus"], asked.form["RecordingDuration"]) == (
            "completed",
            "7",
        )
        verify(asked)


class TestOtherTargets:
    def test_nothing_set_is_rejected(self, control: Control) -> None:
        seeded(control)
        assert called(control)["outcome"] == "rejected"

    def test_forwarding_comes_first(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", response(dial()))
        number = {"connection_id": "1001", "forwards_to": "+14155550188"}
        seeded(control, {**number, "forwarding_type": "always"}, **texml(voice))
        trace = called(control)
        assert trace["reason"] == "forwarded to the number +14155550188"
        assert api.asked == []

    def test_forwarding_on_failure_comes_last(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", response(dial()))
        number = {"connection_id": "1001", "forwards_to": "+14155550188"}
        seeded(control, {**number, "forwarding_type": "on-failure"}, **texml(voice))
        trace = called(control)
        assert (trace["outcome"], len(api.asked)) == ("forwarded", 1)
        assert trace["problems"] == ["Does not match Trunks or Dispatch Rules"]

    def test_disabled_forwarding_is_none(self, control: Control) -> None:
        seeded(control, {"forwards_to": "+14155550188", "call_forwarding_enabled": False})
        assert called(control)["outcome"] == "rejected"

    def test_call_control_is_somebody_elses(self, control: Control) -> None:
        application = {
            "record_type": "call_control_application",
            "id": "1003",
            "application_name": "theirs",
            "webhook_event_url": "https://old.example.com/events",
        }
        seeded(control, {"connection_id": "1003"}, connections=[application])
        trace = called(control)
        assert trace["reason"] == "answered by https://old.example.com/events"

    def test_porting_number_is_rejected(self, control: Control) -> None:
        seeded(control, {"status": "port-pending"})
        assert "port-pending" in called(control)["reason"]


class TestFqdn:
    @pytest.fixture
    def admitted(self, livekit: LiveKitCalls) -> str:
        trunk = inbound(livekit, NUMBER, allowed_addresses=["192.76.120.10"]).sip_trunk_id
        rule(livekit, trunk)
        return trunk

    def test_called_number_needs_no_plus(self, control: Control, admitted: str) -> None:
        seeded(control, {"connection_id": "1002"}, **fqdn())
        trace = called(control)
        assert (trace["outcome"], trace["trunk"]) == ("agent", admitted)
        (invite,) = trace["steps"]
        # The two defaults that surprise: no plus for the called, no country for the caller.
        assert invite["address"] == f"14155550130@{HOST}:5060"
        assert (invite["from"], invite["login"]) == ("2079460018", None)

    @pytest.mark.usefixtures("admitted")
    def test_formats_are_the_connections(self, control: Control) -> None:
        formats = {"dnis_number_format": "+e164", "ani_number_format": "+E.164"}
        seeded(control, {"connection_id": "1002"}, **fqdn(inbound=formats))
        (invite,) = called(control)["steps"]
        assert (invite["address"], invite["from"]) == (f"{NUMBER}@{HOST}:5060", CALLER)

    @pytest.mark.usefixtures("admitted")
    def test_national_format_matches_no_trunk(self, control: Control) -> None:
        national = {"dnis_number_format": "national"}
        seeded(control, {"connection_id": "1002"}, **fqdn(inbound=national))
        assert called(control)["reason"] == "Does not match any SIP Trunks"

    @pytest.mark.usefixtures("admitted")
    def test_address_that_is_not_admitted_fails(self, control: Control) -> None:
        seeded(control, {"connection_id": "1002"}, **fqdn())
        assert called(control, source="192.76.120.11")["outcome"] == "failed"

    @pytest.mark.usefixtures("room")
    def test_login_cannot_be_given(self, control: Control) -> None:
        seeded(control, {"connection_id": "1002"}, **fqdn())
        assert "carries none" in called(control)["reason"]

    def test_other_host_and_inactive_connection(self, control: Control) -> None:
        seeded(control, {"connection_id": "1002"}, **fqdn("pbx.example.com"))
        assert called(control)["outcome"] == "forwarded"
        control.post("/reset")
        seeded(control, {"connection_id": "1002"}, **fqdn(active=False))
        assert called(control)["outcome"] == "rejected"


class TestMessages:
    def texted(self, control: Control, **order: Any) -> dict[str, Any]:
        fixed = {"vendor": "telnyx", "account": ACCOUNT, "number": NUMBER, "from": CALLER}
        return control.post("/messages", {**fixed, "text": "hällo", **order})

    def profile(self, control: Control, url: str | None, **fields: Any) -> None:
        profile = {"id": "p1", "name": "ours", "whitelisted_destinations": ["US"], **fields}
        profiles = [{**profile, "webhook_url": url}]
        seeded(control, {"messaging_profile_id": "p1"}, messaging_profiles=profiles)

    def test_profile_is_told_in_json(self, control: Control, api: Api) -> None:
        self.profile(control, api.answers("/sms", "", status=200))
        trace = self.texted(control, repeat=2)
        assert (trace["outcome"], len(trace["steps"])) == ("delivered", 2)
        first, second = (json.loads(item.body)["data"] for item in api.asked)
        assert first["id"] == second["id"]
        assert (first["event_type"], first["payload"]["text"]) == ("message.received", "hällo")
        assert first["payload"]["to"][0]["phone_number"] == NUMBER
        verify(api.asked[0])

    def test_failover_then_failure(self, control: Control, api: Api) -> None:
        url = api.answers("/sms", "", status=500)
        other = api.answers("/failover", "", status=503)
        self.profile(control, url, webhook_failover_url=other)
        trace = self.texted(control)
        assert (trace["outcome"], [step["status"] for step in trace["steps"]]) == (
            "failed",
            [500, 503],
        )

    def test_none_set_disabled_and_foreign(self, control: Control) -> None:
        self.profile(control, None)
        assert self.texted(control)["outcome"] == "rejected"
        control.post("/reset")
        self.profile(control, FOREIGN, enabled=False)
        assert self.texted(control)["outcome"] == "rejected"
        control.post("/reset")
        self.profile(control, FOREIGN)
        assert self.texted(control)["outcome"] == "forwarded"
