from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, cast

import aiohttp
import httpx
import pytest
import requests
from google.protobuf.message import DecodeError
from livekit import api
from livekit.api.twirp_client import ServerError
from twilio.base.exceptions import TwilioException, TwilioRestException

from tests.unit.sandbox.conftest import DEMO_URL, PN

if TYPE_CHECKING:
    from collections.abc import Callable

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import AttributingHttpClient, Control, LiveKitCalls

URL = "https://voice.example.com/"
UPDATE = "twilio.incoming_phone_numbers.update"
TRUNK = api.CreateSIPOutboundTrunkRequest(
    trunk=api.SIPOutboundTrunkInfo(numbers=["+14155550100"], address="a.example.com")
)


def point_at(twilio: Client, url: str = URL) -> str:
    return str(twilio.incoming_phone_numbers(PN).update(voice_url=url).voice_url)


def stored_url(control: Control) -> str:
    return str(control.account()["numbers"]["+14155550100"]["voice_url"])


def only_entry(control: Control) -> dict[str, Any]:
    (entry,) = control.journal()
    return entry


class TestActions:
    def test_status_is_the_vendors_error_and_nothing_is_applied(
        self, control: Control, twilio: Client
    ) -> None:
        control.fault(action="status", status=429, retry_after=7, match={"operation": UPDATE})
        with pytest.raises(TwilioRestException) as caught:
            point_at(twilio)
        assert (caught.value.status, caught.value.code) == (429, 20429)
        assert stored_url(control) == DEMO_URL
        entry = only_entry(control)
        assert (entry["status"], entry["vendor_status"], entry["applied"]) == (429, None, False)
        assert entry["faults"] == [{"id": "f1", "action": "status"}]
        assert point_at(twilio) == URL

    def test_status_takes_code_message_and_header(self, control: Control, twilio: Client) -> None:
        control.fault(action="status", status=400, code=21999, message="no", retry_after="9")
        with pytest.raises(TwilioException) as caught:
            twilio.incoming_phone_numbers.list(limit=1)
        response = caught.value.args[1]
        assert response.headers["Retry-After"] == "9"
        assert json.loads(response.text) == {
            "code": 21999,
            "message": "no",
            "more_info": "https://www.twilio.com/docs/errors/21999",
            "status": 400,
        }

    def test_status_may_have_a_body_that_is_not_the_vendors(
        self, control: Control, twilio: Client
    ) -> None:
        control.fault(action="status", status=502, body="<html>bad gateway</html>")
        with pytest.raises(TwilioRestException) as caught:
            point_at(twilio)
        assert (caught.value.status, caught.value.code) == (502, 502)

    @pytest.mark.parametrize(
        ("status", "code"),
        [
            (400, "invalid_argument"),
            (401, "unauthenticated"),
            (403, "permission_denied"),
            (404, "not_found"),
            (429, "resource_exhausted"),
            (500, "internal"),
            (503, "unavailable"),
        ],
    )
    def test_status_at_livekit(
        self, control: Control, livekit: LiveKitCalls, status: int, code: str
    ) -> None:
        control.fault(action="status", status=status)
        with pytest.raises(ServerError) as caught:
            livekit(lambda sip: sip.create_outbound_trunk(TRUNK))
        assert (caught.value.status, caught.value.code) == (status, code)
        assert control.livekit()["outbound_trunks"] == {}

    def test_delay_postpones(self, control: Control, twilio: Client) -> None:
        control.fault(action="delay", seconds=0.2)
        began = time.monotonic()
        assert point_at(twilio) == URL
        assert time.monotonic() - began >= 0.2

    def test_delayed_request_is_applied_though_the_client_gave_up(
        self, control: Control, twilio_client: Callable[..., Client]
    ) -> None:
        control.fault(action="delay", seconds=0.3)
        with pytest.raises(requests.exceptions.ReadTimeout):
            point_at(twilio_client(timeout=0.1))
        assert stored_url(control) == DEMO_URL
        assert only_entry(control)["outcome"] == "in_flight"
        wait_until(lambda: stored_url(control) == URL)
        assert only_entry(control)["applied"]

    def test_delayed_request_does_not_reach_past_a_reset(
        self, control: Control, twilio_client: Callable[..., Client]
    ) -> None:
        control.fault(action="delay", seconds=0.2)
        with pytest.raises(requests.exceptions.ReadTimeout):
            twilio_client(timeout=0.05).applications.create(friendly_name="late")
        control.post("/reset")
        time.sleep(0.3)
        assert control.get("/state")["twilio"]["accounts"] == {}
        assert control.journal() == []

    def test_cut_loses_the_request(self, control: Control, twilio: Client) -> None:
        control.fault(action="cut")
        with pytest.raises(requests.exceptions.ConnectionError):
            point_at(twilio)
        assert stored_url(control) == DEMO_URL
        entry = only_entry(control)
        assert (entry["outcome"], entry["status"], entry["applied"]) == ("cut", None, False)

    def test_cut_at_livekit(self, control: Control, livekit: LiveKitCalls) -> None:
        control.fault(action="cut")
        with pytest.raises(aiohttp.ClientError):
            livekit(lambda sip: sip.create_outbound_trunk(TRUNK))
        assert control.livekit()["outbound_trunks"] == {}

    def test_garbage_cannot_be_parsed(
        self, control: Control, twilio: Client, livekit: LiveKitCalls
    ) -> None:
        control.fault(action="garbage", times=None)
        with pytest.raises(json.JSONDecodeError):
            point_at(twilio)
        with pytest.raises(DecodeError):
            livekit(lambda sip: sip.create_outbound_trunk(TRUNK))
        assert stored_url(control) == DEMO_URL
        assert control.livekit()["outbound_trunks"] == {}

    def test_empty_is_a_success_without_a_body(
        self, control: Control, twilio: Client, livekit: LiveKitCalls
    ) -> None:
        control.fault(action="empty", times=None)
        with pytest.raises(json.JSONDecodeError):
            point_at(twilio)
        # An empty protobuf message is a valid one: the trunk simply has no id.
        assert livekit(lambda sip: sip.create_outbound_trunk(TRUNK)).sip_trunk_id == ""
        assert stored_url(control) == DEMO_URL
        assert control.livekit()["outbound_trunks"] == {}

    def test_lost_applies_and_cuts(self, control: Control, twilio: Client) -> None:
        control.fault(action="lost")
        with pytest.raises(requests.exceptions.ConnectionError):
            point_at(twilio)
        assert stored_url(control) == URL
        entry = only_entry(control)
        assert (entry["outcome"], entry["vendor_status"], entry["applied"]) == ("cut", 200, True)

    def test_lost_at_livekit(self, control: Control, livekit: LiveKitCalls) -> None:
        control.fault(action="lost")
        with pytest.raises(aiohttp.ClientError):
            livekit(lambda sip: sip.create_outbound_trunk(TRUNK))
        assert len(control.livekit()["outbound_trunks"]) == 1

    def test_lost_status_applies_and_denies_it(self, control: Control, twilio: Client) -> None:
        control.fault(action="lost_status", status=503)
        with pytest.raises(TwilioRestException) as caught:
            point_at(twilio)
        assert (caught.value.status, caught.value.code) == (503, 20503)
        assert stored_url(control) == URL
        entry = only_entry(control)
        assert (entry["status"], entry["vendor_status"]) == (503, 200)


