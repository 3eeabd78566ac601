from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from livekit import api as lk
from twilio.request_validator import RequestValidator

from tests.unit.sandbox.conftest import AC, NUMBER, TOKEN, Control, LiveKitCalls
from tests.unit.sandbox.phone_api import FOREIGN, PUBLIC, Api, Asked, response, serving
from tests.unit.sandbox.test_livekit import inbound, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from twilio.rest import Client

HOST = "sandbox.sip.livekit.example"
USER, PASSWORD = "trunkline-a", "sandbox-sip-password"
AGENT = "front-desk"


@pytest.fixture
def api(control: Control) -> Iterator[Api]:
    with serving() as api:
        control.post("/public-urls", {PUBLIC: api.base_url})
        yield api


def called(control: Control, **order: Any) -> dict[str, Any]:
    order = {"vendor": "twilio", "account": AC, "number": NUMBER, "from": "+14155550199", **order}
    return control.post("/calls", order)


def routed(control: Control, **fields: object) -> None:
    edit = {"vendor": "twilio", "account": AC, "phone_number": NUMBER, "set": fields}
    control.post("/edit", edit)


def agents(*names: str) -> lk.RoomConfiguration:
    return lk.RoomConfiguration(agents=[lk.RoomAgentDispatch(agent_name=name) for name in names])


@pytest.fixture
def room(livekit: LiveKitCalls) -> str:
    """A trunk with a login and its rule; gives the trunk's id."""
    trunk = inbound(livekit, NUMBER, auth_username=USER, auth_password=PASSWORD).sip_trunk_id
    rule(livekit, trunk, room_config=agents(AGENT))
    return trunk


def dial(
    user: str = NUMBER, *, password: str = PASSWORD, host: str = HOST, attributes: str = ""
) -> str:
    return (
        f'<Dial timeout="20" {attributes}><Sip username="{USER}" password="{password}">'
        f"sip:{user}@{host};transport=tcp</Sip></Dial>"
    )


def validated(asked: Asked, token: str = TOKEN) -> bool:
    signature = asked.headers["x-twilio-signature"]
    return bool(RequestValidator(token).validate(asked.url, asked.form, signature))


class TestWhatWins:
    def test_url_reaches_the_agent(self, control: Control, api: Api, room: str) -> None:
        routed(control, voice_url=api.answers("/voice", response(dial())))
        trace = called(control)
        assert (trace["outcome"], trace["reason"], trace["problems"]) == ("agent", None, [])
        assert (trace["agent_name"], trace["room_prefix"]) == (AGENT, "call-")
        assert trace["trunk"] == room
        assert trace["rule"].startswith("SDR_")
        webhook, invite = trace["steps"]
        assert (webhook["purpose"], webhook["status"]) == ("voice", 200)
        assert webhook["verbs"][0]["name"] == "Dial"
        assert (invite["address"], invite["transport"]) == (f"{NUMBER}@{HOST}", "tcp")
        assert (invite["login"], invite["status"]) == (USER, 200)
        assert PASSWORD not in str(trace)

    def test_trunk_overrides_url(self, control: Control, twilio: Client, api: Api) -> None:
        trunk = twilio.trunking.v1.trunks.create(friendly_name="theirs")
        trunk.origination_urls.create(
            weight=1, priority=1, enabled=True, friendly_name="o", sip_url="sip:pbx.example.com"
        )
        routed(control, voice_url=api.answers("/voice", response(dial())), trunk_sid=trunk.sid)
        trace = called(control)
        assert trace["outcome"] == "forwarded"
        assert trace["reason"] == f"sent to {NUMBER}@pbx.example.com"
        assert api.asked == []

    def test_application_overrides_url(self, control: Control, twilio: Client, api: Api) -> None:
        sid = twilio.applications.create(friendly_name="theirs", voice_url=FOREIGN).sid
        routed(control, voice_url=api.answers("/voice", ""), voice_application_sid=sid)
        trace = called(control)
        assert (trace["outcome"], trace["reason"]) == ("forwarded", f"answered by {FOREIGN}")
        assert api.asked == []

    def test_nothing_set_is_rejected(self, control: Control) -> None:
        routed(control, voice_url="")
        trace = called(control)
        assert (trace["outcome"], trace["steps"]) == ("rejected", [])

    def test_suspended_account_is_rejected(self, control: Control, api: Api) -> None:
        routed(control, voice_url=api.answers("/voice", response(dial())))
        control.post("/seed", {"twilio": {"accounts": [{"sid": AC, "status": "suspended"}]}})
        trace = called(control)
        assert (trace["outcome"], trace["reason"]) == ("rejected", "the account is suspended")
        assert api.asked == []

    def test_number_of_nobody_is_refused(self, control: Control) -> None:
        order = {"vendor": "twilio", "account": AC, "number": "+14155550177", "from": NUMBER}
        refused = control.http.post("/calls", json=order)
        assert refused.status_code == 400
        assert "has no number" in refused.json()["error"]


