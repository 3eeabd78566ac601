from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import plivo.utils
import pytest
from livekit import api as lk

from deploy.sandbox.app import Sandbox
from tests.unit.sandbox.phone_api import FOREIGN, PUBLIC, Api, Asked, response, serving
from tests.unit.sandbox.test_livekit import inbound, rule

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.sandbox.conftest import Control, LiveKitCalls

MAIN, MAIN_TOKEN = "MA" + "0" * 17 + "1", "sandbox-main-token"
SUB, SUB_TOKEN = "SA" + "0" * 17 + "2", "sandbox-sub-token"
DIGITS, NUMBER, CALLER = "14155550140", "+14155550140", "+14155550199"
HOST = "sandbox.sip.livekit.example"
SOURCE = "203.0.113.1"


@pytest.fixture
def api(control: Control) -> Iterator[Api]:
    with serving() as api:
        control.post("/public-urls", {PUBLIC: api.base_url})
        yield api


def seeded(control: Control, target: str | None = "100", number: Any = (), **account: Any) -> None:
    own = {"auth_id": MAIN, "auth_token": MAIN_TOKEN, **account}
    numbers = [{"number": DIGITS, "app_id": target, **dict(number)}]
    control.post("/seed", {"plivo": {"accounts": [{**own, "numbers": numbers}]}})


def application(url: str, **fields: Any) -> dict[str, Any]:
    return {"applications": [{"app_id": "100", "app_name": "ours", "answer_url": url, **fields}]}


def zentrunk(uri: dict[str, Any], **trunk: Any) -> dict[str, Any]:
    inbound_trunk = {"trunk_id": "200", "name": "ours", "trunk_direction": "inbound"}
    return {
        "zentrunk": {
            "uris": [{"uri_uuid": "u1", "name": "ours", **uri}],
            "trunks": [{**inbound_trunk, "primary_uri_uuid": "u1", **trunk}],
        }
    }


def called(control: Control, **order: Any) -> dict[str, Any]:
    fixed = {"vendor": "plivo", "account": MAIN, "number": NUMBER, "from": CALLER}
    return control.post("/calls", {**fixed, **order})


def dial(attributes: str = "", user: str = "") -> str:
    address = f"sip:{NUMBER}@{HOST};transport=tcp"
    return f'<Dial timeout="20" {attributes}><User {user}>{address}</User></Dial>'


def validated(asked: Asked, token: str = MAIN_TOKEN, header: str = "x-plivo-signature-v3") -> bool:
    return bool(
        plivo.utils.validate_v3_signature(
            asked.method,
            asked.url,
            asked.headers["x-plivo-signature-v3-nonce"],
            token,
            asked.headers[header],
            asked.form if asked.method == "POST" else None,
        )
    )


@pytest.fixture
def room(livekit: LiveKitCalls) -> str:
    """A trunk for the carrier's addresses: no login can stand in most of Plivo's XML."""
    trunk = inbound(livekit, NUMBER, allowed_addresses=["203.0.113.0/30"]).sip_trunk_id
    config = lk.RoomConfiguration(agents=[lk.RoomAgentDispatch(agent_name="desk")])
    rule(livekit, trunk, room_config=config)
    return trunk