class TestMatching:
    @pytest.mark.parametrize(
        "match",
        [
            {"vendor": "livekit"},
            {"operation": "twilio.trunks.*"},
            {"write": False},
            {"import_id": "imp-2"},
            {"step": "route_number.undo"},
            {"account": "AC" + "0" * 31 + "2"},
            {"vendor": "twilio", "write": True, "step": "persist_number"},
        ],
    )
    def test_other_requests_pass(
        self, control: Control, twilio: Client, match: dict[str, Any]
    ) -> None:
        twilio.http_client.attempt = "imp-1/route_number/1"
        control.fault(action="cut", match=match)
        assert point_at(twilio) == URL
        assert control.faults()[0]["seen"] == 0

    @pytest.mark.parametrize(
        "match",
        [
            {},
            {"vendor": "twilio"},
            {"operation": UPDATE},
            {"operation": "twilio.*.update"},
            {"write": True},
            {"import_id": "imp-1"},
            {"step": "route_number"},
            {"step": "route_*"},
            {"account": "AC" + "0" * 31 + "1"},
        ],
    )
    def test_matching_request_is_hit(
        self, control: Control, twilio: Client, match: dict[str, Any]
    ) -> None:
        twilio.http_client.attempt = "imp-1/route_number/1"
        control.fault(action="status", status=500, match=match)
        with pytest.raises(TwilioRestException):
            point_at(twilio)
        assert control.faults()[0]["hits"] == 1

    def test_request_without_a_step_matches_no_pattern_of_steps(
        self, control: Control, twilio: Client
    ) -> None:
        control.fault(action="cut", match={"step": "*"})
        assert point_at(twilio) == URL

    def test_livekit_requests_belong_to_their_key(
        self, control: Control, livekit: LiveKitCalls
    ) -> None:
        control.fault(action="status", status=500, match={"account": livekit.key})
        with pytest.raises(ServerError):
            livekit(lambda sip: sip.create_outbound_trunk(TRUNK))


