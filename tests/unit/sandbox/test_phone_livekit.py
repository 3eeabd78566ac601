"""How LiveKit takes calls, seen through a carrier that only speaks SIP."""

from __future__ import annotations

from typing import Any

import pytest
from livekit import api

from tests.unit.sandbox.conftest import Control, LiveKitCalls
from tests.unit.sandbox.test_livekit import inbound, rule

NUMBER = "+14155550100"
CALLER = "+14155550199"
HOST = "sandbox.sip.livekit.example"
ADDRESS = "198.51.100.1"


def called(control: Control, **order: Any) -> dict[str, Any]:
    fixed = {"vendor": "sip", "address": HOST, "number": NUMBER, "from": CALLER}
    return control.post("/calls", {**fixed, **order})


def refusal(control: Control, **order: Any) -> str:
    trace = called(control, **order)
    assert trace["outcome"] == "failed", trace
    return str(trace["reason"])


def agent(name: str) -> api.RoomConfiguration:
    return api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name=name)])


def stored(control: Control, *trunks: dict[str, Any], rules: Any = ()) -> None:
    """Stores objects as two racing creates would leave them: unchecked."""
    control.post("/seed", {"livekit": {"inbound_trunks": trunks, "dispatch_rules": rules}})


def individual(prefix: str = "call-", pin: str = "") -> dict[str, Any]:
    return {"dispatch_rule_individual": {"room_prefix": prefix, "pin": pin}}


def direct(room: str, pin: str = "") -> dict[str, Any]:
    return {"dispatch_rule_direct": {"room_name": room, "pin": pin}}