class TestApplication:
    def test_answer_url_reaches_the_agent(self, control: Control, api: Api, room: str) -> None:
        action = f'action="{PUBLIC}/dialed?number=num_1"'
        voice = api.answers("/voice", response(dial(action)))
        api.answers("/dialed", response("<Hangup/>"))
        hangup = api.answers("/hangup", "", status=204)
        seeded(control, **application(voice, hangup_url=hangup))
        trace = called(control, repeat=2)
        assert (trace["outcome"], trace["agent_name"], trace["trunk"]) == ("agent", "desk", room)
        assert trace["problems"] == []
        invite = trace["steps"][1]
        assert (invite["login"], invite["source"]) == (None, SOURCE)
        assert [len(api.at(path)) for path in ("/voice", "/dialed", "/hangup")] == [1, 1, 2]
        assert all(validated(item) for item in api.asked)
        assert not any(validated(item, "another-token") for item in api.asked)
        form = api.at("/voice")[0].form
        assert (form["From"], form["To"], form["Event"]) == (CALLER[1:], DIGITS, "StartApp")
        assert api.at("/dialed")[0].form["DialStatus"] == "completed"
        first, second = api.at("/hangup")
        assert first.form == second.form
        assert (first.form["Event"], first.form["Duration"]) == ("Hangup", "5")

    @pytest.mark.usefixtures("room")
    def test_address_that_is_not_admitted_fails(self, control: Control, api: Api) -> None:
        action = f'action="{PUBLIC}/dialed"'
        seeded(control, **application(api.answers("/voice", response(dial(action)))))
        api.answers("/dialed", response("<Hangup/>"))
        trace = called(control, source="203.0.113.9")
        assert (trace["outcome"], trace["reason"]) == ("failed", "Does not match any SIP Trunks")
        assert api.at("/dialed")[0].form["DialStatus"] == "failed"

    def test_login_in_user(self, control: Control, api: Api, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER, auth_username="u", auth_password="sandbox-pw")
        rule(livekit, trunk.sip_trunk_id)
        login = 'sipAuthUsername="u" sipAuthPassword="sandbox-pw"'
        seeded(control, **application(api.answers("/voice", response(dial(user=login)))))
        trace = called(control)
        assert (trace["outcome"], trace["steps"][1]["login"]) == ("agent", "u")
        api.answers("/voice", response(dial()))
        assert "carries none" in called(control)["reason"]
        assert "sandbox-pw" not in str(trace)

    def test_disabled_application_is_rejected(self) -> None:
        sandbox = Sandbox()
        numbers = [{"number": DIGITS, "app_id": "100"}]
        account = {"auth_id": MAIN, "auth_token": MAIN_TOKEN, **application(FOREIGN)}
        sandbox.seed({"plivo": {"accounts": [{**account, "numbers": numbers}]}})
        order = {"vendor": "plivo", "account": MAIN, "number": NUMBER, "from": CALLER}
        assert asyncio.run(sandbox.phone.call(order))["outcome"] == "forwarded"
        # The vendor disables applications, not their owner: no request does it.
        vars(sandbox.phone._plivo.accounts[MAIN].applications["100"])["enabled"] = False
        trace = asyncio.run(sandbox.phone.call(order))
        assert (trace["outcome"], trace["reason"]) == ("rejected", "the application is disabled")

    @pytest.mark.usefixtures("room")
    def test_nobody_answers(self, control: Control, api: Api) -> None:
        action = f'action="{PUBLIC}/dialed"'
        voice = api.answers("/voice", response(dial(action)))
        api.answers("/dialed", response("<Hangup/>"))
        seeded(control, **application(voice, hangup_url=api.answers("/hangup", "")))
        control.post("/agents", {"desk": "offline"})
        assert called(control)["outcome"] == "ringing_unanswered"
        form = api.at("/dialed")[0].form
        assert (form["DialStatus"], form["DialBLegUUID"]) == ("no-answer", "")
        form = api.at("/hangup")[0].form
        assert (form["CallStatus"], form["HangupCause"]) == ("completed", "NO_ANSWER")

    @pytest.mark.parametrize(
        "body",
        [
            response("<Say>hello</Say>"),
            response("<Dial><Sip>sip:a@b.example</Sip></Dial>"),
            response("<Dial><User username='u'>sip:a@b.example</User></Dial>"),
            response("<Dial></Dial>"),
            response("<Redirect>/relative</Redirect>"),
            response('<Dial answerOnBridge="true"><User>sip:a@b.example</User></Dial>'),
            "not XML",
        ],
    )
    def test_what_plivo_does_not_know_fails(self, control: Control, api: Api, body: str) -> None:
        seeded(control, **application(api.answers("/voice", body)))
        assert called(control)["outcome"] == "failed"

    def test_fallback_and_redirect_to_foreign_urls(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", "", status=500)
        seeded(control, **application(voice, fallback_answer_url=FOREIGN))
        assert called(control)["reason"] == f"answered by {FOREIGN}"
        api.answers("/voice", response(f"<Redirect>{FOREIGN}</Redirect>"))
        assert called(control)["outcome"] == "forwarded"

    def test_hangup_is_told_to_the_answer_url_by_default(self, control: Control, api: Api) -> None:
        seeded(control, **application(api.answers("/voice", response("<Hangup/>"))))
        called(control)
        assert [item.form["Event"] for item in api.asked] == ["StartApp", "Hangup"]

    def test_voicemail(self, control: Control, api: Api) -> None:
        ready = api.answers("/recording", "", status=204)
        verbs = f'<Speak>Speak.</Speak><Record callbackUrl="{ready}"/><Hangup/>'
        voice = api.answers("/voice", response(verbs))
        seeded(control, **application(voice, hangup_url=api.answers("/hangup", "")))
        trace = called(control)
        assert (trace["outcome"], trace["problems"]) == ("voicemail", [])
        (asked,) = api.at("/recording")
        assert (asked.form["RecordingDuration"], asked.form["RecordingDurationMs"]) == ("7", "7000")
        assert validated(asked)

    def test_action_without_redirect_is_only_told(self, control: Control, api: Api) -> None:
        told = api.answers("/told", response(f"<Redirect>{FOREIGN}</Redirect>"))
        verbs = f'<Record action="{told}" redirect="false"/><Hangup/>'
        voice = api.answers("/voice", response(verbs))
        seeded(control, **application(voice, hangup_url=api.answers("/hangup", "")))
        assert called(control)["outcome"] == "voicemail"
        assert len(api.at("/told")) == 1

    def test_get_is_signed(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", response("<Hangup/>"))
        hangup = api.answers("/hangup", "")
        fields = application(f"{voice}?b=2&a=1", answer_method="GET", hangup_url=hangup)
        seeded(control, **fields)
        called(control)
        (asked,) = api.at("/voice")
        assert (asked.method, asked.query["a"], asked.query["To"]) == ("GET", "1", DIGITS)
        assert validated(asked)

    def test_subaccounts_number_is_signed_with_its_token(self, control: Control, api: Api) -> None:
        voice = api.answers("/voice", response("<Hangup/>"))
        seeded(control, None, {"number": "14155550149"})
        own = {"auth_id": SUB, "auth_token": SUB_TOKEN, "main": MAIN, **application(voice)}
        numbers = [{"number": DIGITS, "app_id": "100"}]
        control.post("/seed", {"plivo": {"accounts": [{**own, "numbers": numbers}]}})
        called(control, account=SUB)
        asked = api.asked[0]
        assert validated(asked, SUB_TOKEN)
        assert not validated(asked, MAIN_TOKEN)
        assert validated(asked, MAIN_TOKEN, "x-plivo-signature-ma-v3")


class TestTrunk:
    def test_origination_uri_gives_its_login(self, control: Control, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER, auth_username="u", auth_password="sandbox-pw").sip_trunk_id
        rule(livekit, trunk)
        login = {"authentication_needed": True, "username": "u", "password": "sandbox-pw"}
        seeded(control, "200", **zentrunk({"uri": f"{HOST};transport=tcp", **login}))
        trace = called(control)
        assert (trace["outcome"], trace["trunk"]) == ("agent", trunk)
        (invite,) = trace["steps"]
        assert (invite["address"], invite["transport"]) == (f"{DIGITS}@{HOST}", "tcp")
        assert (invite["login"], "sandbox-pw" in str(trace)) == ("u", False)

    def test_login_that_is_not_needed_is_not_given(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        trunk = inbound(livekit, NUMBER, auth_username="u", auth_password="sandbox-pw").sip_trunk_id
        rule(livekit, trunk)
        seeded(control, "200", **zentrunk({"uri": HOST, "username": "u", "password": "sandbox-pw"}))
        assert "carries none" in called(control)["reason"]

    def test_disabled_trunk_is_rejected(self, control: Control) -> None:
        seeded(control, "200", **zentrunk({"uri": HOST}, trunk_status="disabled"))
        trace = called(control)
        assert (trace["outcome"], trace["reason"]) == (
            "rejected",
            "the trunk is inbound, disabled",
        )

    def test_other_host_has_the_call(self, control: Control) -> None:
        seeded(control, "200", **zentrunk({"uri": "pbx.example.com"}))
        assert called(control)["outcome"] == "forwarded"

    def test_nothing_set_and_inactive_number(self, control: Control) -> None:
        seeded(control, None)
        assert called(control)["outcome"] == "rejected"
        control.post("/reset")
        seeded(control, number={"active": False}, **application(FOREIGN))
        assert called(control)["outcome"] == "rejected"


class TestMessages:
    def texted(self, control: Control, **order: Any) -> dict[str, Any]:
        fixed = {"vendor": "plivo", "account": MAIN, "number": NUMBER, "from": CALLER}
        return control.post("/messages", {**fixed, "text": "hällo", **order})

    def test_message_url_is_told(self, control: Control, api: Api) -> None:
        message = api.answers("/sms", "")
        seeded(control, **application(FOREIGN, message_url=f"{message}?x=1"))
        trace = self.texted(control, repeat=2)
        assert (trace["outcome"], len(trace["steps"])) == ("delivered", 2)
        first, second = api.asked
        assert first.form == second.form
        assert (first.form["Text"], first.form["To"]) == ("hällo", DIGITS)
        assert validated(first)
        signature, nonce = (first.headers[f"x-plivo-signature-v2{end}"] for end in ("", "-nonce"))
        assert plivo.utils.validate_signature(first.url, nonce, signature, MAIN_TOKEN)
        assert not plivo.utils.validate_signature(first.url, nonce, signature, "another")

    def test_order_chooses_the_signature(self, control: Control, api: Api) -> None:
        seeded(control, **application(FOREIGN, message_url=api.answers("/sms", "")))
        self.texted(control, signatures=["v2"])
        assert "x-plivo-signature-v2" in api.asked[0].headers
        assert "x-plivo-signature-v3" not in api.asked[0].headers

    def test_number_on_a_trunk_tells_nobody(self, control: Control) -> None:
        seeded(control, "200", **zentrunk({"uri": HOST}))
        assert self.texted(control)["outcome"] == "rejected"

    def test_answer_other_than_2xx_fails(self, control: Control, api: Api) -> None:
        seeded(control, **application(FOREIGN, message_url=api.answers("/sms", "", status=403)))
        trace = self.texted(control)
        assert (trace["outcome"], trace["steps"][0]["status"]) == ("failed", 403)
