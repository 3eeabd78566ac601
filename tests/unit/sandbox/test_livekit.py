from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from livekit import api
from livekit.api.twirp_client import ServerError
from livekit.protocol.models import ListUpdate

from tests.unit.sandbox.conftest import LK_KEY, LK_SECRET, LiveKitCalls

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.sandbox.conftest import Control

NUMBER = "+14155550100"
OTHER = "+14155550101"


def inbound(
    livekit: LiveKitCalls, *numbers: str, name: str = "", **fields: Any
) -> api.SIPInboundTrunkInfo:
    trunk = api.SIPInboundTrunkInfo(name=name, numbers=numbers, **fields)
    request = api.CreateSIPInboundTrunkRequest(trunk=trunk)
    return livekit(lambda sip: sip.create_inbound_trunk(request))


def outbound(
    livekit: LiveKitCalls, *numbers: str, address: str = "x.pstn.twilio.com", **fields: Any
) -> api.SIPOutboundTrunkInfo:
    trunk = api.SIPOutboundTrunkInfo(numbers=numbers, address=address, **fields)
    request = api.CreateSIPOutboundTrunkRequest(trunk=trunk)
    return livekit(lambda sip: sip.create_outbound_trunk(request))


def individual(pin: str = "") -> api.SIPDispatchRule:
    return api.SIPDispatchRule(
        dispatch_rule_individual=api.SIPDispatchRuleIndividual(room_prefix="call-", pin=pin)
    )


def rule(
    livekit: LiveKitCalls, *trunk_ids: str, pin: str = "", **fields: Any
) -> api.SIPDispatchRuleInfo:
    info = api.SIPDispatchRuleInfo(rule=individual(pin), trunk_ids=trunk_ids, **fields)
    request = api.CreateSIPDispatchRuleRequest(dispatch_rule=info)
    return livekit(lambda sip: sip.create_dispatch_rule(request))


def listed(livekit: LiveKitCalls, **filters: Any) -> list[str]:
    request = api.ListSIPInboundTrunkRequest(**filters)
    response = livekit(lambda sip: sip.list_inbound_trunk(request))
    return [item.sip_trunk_id for item in response.items]


def deleted(livekit: LiveKitCalls, request: api.DeleteSIPTrunkRequest) -> str:
    return livekit(lambda sip: sip.delete_trunk(request)).sip_trunk_id


def refusal(call: Callable[[], object]) -> tuple[int, str, str]:
    with pytest.raises(ServerError) as caught:
        call()
    return caught.value.status, caught.value.code, caught.value.message


class TestAuthentication:
    def test_wrong_secret_is_plain_401(self, livekit: LiveKitCalls) -> None:
        livekit.secret = "another-secret-of-at-least-32-characters"
        assert refusal(lambda: listed(livekit)) == (401, "unknown", "")

    def test_unknown_key_is_plain_401(self, livekit: LiveKitCalls) -> None:
        livekit.key = "nobody"
        assert refusal(lambda: listed(livekit)) == (401, "unknown", "")

    def test_token_without_sip_admin_is_unauthenticated(self, control: Control) -> None:
        token = api.AccessToken(LK_KEY, LK_SECRET).with_sip_grants(api.SIPGrants(call=True))
        response = control.http.post(
            f"{control.url}/livekit/twirp/livekit.SIP/ListSIPInboundTrunk",
            headers={
                "Authorization": f"Bearer {token.to_jwt()}",
                "Content-Type": "application/protobuf",
            },
        )
        assert response.status_code == 401
        assert response.json() == {"code": "unauthenticated", "msg": "permissions denied"}

    def test_malformed_message_is_400(self, control: Control) -> None:
        token = api.AccessToken(LK_KEY, LK_SECRET).with_sip_grants(api.SIPGrants(admin=True))
        response = control.http.post(
            f"{control.url}/livekit/twirp/livekit.SIP/DeleteSIPTrunk",
            headers={
                "Authorization": f"Bearer {token.to_jwt()}",
                "Content-Type": "application/protobuf",
            },
            content=b"\x00\xff",
        )
        assert (response.status_code, response.json()["code"]) == (400, "malformed")

    def test_unknown_method_is_a_bad_route(self, control: Control) -> None:
        response = control.http.post(f"{control.url}/livekit/twirp/livekit.SIP/Nothing")
        assert (response.status_code, response.json()["code"]) == (404, "bad_route")


