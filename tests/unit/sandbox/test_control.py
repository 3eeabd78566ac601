from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests.unit.sandbox.conftest import AC, DEMO_URL, LK_KEY, NUMBER, OTHER_AC, PN, SEED, TOKEN

if TYPE_CHECKING:
    from pathlib import Path

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control


def refused(control: Control, path: str, body: object) -> str:
    response = control.http.post(path, json=body)
    assert response.status_code == httpx.codes.BAD_REQUEST
    return str(response.json()["error"])


def twilio_seed(*accounts: dict[str, object]) -> dict[str, object]:
    return {"twilio": {"accounts": list(accounts)}}


class TestSeed:
    def test_number_takes_any_of_its_fields(self, control: Control, twilio: Client) -> None:
        number = {
            "phone_number": "+14155550120",
            "friendly_name": "front desk",
            "voice_url": "https://old.example.com/?token=x",
            "voice_method": "GET",
            "voice_caller_id_lookup": True,
            "sms_url": None,
            "capabilities": {"mms": False},
            "status": "pending",
        }
        control.post("/seed", twilio_seed({"sid": AC, "numbers": [number]}))
        (row,) = twilio.incoming_phone_numbers.list(phone_number="+14155550120")
        assert (row.friendly_name, row.voice_method, row.status) == ("front desk", "GET", "pending")
        assert row.voice_caller_id_lookup is True
        assert row.capabilities == {"voice": True, "sms": True, "mms": False, "fax": False}

    def test_number_may_point_at_a_seeded_trunk_or_application(
        self, control: Control, twilio: Client
    ) -> None:
        trunk, application = "TK" + "a" * 32, "AP" + "a" * 32
        control.post(
            "/seed",
            twilio_seed(
                {
                    "sid": AC,
                    "trunks": [{"sid": trunk, "domain_name": "foreign.pstn.twilio.com"}],
                    "applications": [{"sid": application, "friendly_name": "theirs"}],
                    "numbers": [
                        {"phone_number": "+14155550121", "trunk_sid": trunk},
                        {"phone_number": "+14155550122", "voice_application_sid": application},
                    ],
                }
            ),
        )
        numbers = control.account()["numbers"]
        assert numbers["+14155550121"]["trunk_sid"] == trunk
        assert numbers["+14155550122"]["voice_application_sid"] == application
        assert twilio.trunking.v1.trunks(trunk).fetch().domain_name == "foreign.pstn.twilio.com"

    def test_existing_account_is_changed(self, control: Control, twilio: Client) -> None:
        control.post("/seed", twilio_seed({"sid": AC, "friendly_name": "renamed"}))
        assert twilio.api.v2010.accounts(AC).fetch().friendly_name == "renamed"
        assert list(control.account()["numbers"]) == [NUMBER]

    def test_livekit_objects_are_stored_as_they_are(self, control: Control) -> None:
        trunk = {"sip_trunk_id": "ST_aaaaaaaaaaaa", "numbers": [NUMBER], "auth_password": "secret"}
        rule = {"trunk_ids": ["ST_a"], "rule": {"dispatch_rule_individual": {"room_prefix": "c"}}}
        outbound = {"numbers": [NUMBER], "address": "a.example.com"}
        control.post(
            "/seed",
            {
                "livekit": {
                    "inbound_trunks": [trunk],
                    "outbound_trunks": [outbound],
                    "dispatch_rules": [rule],
                }
            },
        )
        shown = control.livekit()
        assert shown["inbound_trunks"]["ST_aaaaaaaaaaaa"]["numbers"] == [NUMBER]
        assert "secret" not in str(shown)
        assert [name[:4] for name in shown["dispatch_rules"]] == ["SDR_"]
        assert len(shown["outbound_trunks"]) == 1

    @pytest.mark.parametrize(
        ("seed", "words"),
        [
            ([], "one key per vendor"),
            ({"acme": {}}, "unknown vendor: acme"),
            ({"twilio": {"accunts": []}}, "accunts"),
            (twilio_seed({"sid": "AC1", "auth_token": "t"}), "sid"),
            (twilio_seed({"sid": "AC" + "9" * 32}), "needs an auth_token"),
            (twilio_seed({"sid": AC, "numbers": [{"phone_number": NUMBER}]}), "already"),
            (twilio_seed({"sid": AC, "numbers": [{"phone_number": "0800"}]}), "phone_number"),
            (
                twilio_seed(
                    {"sid": AC, "numbers": [{"phone_number": "+15550001", "vioce_url": ""}]}
                ),
                "VioceUrl",
            ),
            (
                twilio_seed(
                    {
                        "sid": AC,
                        "numbers": [{"phone_number": "+15550001", "trunk_sid": "TK" + "9" * 32}],
                    }
                ),
                "was not found",
            ),
            ({"livekit": {"api_key": "k", "api_secret": "short"}}, "32"),
            ({"livekit": {"api_key": "k"}}, "come together"),
            ({"livekit": {"inbound_trunks": [{"nmbers": []}]}}, "nmbers"),
            ({"livekit": {"dispatch_rules": [{"name": "no kind"}]}}, "Unsupported"),
        ],
    )
    def test_seeds_that_make_no_sense_are_refused(
        self, control: Control, seed: object, words: str
    ) -> None:
        assert words in refused(control, "/seed", seed)