class TestCounting:
    def outcomes(self, twilio: Client, requests_made: int) -> str:
        result = ""
        for _ in range(requests_made):
            try:
                twilio.incoming_phone_numbers(PN).fetch()
            except TwilioRestException:
                result += "x"
            else:
                result += "."
        return result

    @pytest.mark.parametrize(
        ("spec", "expected"),
        [
            ({}, "x....."),
            ({"times": 2}, "xx...."),
            ({"times": None}, "xxxxxx"),
            ({"nth": 3}, "..x..."),
            ({"nth": 9}, "......"),
            ({"probability": 1.0, "times": None}, "xxxxxx"),
        ],
    )
    def test_which_requests_are_hit(
        self, control: Control, twilio: Client, spec: dict[str, Any], expected: str
    ) -> None:
        control.fault(action="status", status=500, **spec)
        assert self.outcomes(twilio, 6) == expected

    def test_probability_repeats_with_its_seed(self, control: Control, twilio: Client) -> None:
        runs = []
        for _ in range(2):
            control.http.delete("/faults")
            control.fault(action="status", status=500, probability=0.5, seed=7, times=None)
            runs.append(self.outcomes(twilio, 20))
        assert runs[0] == runs[1]
        assert set(runs[0]) == {".", "x"}

    def test_each_fault_counts_from_its_own_start(self, control: Control, twilio: Client) -> None:
        assert self.outcomes(twilio, 2) == ".."
        control.fault(action="status", status=500, nth=2)
        assert self.outcomes(twilio, 3) == ".x."

    def test_oldest_due_fault_acts_and_the_next_keeps_its_turn(
        self, control: Control, twilio: Client
    ) -> None:
        control.post(
            "/faults",
            [{"action": "status", "status": 500}, {"action": "status", "status": 503}],
        )
        statuses = []
        for _ in range(2):
            with pytest.raises(TwilioRestException) as caught:
                twilio.incoming_phone_numbers(PN).fetch()
            statuses.append(caught.value.status)
        assert statuses == [500, 503]

    def test_the_oldest_acts_whether_or_not_it_names_an_import(
        self, control: Control, twilio: Client
    ) -> None:
        of_any = {"action": "status", "status": 500}
        of_other = {**of_any, "match": {"import_id": "imp_b"}}
        of_one = {"action": "status", "status": 503, "match": {"import_id": "imp_a"}}
        cast("AttributingHttpClient", twilio.http_client).attempt = "imp_a/route_number/1"
        for faults, expected in (
            ([of_other, of_any, of_one], [500, 503]),
            ([of_one, of_other, of_any], [503, 500]),
        ):
            control.post("/faults", faults)
            for status in expected:
                with pytest.raises(TwilioRestException) as caught:
                    twilio.incoming_phone_numbers(PN).fetch()
                assert caught.value.status == status
            assert self.outcomes(twilio, 1) == "."
            # Removed one by one, a fault is gone from wherever it was looked up.
            for fault in control.faults():
                control.http.delete("/faults", params={"id": fault["id"]})
            assert control.faults() == []

    def test_delays_add_up_and_go_with_another_action(
        self, control: Control, twilio: Client
    ) -> None:
        delay = {"action": "delay", "seconds": 0.1, "times": None}
        control.post("/faults", [delay, {"action": "status", "status": 500}, delay])
        began = time.monotonic()
        assert self.outcomes(twilio, 1) == "x"
        assert time.monotonic() - began >= 0.2
        assert [item["action"] for item in only_entry(control)["faults"]] == [
            "delay",
            "status",
            "delay",
        ]

    def test_faults_are_listed_and_removed(self, control: Control, twilio: Client) -> None:
        first = control.fault(action="cut", match={"vendor": "livekit"})
        second = control.fault(action="status", status=500, times=None)
        assert self.outcomes(twilio, 2) == "xx"
        assert control.faults() == [
            {"id": first, "match": {"vendor": "livekit"}, "action": "cut", "seen": 0, "hits": 0},
            {
                "id": second,
                "times": None,
                "action": "status",
                "status": 500,
                "seen": 2,
                "hits": 2,
            },
        ]
        assert control.http.delete("/faults", params={"id": second}).status_code == 200
        assert self.outcomes(twilio, 1) == "."
        assert [fault["id"] for fault in control.faults()] == [first]
        control.http.delete("/faults")
        assert control.faults() == []


@pytest.mark.parametrize(
    "spec",
    [
        {"action": "explode"},
        {"action": "status"},
        {"action": "status", "status": 200},
        {"action": "delay"},
        {"action": "hold"},
        {"action": "hold", "when": "during"},
        {"action": "cut", "seconds": 1},
        {"action": "cut", "nth": 0},
        {"action": "cut", "probability": 2},
        {"action": "cut", "match": {"operations": "x"}},
        {"action": "cut", "opration": "x"},
        {},
        None,
    ],
)
def test_faults_that_make_no_sense_are_refused(control: Control, spec: object) -> None:
    response = control.http.post("/faults", json=[{"action": "cut"}, spec])
    assert response.status_code == 400
    assert "error" in response.json()
    assert control.faults() == []


def wait_until(condition: Callable[[], bool], seconds: float = 3) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_connection_stays_usable_after_a_fault(control: Control, twilio: Client) -> None:
    for action in ("cut", "lost"):
        control.fault(action=action)
        with pytest.raises(requests.exceptions.ConnectionError):
            twilio.incoming_phone_numbers(PN).fetch()
        assert twilio.incoming_phone_numbers(PN).fetch().sid == PN


def test_control_is_never_faulted(control: Control) -> None:
    control.fault(action="cut", times=None)
    assert control.http.get("/state").status_code == httpx.codes.OK
    assert control.journal() == []