class TestInboundTrunks:
    def test_create_gives_an_id_and_everything_back(self, livekit: LiveKitCalls) -> None:
        trunk = inbound(
            livekit, NUMBER, name="n", metadata="m", auth_username="u", auth_password="p"
        )
        assert trunk.sip_trunk_id.startswith("ST_")
        assert len(trunk.sip_trunk_id) == 15
        request = api.ListSIPInboundTrunkRequest(trunk_ids=[trunk.sip_trunk_id])
        (found,) = livekit(lambda sip: sip.list_inbound_trunk(request)).items
        assert found == trunk
        assert found.auth_password == "p"

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({}, "for security, one of the fields must be set"),
            ({"sip_trunk_id": "ST_x", "numbers": [NUMBER]}, "trunk id must not be set"),
            ({"numbers": [NUMBER], "headers": {"From": "x"}}, "header name From not supported"),
            ({"numbers": [NUMBER], "headers": {"X Y": "x"}}, "contains invalid characters"),
            ({"numbers": [NUMBER], "headers": {"X-A": "a\nb"}}, "invalid header value for X-A"),
            ({"numbers": [NUMBER], "headers_to_attributes": {"": "a"}}, "cannot be empty"),
        ],
    )
    def test_validation(self, livekit: LiveKitCalls, fields: dict[str, Any], message: str) -> None:
        request = api.CreateSIPInboundTrunkRequest(trunk=api.SIPInboundTrunkInfo(**fields))
        status, code, text = refusal(lambda: livekit(lambda sip: sip.create_inbound_trunk(request)))
        assert (status, code) == (400, "invalid_argument")
        assert message in text

    def test_missing_trunk(self, livekit: LiveKitCalls) -> None:
        request = api.CreateSIPInboundTrunkRequest()
        assert refusal(lambda: livekit(lambda sip: sip.create_inbound_trunk(request))) == (
            400,
            "invalid_argument",
            "missing trunk",
        )

    def test_long_media_timeout_is_refused(self, livekit: LiveKitCalls) -> None:
        media = api.SIPMediaConfig()
        media.media_timeout.FromSeconds(601)
        status, code, _ = refusal(lambda: inbound(livekit, NUMBER, media=media))
        assert (status, code) == (400, "invalid_argument")

    def test_same_number_in_another_spelling_conflicts(self, livekit: LiveKitCalls) -> None:
        first = inbound(livekit, NUMBER)
        assert refusal(lambda: inbound(livekit, "1 (415) 555-0100")) == (
            400,
            "invalid_argument",
            (
                f'Conflicting inbound SIP Trunks: "<new>" and "{first.sip_trunk_id}", using the '
                'same number(s) ["1 (415) 555-0100"] without AllowedNumbers set'
            ),
        )

    def test_two_wildcards_conflict_but_a_wildcard_and_a_number_do_not(
        self, livekit: LiveKitCalls
    ) -> None:
        inbound(livekit, NUMBER)
        first = inbound(livekit, auth_username="u", auth_password="p")
        _, _, text = refusal(lambda: inbound(livekit, allowed_addresses=["192.0.2.1"]))
        assert text == (
            f'Conflicting inbound SIP Trunks: "<new>" and "{first.sip_trunk_id}", using the same '
            "number(s) <any> without AllowedNumbers set"
        )

    def test_allowed_numbers_keep_trunks_apart(self, livekit: LiveKitCalls) -> None:
        first = inbound(livekit, NUMBER, allowed_numbers=[OTHER])
        inbound(livekit, NUMBER, allowed_numbers=["+15550000000"])
        inbound(livekit, NUMBER)
        _, _, text = refusal(lambda: inbound(livekit, NUMBER, allowed_numbers=["14155550101"]))
        assert text == (
            f'Conflicting inbound SIP Trunks: "<new>" and "{first.sip_trunk_id}", using the same '
            f'number(s) ["{NUMBER}"] and AllowedNumber "14155550101"'
        )

    def test_conflict_that_exists_already_fails_every_create_that_meets_it(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        twins = [
            {"sip_trunk_id": "ST_aaaaaaaaaaaa", "numbers": [NUMBER]},
            {"sip_trunk_id": "ST_bbbbbbbbbbbb", "numbers": [NUMBER]},
        ]
        control.post("/seed", {"livekit": {"inbound_trunks": twins}})
        _, _, text = refusal(lambda: inbound(livekit, NUMBER, allowed_numbers=[OTHER]))
        assert '"ST_bbbbbbbbbbbb" and "ST_aaaaaaaaaaaa"' in text
        inbound(livekit, OTHER)

    def test_filter_by_number_also_returns_wildcards(self, livekit: LiveKitCalls) -> None:
        mine = inbound(livekit, NUMBER)
        wildcard = inbound(livekit, auth_username="u", auth_password="p")
        inbound(livekit, OTHER)
        assert set(listed(livekit, numbers=["14155550100"])) == {
            mine.sip_trunk_id,
            wildcard.sip_trunk_id,
        }

    def test_missing_id_gives_an_empty_item(self, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER)
        assert listed(livekit, trunk_ids=["ST_missing", trunk.sip_trunk_id]) == [
            "",
            trunk.sip_trunk_id,
        ]

    def test_pages_are_in_order_of_id(self, livekit: LiveKitCalls) -> None:
        made = sorted(inbound(livekit, f"+1415555010{n}").sip_trunk_id for n in range(5))
        first = listed(livekit, page=api.Pagination(limit=2))
        rest = listed(livekit, page=api.Pagination(limit=10, after_id=first[-1]))
        assert first == made[:2]
        assert first + rest == made
        assert listed(livekit) == made

    def test_replace_drops_what_is_not_sent(self, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER, name="n", metadata="m")
        replacement = api.SIPInboundTrunkInfo(numbers=[OTHER])
        updated = livekit(lambda sip: sip.update_inbound_trunk(trunk.sip_trunk_id, replacement))
        assert (updated.sip_trunk_id, updated.name) == (trunk.sip_trunk_id, "")
        assert listed(livekit, numbers=[NUMBER]) == []
        inbound(livekit, NUMBER)

    def test_update_of_fields_keeps_the_rest(self, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER, name="n")
        updated = livekit(
            lambda sip: sip.update_inbound_trunk_fields(
                trunk.sip_trunk_id, numbers=ListUpdate(add=[OTHER]), metadata="m"
            )
        )
        assert list(updated.numbers) == [NUMBER, OTHER]
        assert (updated.name, updated.metadata) == ("n", "m")

    def test_update_that_changes_nothing_in_a_list_is_refused(self, livekit: LiveKitCalls) -> None:
        trunk = inbound(livekit, NUMBER)
        assert refusal(
            lambda: livekit(
                lambda sip: sip.update_inbound_trunk_fields(trunk.sip_trunk_id, numbers=[])
            )
        ) == (400, "invalid_argument", "unsupported list update operation")

    def test_update_that_leaves_a_trunk_invalid_is_an_internal_error(
        self, livekit: LiveKitCalls
    ) -> None:
        trunk = inbound(livekit, NUMBER)
        status, code, _ = refusal(
            lambda: livekit(
                lambda sip: sip.update_inbound_trunk_fields(
                    trunk.sip_trunk_id, numbers=ListUpdate(remove=[NUMBER])
                )
            )
        )
        assert (status, code) == (500, "internal")

    def test_update_into_a_conflict_is_refused(self, livekit: LiveKitCalls) -> None:
        inbound(livekit, NUMBER)
        trunk = inbound(livekit, OTHER)
        _, code, text = refusal(
            lambda: livekit(
                lambda sip: sip.update_inbound_trunk_fields(trunk.sip_trunk_id, numbers=[NUMBER])
            )
        )
        assert code == "invalid_argument"
        assert text.startswith("Conflicting inbound SIP Trunks")

    def test_update_of_a_missing_trunk_is_404(self, livekit: LiveKitCalls) -> None:
        info = api.SIPInboundTrunkInfo(numbers=[NUMBER])
        assert refusal(
            lambda: livekit(lambda sip: sip.update_inbound_trunk("ST_missing", info))
        ) == (404, "not_found", "requested sip trunk does not exist")


class TestOutboundTrunks:
    def test_same_trunk_twice_is_two_trunks(self, livekit: LiveKitCalls) -> None:
        first, second = outbound(livekit, NUMBER, name="n"), outbound(livekit, NUMBER, name="n")
        assert first.sip_trunk_id != second.sip_trunk_id

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"address": "a.example.com"}, "no trunk numbers specified"),
            ({"numbers": [NUMBER]}, "no outbound address specified"),
            (
                {"numbers": [NUMBER], "address": "sip:a.example.com"},
                "trunk address should be a hostname or IP, not SIP URI",
            ),
            (
                {"numbers": [NUMBER], "address": "u@a.example.com"},
                "trunk address should be a hostname or IP, not SIP URI",
            ),
            (
                {"numbers": [NUMBER], "address": "a.example.com;transport=tcp"},
                "trunk address should not contain transport parameter",
            ),
            (
                {"numbers": [NUMBER], "address": "a.example.com", "from_host": "sip:b"},
                "from_host should be a hostname or IP, not SIP URI",
            ),
        ],
    )
    def test_validation(self, livekit: LiveKitCalls, fields: dict[str, Any], message: str) -> None:
        request = api.CreateSIPOutboundTrunkRequest(trunk=api.SIPOutboundTrunkInfo(**fields))
        assert refusal(lambda: livekit(lambda sip: sip.create_outbound_trunk(request))) == (
            400,
            "invalid_argument",
            message,
        )

    def test_port_is_part_of_an_address(self, livekit: LiveKitCalls) -> None:
        assert outbound(livekit, NUMBER, address="192.0.2.1:5060").address == "192.0.2.1:5060"

    def test_filter_by_number_compares_text(self, livekit: LiveKitCalls) -> None:
        trunk = outbound(livekit, NUMBER)

        def found(number: str) -> list[str]:
            request = api.ListSIPOutboundTrunkRequest(numbers=[number])
            items = livekit(lambda sip: sip.list_outbound_trunk(request)).items
            return [item.sip_trunk_id for item in items]

        assert found(NUMBER) == [trunk.sip_trunk_id]
        assert found(NUMBER.removeprefix("+")) == []

    def test_updates(self, livekit: LiveKitCalls) -> None:
        trunk = outbound(livekit, NUMBER, name="n")
        name = trunk.sip_trunk_id
        changed = livekit(
            lambda sip: sip.update_outbound_trunk_fields(
                name, address="b.example.com", transport=api.SIP_TRANSPORT_TCP
            )
        )
        assert (changed.address, changed.name) == ("b.example.com", "n")
        assert changed.transport == api.SIP_TRANSPORT_TCP
        replacement = api.SIPOutboundTrunkInfo(numbers=[OTHER], address="c.example.com")
        replaced = livekit(lambda sip: sip.update_outbound_trunk(name, replacement))
        assert (replaced.sip_trunk_id, replaced.name) == (name, "")