class TestTrunk:
    @pytest.fixture
    def trunk(self, control: Control, twilio: Client) -> Any:
        trunk = twilio.trunking.v1.trunks.create(friendly_name="ours")
        trunk.origination_urls.create(
            weight=1,
            priority=1,
            enabled=True,
            friendly_name="o",
            sip_url=f"sip:{HOST};transport=tcp",
        )
        routed(control, trunk_sid=trunk.sid)
        return trunk

    @pytest.mark.usefixtures("trunk")
    def test_address_of_the_carrier_is_admitted(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        admitted = inbound(livekit, NUMBER, allowed_addresses=["54.172.60.0/30"]).sip_trunk_id
        rule(livekit, admitted, room_config=agents(AGENT))
        assert called(control)["outcome"] == "agent"
        refused = called(control, source="198.51.100.7")
        assert refused["outcome"] == "failed"
        assert refused["reason"] == "Does not match any SIP Trunks"
        assert refused["steps"][0]["source"] == "198.51.100.7"

    @pytest.mark.usefixtures("trunk", "room")
    def test_login_cannot_be_given(self, control: Control) -> None:
        trace = called(control)
        assert trace["outcome"] == "failed"
        assert "carries none" in trace["reason"]

    def test_encryption_must_fit(self, control: Control, trunk: Any, livekit: LiveKitCalls) -> None:
        media = lk.SIPMediaConfig(encryption=lk.SIP_MEDIA_ENCRYPT_REQUIRE)
        admitted = inbound(livekit, NUMBER, allowed_addresses=["54.172.60.0/30"], media=media)
        rule(livekit, admitted.sip_trunk_id)
        assert "requires encrypted media" in called(control)["reason"]
        trunk.update(secure=True)
        assert called(control)["outcome"] == "agent"

    def test_recovery_url_is_asked_when_no_origination_answers(
        self, control: Control, trunk: Any, api: Api
    ) -> None:
        (url,) = trunk.origination_urls.list()
        url.update(sip_url=f"sip:{HOST}:5099")
        trunk.update(disaster_recovery_url=api.answers("/recovery", response("<Hangup/>")))
        trace = called(control)
        assert [step["kind"] for step in trace["steps"]] == ["invite", "webhook"]
        assert len(api.at("/recovery")) == 1

    def test_disabled_origination_is_rejected(
        self, control: Control, trunk: Any, room: str
    ) -> None:
        (url,) = trunk.origination_urls.list()
        url.update(enabled=False)
        trace = called(control)
        assert (trace["outcome"], trace["steps"], trace["trunk"]) == ("rejected", [], None)
        assert room

    def test_foreign_host_has_the_call(self, control: Control, trunk: Any) -> None:
        (url,) = trunk.origination_urls.list()
        url.update(sip_url="sip:other.sip.livekit.example;transport=tcp")
        assert called(control)["outcome"] == "forwarded"

    def test_next_priority_takes_over(
        self, control: Control, trunk: Any, livekit: LiveKitCalls
    ) -> None:
        (url,) = trunk.origination_urls.list()
        url.update(sip_url=f"sip:{HOST}:5099;transport=tcp", priority=1)
        trunk.origination_urls.create(
            weight=1, priority=2, enabled=True, friendly_name="p", sip_url=f"sip:{HOST}"
        )
        admitted = inbound(livekit, NUMBER, allowed_addresses=["54.172.60.0/30"]).sip_trunk_id
        rule(livekit, admitted, room_config=agents(AGENT))
        trace = called(control)
        assert trace["outcome"] == "agent"
        assert [step["transport"] for step in trace["steps"]] == ["tcp", "udp"]
        assert "port 5099" in trace["problems"][0]


class TestSignature:
    def test_sdk_validates_every_request(self, control: Control, api: Api, room: str) -> None:
        assert room
        action = api.answers("/dialed?number=num_1&x=a%20b", "")
        api.answers("/dialed", response("<Hangup/>"))
        attribute = f'action="{action.replace("&", "&amp;")}"'
        routed(
            control,
            voice_url=api.answers("/voice", response(dial(attributes=attribute))),
            status_callback=api.answers("/status", "", status=204),
        )
        called(control, attestation="B")
        assert [item.url.partition("?")[0][len(PUBLIC) :] for item in api.asked] == [
            "/voice",
            "/dialed",
            "/status",
        ]
        assert all(validated(item) for item in api.asked)
        assert not any(validated(item, "another-token") for item in api.asked)
        voice, dialed, status = (item.form for item in api.asked)
        assert (voice["CallStatus"], voice["StirVerstat"]) == ("ringing", "TN-Validation-Passed-B")
        assert (dialed["DialCallStatus"], dialed["DialCallDuration"]) == ("completed", "5")
        assert (status["CallStatus"], status["CallDuration"]) == ("completed", "5")
        assert len({form["CallSid"] for form in (voice, dialed, status)}) == 1

    def test_get_is_signed_with_its_query(self, control: Control, api: Api) -> None:
        url = api.answers("/voice", response("<Hangup/>"))
        routed(control, voice_url=f"{url}?a=1", voice_method="GET")
        called(control)
        (asked,) = api.asked
        assert (asked.method, asked.query["a"], asked.query["To"]) == ("GET", "1", NUMBER)
        assert asked.body == b""
        assert validated(asked)

    def test_secondary_token_signs_nothing(self, control: Control, api: Api) -> None:
        second = {"sid": AC, "secondary_auth_token": "second-token"}
        control.post("/seed", {"twilio": {"accounts": [second]}})
        routed(control, voice_url=api.answers("/voice", response("<Hangup/>")))
        called(control)
        assert validated(api.asked[0])
        assert not validated(api.asked[0], "second-token")


class TestDocuments:
    @pytest.mark.parametrize(
        ("body", "content_type", "code"),
        [
            ("<Response><Dial>", "text/xml", "12100"),
            ("<Twiml/>", "text/xml", "12102"),
            ("", "text/xml", "12100"),
            (response("<Hangup/>"), "application/json", "12300"),
            (response("<Hangup/>"), "text/html", "12300"),
            (response("<Dail/>"), "text/xml", "12200"),
            (response('<Dial tiemout="5">+1</Dial>'), "text/xml", "12200"),
            (response("<Dial/>"), "text/xml", "12200"),
            (response('<Dial timeout="0"><Sip>sip:a@b.example</Sip></Dial>'), "text/xml", "12200"),
            (response("<Dial><Sip>a@b.example</Sip></Dial>"), "text/xml", "12200"),
            (response('<Dial><Sip username="u">sip:a@b.example</Sip></Dial>'), "text/xml", "12200"),
            (response("<Dial><User>sip:a@b.example</User></Dial>"), "text/xml", "12200"),
            (response('<Redirect method="PUT">/x</Redirect>'), "text/xml", "12200"),
            (response("<Speak>hello</Speak>"), "text/xml", "12200"),
        ],
    )
    def test_what_cannot_be_carried_out_fails(
        self, control: Control, api: Api, body: str, content_type: str, code: str
    ) -> None:
        routed(control, voice_url=api.answers("/voice", body, content_type=content_type))
        trace = called(control)
        assert trace["outcome"] == "failed"
        assert trace["reason"].startswith(f"{code}: ")

    @pytest.mark.parametrize("status", [302, 403, 500])
    def test_status_other_than_2xx_fails(self, control: Control, api: Api, status: int) -> None:
        routed(control, voice_url=api.answers("/voice", response("<Hangup/>"), status=status))
        trace = called(control)
        assert (trace["outcome"], trace["reason"]) == (
            "failed",
            f"11200: the answer's status is {status}",
        )
        assert trace["steps"][0]["status"] == status

    def test_server_that_is_gone_fails(self, control: Control, api: Api) -> None:
        control.post("/public-urls", {PUBLIC: "http://127.0.0.1:1"})
        routed(control, voice_url=api.answers("/voice", response("<Hangup/>")))
        trace = called(control)
        assert trace["outcome"] == "failed"
        assert "no connection" in trace["reason"]

    def test_fallback_url_is_asked_with_the_error(self, control: Control, api: Api) -> None:
        fallback = api.answers("/fallback", response("<Hangup/>"))
        routed(control, voice_url=api.answers("/voice", "<"), voice_fallback_url=fallback)
        called(control)
        (asked,) = api.at("/fallback")
        assert asked.form["ErrorCode"] == "12100"
        assert asked.form["ErrorUrl"] == f"{PUBLIC}/voice"

    def test_fallback_that_fails_too_is_not_asked_again(self, control: Control, api: Api) -> None:
        fallback = api.answers("/fallback", "", status=500)
        routed(control, voice_url=api.answers("/voice", "<"), voice_fallback_url=fallback)
        trace = called(control)
        assert (trace["outcome"], len(trace["problems"])) == ("failed", 2)
        assert trace["reason"].startswith("11200: ")
        assert len(api.at("/fallback")) == 1

    def test_foreign_fallback_has_the_call(self, control: Control, api: Api) -> None:
        routed(
            control,
            voice_url=api.answers("/voice", "", status=500),
            voice_fallback_url="https://old.example.com/f",
        )
        trace = called(control)
        assert trace["outcome"] == "forwarded"
        assert len(trace["problems"]) == 1

    def test_redirect_to_a_foreign_url_forwards(self, control: Control, api: Api) -> None:
        redirect = f'<Redirect method="GET">{FOREIGN}</Redirect>'
        routed(control, voice_url=api.answers("/voice", response(redirect)))
        trace = called(control)
        assert (trace["outcome"], trace["reason"]) == ("forwarded", f"answered by {FOREIGN}")
        assert (trace["steps"][-1]["method"], trace["steps"][-1]["foreign"]) == ("GET", True)

    def test_circle_fails(self, control: Control, api: Api) -> None:
        url = api.answers("/voice", response("<Redirect>/voice</Redirect>"))
        routed(control, voice_url=url)
        trace = called(control)
        assert trace["outcome"] == "failed"
        assert "circle" in trace["reason"]
        assert len(api.asked) == 20

    def test_reject_and_hangup_reject(self, control: Control, api: Api) -> None:
        routed(control, voice_url=api.answers("/voice", response("<Reject/>")))
        assert called(control)["reason"] == "ended by <Reject>"
        api.answers("/voice", response("<Say>bye</Say><Hangup/>"))
        assert called(control)["reason"] == "ended by <Hangup>"
        api.answers("/voice", response())
        assert called(control)["outcome"] == "rejected"


class TestDial:
    def test_wrong_login_fails(self, control: Control, api: Api, room: str) -> None:
        routed(control, voice_url=api.answers("/voice", response(dial(password="wrong"))))
        trace = called(control)
        assert trace["outcome"] == "failed"
        assert "not the trunk's" in trace["reason"]
        assert (trace["trunk"], trace["steps"][-1]["status"]) == (room, 401)

    @pytest.mark.usefixtures("room")
    def test_offline_agent_rings_until_the_fallback(
        self, control: Control, api: Api, livekit: LiveKitCalls
    ) -> None:
        user = "14155550100-fallback"
        second = inbound(livekit, user, auth_username=USER, auth_password=PASSWORD).sip_trunk_id
        rule(livekit, second, room_config=agents("night-shift"))
        action = api.answers("/dialed", response(dial(user)))
        first = dial(attributes=f'action="{action}"')
        routed(control, voice_url=api.answers("/voice", response(first)))
        control.post("/agents", {AGENT: "offline"})
        trace = called(control)
        assert (trace["outcome"], trace["agent_name"]) == ("agent", "night-shift")
        assert trace["trunk"] == second
        assert trace["problems"] == ["nobody joined the room within 20 s"]
        (asked,) = api.at("/dialed")
        assert asked.form["DialCallStatus"] == "no-answer"
        assert "DialCallDuration" not in asked.form

    @pytest.mark.usefixtures("room")
    def test_nobody_answers(self, control: Control, api: Api) -> None:
        status = api.answers("/status", "", status=204)
        voice = api.answers("/voice", response(dial()))
        routed(control, voice_url=voice, status_callback=status)
        trace = called(control, answered=False)
        assert trace["outcome"] == "ringing_unanswered"
        (asked,) = api.at("/status")
        assert asked.form["CallStatus"] == "no-answer"

    @pytest.mark.usefixtures("room")
    def test_action_replaces_what_follows(self, control: Control, api: Api) -> None:
        action = api.answers("/dialed", response("<Hangup/>"))
        verbs = dial(attributes=f'action="{action}"') + f"<Redirect>{FOREIGN}</Redirect>"
        routed(control, voice_url=api.answers("/voice", response(verbs)))
        assert called(control)["outcome"] == "agent"
        api.answers("/voice", response(f"{dial()}<Redirect>{FOREIGN}</Redirect>"))
        trace = called(control)
        assert (trace["outcome"], trace["steps"][-1]["url"]) == ("agent", FOREIGN)

    def test_number_and_foreign_address_forward(self, control: Control, api: Api) -> None:
        routed(control, voice_url=api.answers("/voice", response("<Dial>+14155550188</Dial>")))
        assert called(control)["reason"] == "sent to the number +14155550188"
        api.answers("/voice", response(dial(host="pbx.example.com")))
        assert called(control)["reason"] == f"sent to {NUMBER}@pbx.example.com"


class TestVoicemail:
    def test_recording_is_announced_once_it_is_ready(self, control: Control, api: Api) -> None:
        ready = api.answers("/recording", "", status=204)
        after = api.answers("/after", response("<Hangup/>"))
        record = f'<Record action="{after}" recordingStatusCallback="{ready}"/>'
        voice = api.answers("/voice", response(f"<Say>Please speak.</Say>{record}"))
        status = api.answers("/status", "", status=204)
        routed(control, voice_url=voice, status_callback=status)
        trace = called(control, repeat=2)
        assert trace["outcome"] == "voicemail"
        assert [len(api.at(path)) for path in ("/after", "/recording", "/status")] == [1, 2, 2]
        first, second = api.at("/recording")
        assert first.form == second.form
        assert first.form["RecordingDuration"] == "7"
        assert first.form["RecordingSid"] == api.at("/after")[0].form["RecordingSid"]
        assert all(validated(item) for item in api.asked)

    def test_record_without_action_asks_the_document_again(
        self, control: Control, api: Api
    ) -> None:
        routed(control, voice_url=api.answers("/voice", response("<Record/><Hangup/>")))
        trace = called(control)
        assert trace["outcome"] == "voicemail"
        assert "circle" in trace["problems"][0]

    def test_silence_goes_on_with_the_next_verb(self, control: Control, api: Api) -> None:
        routed(control, voice_url=api.answers("/voice", response("<Record/><Hangup/>")))
        trace = called(control, message_seconds=0)
        assert (trace["outcome"], len(api.asked)) == ("rejected", 1)


class TestMessages:
    def texted(self, control: Control, **order: Any) -> dict[str, Any]:
        fixed = {"vendor": "twilio", "account": AC, "number": NUMBER, "from": "+14155550199"}
        return control.post("/messages", {**fixed, "text": "hällo & +1", **order})

    def test_url_is_told(self, control: Control, api: Api) -> None:
        routed(control, sms_url=api.answers("/sms", response()))
        trace = self.texted(control, repeat=2)
        assert (trace["outcome"], trace["steps"][0]["status"]) == ("delivered", 200)
        first, second = api.asked
        assert first.form == second.form
        assert (first.form["Body"], first.form["To"]) == ("hällo & +1", NUMBER)
        assert validated(first)

    def test_application_overrides_url(self, control: Control, twilio: Client, api: Api) -> None:
        sid = twilio.applications.create(friendly_name="theirs", sms_url=FOREIGN).sid
        routed(control, sms_url=api.answers("/sms", response()), sms_application_sid=sid)
        assert self.texted(control)["outcome"] == "forwarded"

    def test_nothing_set_and_errors(self, control: Control, api: Api) -> None:
        assert self.texted(control)["outcome"] == "rejected"
        routed(control, sms_url=api.answers("/sms", "{}", content_type="application/json"))
        trace = self.texted(control)
        assert (trace["outcome"], trace["reason"][:5]) == ("failed", "12300")


def test_reset_forgets_agents_and_urls(control: Control, api: Api) -> None:
    control.post("/agents", {AGENT: "offline"})
    control.post("/reset")
    assert control.post("/agents", {}) == {"agents": {}}
    assert control.post("/public-urls", {}) == {"public_urls": {}}
    assert api.asked == []


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/public-urls", {"voice.example.com": "http://127.0.0.1:1"}),
        ("/public-urls", {"https://voice.example.com/x": "http://127.0.0.1:1"}),
        ("/public-urls", {"https://voice.example.com": "127.0.0.1:1"}),
        ("/agents", {"a": "asleep"}),
        ("/calls", {"vendor": "acme", "number": NUMBER, "from": NUMBER}),
        ("/calls", {"vendor": "twilio", "account": AC, "number": "1", "from": NUMBER}),
        ("/messages", {"vendor": "sip", "number": NUMBER, "from": NUMBER}),
    ],
)
def test_orders_that_make_no_sense_are_refused(control: Control, path: str, body: object) -> None:
    assert control.http.post(path, json=body).status_code == 400