class TestTrunks:
    def test_two_trunks_for_a_number_fail_every_call(self, control: Control) -> None:
        one = {"sip_trunk_id": "ST_a", "numbers": [NUMBER]}
        other = {"sip_trunk_id": "ST_b", "numbers": ["1 (415) 555-0100"]}
        stored(control, one, other, rules=[{"rule": individual()}])
        assert refusal(control) == f'Multiple SIP Trunks matched for "{NUMBER}"'
        assert called(control)["steps"][0]["status"] == 503

    def test_two_wildcards_fail_only_where_no_number_matches(self, control: Control) -> None:
        named = {"sip_trunk_id": "ST_a", "numbers": [NUMBER]}
        wild = [{"sip_trunk_id": name, "allowed_addresses": [ADDRESS]} for name in ("b", "c")]
        stored(control, named, *wild, rules=[{"rule": individual()}])
        assert called(control)["trunk"] == "ST_a"
        other = refusal(control, number="+14155550101")
        assert other == 'Multiple default SIP Trunks matched for "+14155550101"'

    def test_number_goes_before_wildcard(self, control: Control, livekit: LiveKitCalls) -> None:
        wild = inbound(livekit, allowed_addresses=[ADDRESS]).sip_trunk_id
        named = inbound(livekit, NUMBER).sip_trunk_id
        rule(livekit)
        assert called(control)["trunk"] == named
        assert called(control, number="+14155550101")["trunk"] == wild

    @pytest.mark.parametrize("user", ["14155550100", "1-415-555-0100"])
    def test_formatting_does_not_matter(
        self, control: Control, livekit: LiveKitCalls, user: str
    ) -> None:
        rule(livekit, inbound(livekit, NUMBER).sip_trunk_id)
        assert called(control, address=f"{user}@{HOST}")["outcome"] == "agent"

    def test_what_is_no_number_must_be_the_same_text(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        rule(livekit, inbound(livekit, "14155550100-fallback").sip_trunk_id)
        assert called(control, address=f"14155550100-fallback@{HOST}")["outcome"] == "agent"
        for user in ("+14155550100-fallback", "14155550100-Fallback", NUMBER):
            words = refusal(control, address=f"{user}@{HOST}")
            assert words == "Does not match any SIP Trunks"

    def test_trunk_for_chosen_callers_takes_no_others(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        trunk = inbound(livekit, NUMBER, allowed_numbers=["1 415 555 0199"]).sip_trunk_id
        rule(livekit, trunk)
        assert called(control)["trunk"] == trunk
        words = refusal(control, **{"from": "+14155550198"})
        assert words == "Does not match any SIP Trunks"

    @pytest.mark.parametrize(
        ("allowed", "admitted"),
        [
            ([ADDRESS], True),
            (["198.51.100.0/24"], True),
            (["203.0.113.9", "198.51.100.0/30"], True),
            (["198.51.100.2"], False),
            (["203.0.113.0/24"], False),
            (["sip.carrier.example"], False),
            # Not addresses at all: the server leaves them out, and then nothing limits the trunk.
            (["(carrier)", "sip://carrier.example"], True),
        ],
    )
    def test_allowed_addresses(
        self, control: Control, livekit: LiveKitCalls, allowed: list[str], *, admitted: bool
    ) -> None:
        rule(livekit, inbound(livekit, NUMBER, allowed_addresses=allowed).sip_trunk_id)
        assert (called(control)["outcome"] == "agent") is admitted

    def test_login(self, control: Control, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER, auth_username="u", auth_password="sandbox-p").sip_trunk_id
        rule(livekit, trunk)
        assert called(control, username="u", password="sandbox-p")["outcome"] == "agent"
        assert "carries none" in refusal(control)
        assert "not the trunk's" in refusal(control, username="u", password="sandbox-q")
        assert "not the trunk's" in refusal(control, username="v", password="sandbox-p")
        assert "sandbox-p" not in str(called(control, username="u", password="sandbox-p"))

    def test_required_encryption_refuses_plain_media(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        media = api.SIPMediaConfig(encryption=api.SIP_MEDIA_ENCRYPT_REQUIRE)
        rule(livekit, inbound(livekit, NUMBER, media=media).sip_trunk_id)
        assert "requires encrypted media" in refusal(control)
        address = f"{HOST};transport=tls;secure=true"
        assert called(control, address=address)["outcome"] == "agent"

    def test_other_ports_and_hosts(self, control: Control, livekit: LiveKitCalls) -> None:
        rule(livekit, inbound(livekit, NUMBER).sip_trunk_id)
        assert called(control, address=f"{HOST}:5061;transport=tls")["outcome"] == "agent"
        assert "port 5061" in refusal(control, address=f"{HOST}:5061;transport=tcp")
        assert called(control, address="sip.other.example")["outcome"] == "forwarded"


class TestRules:
    def test_no_rule_for_the_trunk(self, control: Control, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER).sip_trunk_id
        words = "Does not match Trunks or Dispatch Rules"
        assert refusal(control) == words
        rule(livekit, "ST_another")
        assert refusal(control) == words
        assert called(control)["trunk"] == trunk

    def test_rule_without_any_trunk_takes_the_call(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        wild = rule(livekit).sip_dispatch_rule_id
        assert called(control)["rule"] == wild
        # As soon as there is a trunk, a call that none takes goes no further.
        inbound(livekit, "+14155550101")
        assert refusal(control) == "Does not match any SIP Trunks"

    def test_rule_of_the_trunk_goes_before_a_better_wildcard(self, control: Control) -> None:
        stored(
            control,
            {"sip_trunk_id": "ST_a", "numbers": [NUMBER]},
            rules=[
                {"sip_dispatch_rule_id": "SDR_w", "rule": direct("r")},
                {"sip_dispatch_rule_id": "SDR_s", "trunk_ids": ["ST_a"], "rule": individual()},
            ],
        )
        assert called(control)["rule"] == "SDR_s"

    @pytest.mark.parametrize(
        ("better", "worse"),
        [
            ({"rule": individual(pin="1234")}, {"rule": direct("r")}),
            (
                {"rule": individual(), "inbound_numbers": [CALLER]},
                {"rule": direct("r", pin="1234")},
            ),
            ({"rule": individual(), "numbers": [NUMBER]}, {"rule": direct("r", pin="1234")}),
        ],
    )
    def test_order_of_rules(
        self, control: Control, better: dict[str, Any], worse: dict[str, Any]
    ) -> None:
        shared = {"trunk_ids": ["ST_a"]}
        rules = [
            {**worse, **shared, "sip_dispatch_rule_id": "SDR_1"},
            {**better, **shared, "sip_dispatch_rule_id": "SDR_2"},
        ]
        stored(control, {"sip_trunk_id": "ST_a", "numbers": [NUMBER]}, rules=rules)
        assert called(control)["rule"] == "SDR_2"

    def test_numbers_of_rules_are_compared_as_they_are(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        trunk = inbound(livekit, NUMBER).sip_trunk_id
        rule(livekit, trunk, inbound_numbers=[CALLER.removeprefix("+")])
        assert refusal(control) == "Does not match Trunks or Dispatch Rules"

    def test_conflict_among_rules_fails_every_call(self, control: Control) -> None:
        twice = [
            {"sip_dispatch_rule_id": name, "trunk_ids": ["ST_a"], "rule": individual(name)}
            for name in ("SDR_1", "SDR_2")
        ]
        stored(control, {"sip_trunk_id": "ST_a", "numbers": [NUMBER]}, rules=twice)
        assert refusal(control).startswith("Dispatch rule for the same trunk")

    def test_agent_and_room(self, control: Control, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER).sip_trunk_id
        rule(livekit, trunk, room_config=agent("desk"))
        trace = called(control)
        assert (trace["agent_name"], trace["room_prefix"]) == ("desk", "call-")
        control.post("/agents", {"desk": "offline"})
        trace = called(control)
        assert (trace["outcome"], trace["agent_name"]) == ("ringing_unanswered", "desk")
        assert trace["reason"] == "nobody joined the room within 180 s"


class TestPin:
    @pytest.fixture
    def trunk(self, livekit: LiveKitCalls) -> str:
        trunk = inbound(livekit, NUMBER).sip_trunk_id
        rule(livekit, trunk, pin="1234")
        return trunk

    def test_right_pin_reaches_the_room(self, control: Control, trunk: str) -> None:
        trace = called(control, pin="1234")
        assert (trace["outcome"], trace["trunk"]) == ("agent", trunk)

    @pytest.mark.parametrize(
        ("pin", "words"), [(None, "asks for a PIN"), ("9999", "wrong PIN"), ("", "wrong PIN")]
    )
    @pytest.mark.usefixtures("trunk")
    def test_any_other_does_not(self, control: Control, pin: str | None, words: str) -> None:
        assert words in refusal(control, pin=pin)
        # The call was answered all the same, to ask: whoever dialled it will not try elsewhere.
        assert called(control, pin=pin)["steps"][0]["status"] == 200

    def test_no_pin_goes_to_the_open_rule(
        self, control: Control, livekit: LiveKitCalls, trunk: str
    ) -> None:
        opened = rule(livekit, trunk).sip_dispatch_rule_id
        assert called(control, pin="")["rule"] == opened