class TestDeletion:
    def test_trunks_of_both_kinds_go_and_deleting_again_succeeds(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        for trunk in (inbound(livekit, NUMBER), outbound(livekit, NUMBER)):
            request = api.DeleteSIPTrunkRequest(sip_trunk_id=trunk.sip_trunk_id)
            for _ in range(2):
                assert deleted(livekit, request) == trunk.sip_trunk_id
        assert control.livekit()["inbound_trunks"] == {}
        assert control.livekit()["outbound_trunks"] == {}
        inbound(livekit, NUMBER)

    def test_deleting_a_trunk_leaves_its_rule(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        trunk = inbound(livekit, NUMBER)
        made = rule(livekit, trunk.sip_trunk_id)
        request = api.DeleteSIPTrunkRequest(sip_trunk_id=trunk.sip_trunk_id)
        livekit(lambda sip: sip.delete_trunk(request))
        assert list(control.livekit()["dispatch_rules"]) == [made.sip_dispatch_rule_id]

    def test_rule_goes_once(self, livekit: LiveKitCalls) -> None:
        made = rule(livekit, "ST_a", name="n")
        request = api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=made.sip_dispatch_rule_id)
        assert livekit(lambda sip: sip.delete_dispatch_rule(request)).name == "n"
        assert refusal(lambda: livekit(lambda sip: sip.delete_dispatch_rule(request))) == (
            404,
            "not_found",
            "requested sip dispatch rule does not exist",
        )

    def test_ids_are_required(self, livekit: LiveKitCalls) -> None:
        trunk, other = api.DeleteSIPTrunkRequest(), api.DeleteSIPDispatchRuleRequest()
        _, _, text = refusal(lambda: livekit(lambda sip: sip.delete_trunk(trunk)))
        assert text == "trunk ID is required"
        _, _, text = refusal(lambda: livekit(lambda sip: sip.delete_dispatch_rule(other)))
        assert text == "dispatch rule ID is required"


class TestDispatchRules:
    def test_whole_rule_comes_back(self, livekit: LiveKitCalls) -> None:
        config = api.RoomConfiguration(agents=[api.RoomAgentDispatch(agent_name="agent")])
        made = rule(
            livekit,
            "ST_a",
            pin="1234",
            name="n",
            metadata="m",
            attributes={"import_id": "i"},
            room_config=config,
        )
        assert made.sip_dispatch_rule_id.startswith("SDR_")
        assert len(made.sip_dispatch_rule_id) == 16
        request = api.ListSIPDispatchRuleRequest(dispatch_rule_ids=[made.sip_dispatch_rule_id])
        (found,) = livekit(lambda sip: sip.list_dispatch_rule(request)).items
        assert found == made
        assert found.room_config.agents[0].agent_name == "agent"

    def test_deprecated_request_form(self, livekit: LiveKitCalls) -> None:
        request = api.CreateSIPDispatchRuleRequest(
            rule=individual(),
            trunk_ids=["ST_a"],
            name="n",
            hide_phone_number=True,
            attributes={"a": "b"},
            room_config=api.RoomConfiguration(name="r"),
        )
        made = livekit(lambda sip: sip.create_dispatch_rule(request))
        assert (made.name, list(made.trunk_ids), made.hide_phone_number) == ("n", ["ST_a"], True)
        assert (made.attributes["a"], made.room_config.name) == ("b", "r")

    def test_deprecated_method_names(self, livekit: LiveKitCalls) -> None:
        request = api.ListSIPDispatchRuleRequest()
        with pytest.warns(DeprecationWarning, match="list_dispatch_rule"):
            assert list(livekit(lambda sip: sip.list_sip_dispatch_rule(request)).items) == []

    def test_rule_is_required(self, livekit: LiveKitCalls) -> None:
        request = api.CreateSIPDispatchRuleRequest(dispatch_rule=api.SIPDispatchRuleInfo(name="n"))
        _, _, text = refusal(lambda: livekit(lambda sip: sip.create_dispatch_rule(request)))
        assert text == "missing rule"

    def test_rule_without_a_kind_is_an_internal_error(self, livekit: LiveKitCalls) -> None:
        info = api.SIPDispatchRuleInfo(rule=api.SIPDispatchRule())
        request = api.CreateSIPDispatchRuleRequest(dispatch_rule=info)
        status, code, _ = refusal(lambda: livekit(lambda sip: sip.create_dispatch_rule(request)))
        assert (status, code) == (500, "internal")

    def test_same_combination_conflicts(self, livekit: LiveKitCalls) -> None:
        first = rule(livekit, "ST_a", "ST_b", name="first")
        assert refusal(lambda: rule(livekit, "ST_b")) == (
            400,
            "invalid_argument",
            (
                "Dispatch rule for the same trunk, inbound number, number, and PIN combination "
                f'already exists in dispatch rule "{first.sip_dispatch_rule_id}" "first"'
            ),
        )

    def test_nameless_rule_is_called_blank(self, livekit: LiveKitCalls) -> None:
        rule(livekit)
        _, _, text = refusal(lambda: rule(livekit))
        assert text.endswith('"<blank name>"')

    @pytest.mark.parametrize(
        "difference",
        [
            {"pin": "1234"},
            {"inbound_numbers": [NUMBER]},
            {"numbers": [NUMBER]},
        ],
    )
    def test_other_combinations_live_together(
        self, livekit: LiveKitCalls, difference: dict[str, Any]
    ) -> None:
        rule(livekit, "ST_a")
        rule(livekit, "ST_a", **difference)
        rule(livekit, **difference)
        status, _, _ = refusal(lambda: rule(livekit, "ST_a", **difference))
        assert status == 400

    def test_numbers_are_compared_normalised(self, livekit: LiveKitCalls) -> None:
        rule(livekit, "ST_a", numbers=[NUMBER])
        status, _, _ = refusal(lambda: rule(livekit, "ST_a", numbers=["1-415-555-0100"]))
        assert status == 400

    def test_conflict_that_exists_already_fails_every_create(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        kind = {"dispatch_rule_direct": {"room_name": "r"}}
        twins = [
            {"sip_dispatch_rule_id": "SDR_aaaaaaaaaaaa", "trunk_ids": ["ST_a"], "rule": kind},
            {"sip_dispatch_rule_id": "SDR_bbbbbbbbbbbb", "trunk_ids": ["ST_a"], "rule": kind},
        ]
        control.post("/seed", {"livekit": {"dispatch_rules": twins}})
        _, _, text = refusal(lambda: rule(livekit, "ST_other"))
        assert '"SDR_aaaaaaaaaaaa"' in text

    def test_filter_by_trunk_also_returns_rules_for_any(self, livekit: LiveKitCalls) -> None:
        mine, anyone = rule(livekit, "ST_a"), rule(livekit)
        rule(livekit, "ST_b")
        request = api.ListSIPDispatchRuleRequest(trunk_ids=["ST_a"])
        items = livekit(lambda sip: sip.list_dispatch_rule(request)).items
        assert {item.sip_dispatch_rule_id for item in items} == {
            mine.sip_dispatch_rule_id,
            anyone.sip_dispatch_rule_id,
        }

    def test_updates(self, livekit: LiveKitCalls) -> None:
        made = rule(livekit, "ST_a", name="n", attributes={"a": "1", "b": "2"})
        name = made.sip_dispatch_rule_id
        changed = livekit(
            lambda sip: sip.update_dispatch_rule_fields(
                name, trunk_ids=["ST_b"], attributes={"a": "", "c": "3"}
            )
        )
        assert (changed.name, list(changed.trunk_ids)) == ("n", ["ST_b"])
        assert dict(changed.attributes) == {"b": "2", "c": "3"}
        rule(livekit, "ST_a")
        replacement = api.SIPDispatchRuleInfo(rule=individual(), trunk_ids=["ST_a"])
        status, _, _ = refusal(
            lambda: livekit(lambda sip: sip.update_dispatch_rule(name, replacement))
        )
        assert status == 400


def test_state_shows_no_password_and_no_pin(control: Control, livekit: LiveKitCalls) -> None:
    inbound(livekit, NUMBER, auth_username="u", auth_password="sandbox-sip-password")
    outbound(livekit, NUMBER, auth_username="u", auth_password="sandbox-sip-password")
    rule(livekit, "ST_a", pin="4711")
    shown = control.livekit()
    (one,), (other,) = shown["inbound_trunks"].values(), shown["outbound_trunks"].values()
    assert one["auth_fingerprint"] == other["auth_fingerprint"] != ""
    for text in (str(shown), str(control.journal())):
        assert "sandbox-sip-password" not in text
        assert "4711" not in text


def test_one_session_serves_many_calls(server: str, control: Control) -> None:
    async def run() -> int:
        async with aiohttp.ClientSession() as session:
            client = api.LiveKitAPI(
                f"{server}/livekit", LK_KEY, LK_SECRET, session=session, failover=False
            )
            requests = [
                api.CreateSIPOutboundTrunkRequest(
                    trunk=api.SIPOutboundTrunkInfo(numbers=[NUMBER], address="a.example.com")
                )
                for _ in range(20)
            ]
            await asyncio.gather(*map(client.sip.create_outbound_trunk, requests))
            return len(
                (await client.sip.list_outbound_trunk(api.ListSIPOutboundTrunkRequest())).items
            )

    assert asyncio.run(run()) == 20
    assert len(control.journal(operation="livekit.create_sip_outbound_trunk")) == 20