class TestReset:
    def test_everything_is_gone(self, control: Control, twilio: Client) -> None:
        twilio.applications.create(friendly_name="a")
        control.fault(action="cut")
        control.post("/reset")
        assert control.get("/state") == {
            "twilio": {"accounts": {}, "reserved_domains": []},
            "telnyx": {"accounts": {}},
            "plivo": {"accounts": {}},
            "livekit": {
                "api_keys": [],
                "inbound_trunks": {},
                "outbound_trunks": {},
                "dispatch_rules": {},
            },
        }
        assert control.faults() == []
        assert control.get("/journal") == {"entries": [], "last": 0, "dropped": 0}

    def test_reset_may_bring_a_seed(self, control: Control) -> None:
        control.post("/reset", twilio_seed({"sid": OTHER_AC, "auth_token": "sandbox-token-9"}))
        assert list(control.get("/state")["twilio"]["accounts"]) == [OTHER_AC]


class TestEdit:
    def edit(self, **fields: object) -> dict[str, object]:
        return {"vendor": "twilio", "account": AC, "phone_number": NUMBER, **fields}

    def test_customer_points_the_number_elsewhere(self, control: Control, twilio: Client) -> None:
        trunk = twilio.trunking.v1.trunks.create(friendly_name="theirs").sid
        application = twilio.applications.create(friendly_name="theirs").sid
        control.post("/edit", self.edit(set={"voice_application_sid": application}))
        control.post("/edit", self.edit(set={"trunk_sid": trunk, "status": "suspended"}))
        number = twilio.incoming_phone_numbers(PN).fetch()
        assert (number.trunk_sid, number.voice_application_sid) == (trunk, "")
        assert (number.status, number.voice_url) == ("suspended", DEMO_URL)
        control.post("/edit", self.edit(set={"trunk_sid": None}))
        assert twilio.incoming_phone_numbers(PN).fetch().trunk_sid is None
        assert all(entry["method"] != "PATCH" for entry in control.journal())

    def test_customer_gives_the_number_up(self, control: Control, twilio: Client) -> None:
        control.post("/edit", self.edit(remove=True))
        assert twilio.incoming_phone_numbers.list() == []
        assert control.account()["released_numbers"] == []
        control.post("/seed", twilio_seed({"sid": OTHER_AC, "numbers": [{"phone_number": NUMBER}]}))

    @pytest.mark.parametrize(
        "edit",
        [
            {"vendor": "acme"},
            {},
            {"vendor": "livekit", "remove": True},
            {"vendor": "twilio", "account": AC, "phone_number": "+15550001"},
            {"vendor": "twilio", "account": "AC", "phone_number": NUMBER},
            {"vendor": "twilio", "account": AC, "phone_number": NUMBER, "set": {"voice_url": "x"}},
            {"vendor": "twilio", "account": AC, "phone_number": NUMBER, "sett": {}},
        ],
    )
    def test_edits_that_make_no_sense_are_refused(self, control: Control, edit: object) -> None:
        refused(control, "/edit", edit)


def test_state_tells_what_an_account_holds(control: Control) -> None:
    account = control.account()
    assert (account["sid"], account["status"], account["type"]) == (AC, "active", "Full")
    number = account["numbers"][NUMBER]
    assert (number["sid"], number["voice_url"], number["trunk_sid"]) == (PN, DEMO_URL, None)
    assert control.livekit()["api_keys"] == [LK_KEY]
    text = str(control.get("/state"))
    assert TOKEN not in text
    assert SEED["livekit"]["api_secret"] not in text


def test_body_that_is_not_json_is_refused(control: Control) -> None:
    assert control.http.post("/seed", content=b"{").status_code == httpx.codes.BAD_REQUEST


def test_process_refuses_a_seed_that_makes_no_sense(tmp_path: Path) -> None:
    seed_file = tmp_path / "seed.json"
    seed_file.write_text('{"acme": {}}')
    command = [sys.executable, "-m", "deploy.sandbox", "--seed-file", str(seed_file)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own module
    assert result.returncode == 2
    assert "unknown vendor: acme" in result.stderr


def test_process_announces_itself_takes_a_seed_and_stops(tmp_path: Path) -> None:
    seed_file = tmp_path / "seed.json"
    seed_file.write_text(json.dumps(SEED))
    command = [sys.executable, "-m", "deploy.sandbox", "--port", "0", "--seed-file", str(seed_file)]
    with subprocess.Popen(  # noqa: S603 - our own module
        command, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = line.removeprefix("sandbox listening on ").strip()
        state = httpx.get(f"{url}/_sandbox/state").json()
        httpx.post(
            f"{url}/_sandbox/faults", json={"action": "hold", "when": "before", "times": None}
        )
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{url}/twilio/2010-04-01/Accounts/{AC}.json", timeout=0.1)
        process.send_signal(signal.SIGTERM)
        assert process.wait(5) == 0
    assert list(state["twilio"]["accounts"]) == [AC, OTHER_AC]
