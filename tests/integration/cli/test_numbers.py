"""Numbers, their checks and events, and stored accounts on the command line."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from tests.integration.cli.terminal import brought_in, in_terminal, piped
from tests.rig import TOKEN, Customer, Rig

_ESCAPE = "\x1b[2J\x1b[31mplanted\u202e"


@pytest.fixture(scope="module")
def stranger(rig: Rig) -> str:
    """Another organisation."""
    rig.stack.bootstrap("Other")
    return "Other"


def _edit(rig: Rig, customer: Customer, **fields: str) -> None:
    rig.control(
        "edit",
        {
            "vendor": "twilio",
            "account": customer.sid,
            "phone_number": customer.number,
            "set": fields,
        },
    )


def _held(rig: Rig, customer: Customer) -> Any:
    account = rig.outside([customer])[customer.number].account
    return account["numbers"][customer.number]


def test_numbers_are_listed_and_shown_by_what_people_dial(rig: Rig, stranger: str) -> None:
    customer = rig.customer(friendly_name="Desk")
    number_id = brought_in(rig, customer)
    # No request may bring such a name; an older row may have it.
    named = f"UPDATE phone_numbers SET friendly_name = 'Desk {_ESCAPE}'"  # noqa: S608 -- our own
    rig.sql(f"{named} WHERE e164 = '{customer.number}'")
    listed = piped(rig, "numbers")
    assert listed.out.splitlines()[0].split() == [
        *("number", "status", "agent", "verdict", "checked_at")
    ]
    rows = [line.split() for line in listed.out.splitlines()]
    assert [customer.number, "active", "-", "-", "-"] in rows
    by_number = piped(rig, "numbers", customer.number)
    assert by_number.out == piped(rig, "numbers", number_id).out
    assert "Desk \\x1b[2J\\x1b[31mplanted\\u202e" in by_number.out, "it would steer the terminal"
    told = rig.api.get(f"/v1/phone-numbers/{number_id}").json()
    shown = piped(rig, "numbers", number_id, "--json").json
    assert told.keys() <= shown.keys() | {"updated_at"}
    same = told.keys() & shown.keys() - {"created_at", "checked_at"}
    assert {name: told[name] for name in same} == {name: shown[name] for name in same}
    for text in (customer.number, number_id):
        theirs = piped(rig, "numbers", text, organization=stranger)
        assert (theirs.code, theirs.out) == (1, "")
        assert "not_found" in theirs.err
    wrong = piped(rig, "numbers", customer.number.lstrip("+"))
    assert wrong.code == 1
    assert "invalid_phone_number" in wrong.err


def test_a_list_goes_on_beyond_a_page(rig: Rig) -> None:
    account = json.dumps({"account_sid": "AC" + "9" * 32, "auth_token": TOKEN})
    rig.stack.bootstrap("Many")
    rig.sql(
        "INSERT INTO credentials (id, organization_id, provider, account_ref, label, stored, "
        "sealed, created_at, updated_at) SELECT gen_random_uuid(), id, 'twilio', 'AC' || n, '', "
        "true, 'x', now(), now() FROM organizations, generate_series(1, 401) AS n "
        "WHERE name = 'Many'"
    )
    add = ("credentials", "add", "--provider", "twilio", "--credentials", "-")
    assert piped(rig, *add, stdin=account, organization="Many").code == 0
    found = piped(rig, "credentials", "list", "--json", organization="Many").json
    assert len({one["id"] for one in found}) == 402


def test_a_number_held_twice_is_named_by_its_id(rig: Rig) -> None:
    customer = rig.customer()
    proven = brought_in(rig, customer)
    sip = {
        "phone_number": customer.number,
        "provider": "sip",
        "sip": {
            "address": "sip.carrier.example",
            "username": "acme",
            "password": "sandbox-password",
        },
        "supports_inbound": False,
    }
    job = rig.api.post("/v1/imports", json=sip).json()
    asserted = rig.wait([job["id"]])[job["id"]]
    assert asserted["status"] == "active", asserted["error"]
    done = piped(rig, "release", customer.number, "--yes")
    assert done.code == 1
    assert f"{proven} (twilio)" in done.err
    assert f"{asserted['phone_number_id']} (sip)" in done.err
    assert piped(rig, "release", asserted["phone_number_id"], "--yes").code == 0
    assert piped(rig, "numbers", customer.number, "--json").json["id"] == proven


def test_a_check_finds_what_drifted_and_a_repair_puts_it_right(rig: Rig) -> None:
    customer = rig.customer()
    brought_in(rig, customer)
    ours = _held(rig, customer)
    fine = piped(rig, "check", customer.number)
    assert (fine.code, fine.err) == (0, "")
    assert fine.out == f"{customer.number} ok\nEverything is as it was set.\n"
    _edit(rig, customer, voice_url="https://new.example.com/v?key=planted", status_callback="")
    drifted = piped(rig, "check", customer.number)
    assert drifted.code == 1
    head, sentence, _, columns, *rows = drifted.out.splitlines()
    assert head == f"{customer.number} drifted"
    assert sentence == (
        "At Twilio the number's calls now go to a url https://new.example.com/v?…, not to us."
    )
    assert columns.split() == ["object", "field", "expected", "found"]
    assert {row.split()[2] for row in rows if row.startswith("twilio number")} == {
        "voice",
        "status",
    }
    assert "--repair" in rows[-1]
    assert "planted" not in drifted.out + drifted.err
    listed = piped(rig, "numbers").out
    assert f"{customer.number}  active  -" in listed
    verdicts = {row.split()[0]: row.split()[3] for row in listed.splitlines()}
    assert verdicts[customer.number] == "drifted"
    repaired = piped(rig, "check", customer.number, "--repair")
    assert repaired.code == 0, repaired.err
    assert "route_number: done" in repaired.out
    assert repaired.out.endswith(f"{customer.number} ok\nEverything is as it was set.\n")
    assert _held(rig, customer)["voice_url"] == ours["voice_url"]
    assert _held(rig, customer)["status_callback"] == ours["status_callback"]


def test_a_repair_tells_programs_what_it_found_and_did(rig: Rig) -> None:
    customer = rig.customer()
    brought_in(rig, customer)
    needless = piped(rig, "check", customer.number, "--repair", "--json")
    assert (needless.code, needless.json["repair"]) == (0, None)
    _edit(rig, customer, voice_url="https://new.example.com/v")
    done = piped(rig, "check", customer.number, "--repair", "--json")
    assert done.code == 0
    assert (done.json["verdict"], done.json["findings"]) == ("ok", [])
    assert done.json["before_repair"]["findings"][0]["code"] == "elsewhere"
    assert (done.json["repair"]["kind"], done.json["repair"]["status"]) == ("repair", "active")


def test_a_repair_that_fails_is_a_failure(rig: Rig) -> None:
    customer = rig.customer()
    brought_in(rig, customer)
    _edit(rig, customer, voice_url="https://new.example.com/v")
    rig.fault(
        vendor="twilio", account=customer.sid, write=True, action="status", status=403, times=None
    )
    done = piped(rig, "check", customer.number, "--repair")
    assert done.code == 1
    assert "error insufficient_permission at " in done.err
    assert _held(rig, customer)["voice_url"] == "https://new.example.com/v"


def test_what_no_repair_can_put_right_starts_none(rig: Rig) -> None:
    customer = rig.customer()
    number_id = brought_in(rig, customer)
    rig.control(
        "edit",
        {
            "vendor": "twilio",
            "account": customer.sid,
            "phone_number": customer.number,
            "remove": True,
        },
    )
    done = piped(rig, "check", number_id, "--repair", "--json")
    assert done.code == 1
    assert [one["code"] for one in done.json["findings"]] == ["number_not_owned"]
    assert done.json["repair"] is None
    shown = piped(rig, "check", number_id, "--repair")
    assert shown.code == 1
    assert "error no repair can put this right: The number is not in this Twilio" in shown.err
    jobs = rig.api.get("/v1/imports", params={"phone_number": customer.number}).json()["items"]
    assert [one["kind"] for one in jobs] == ["import"]


def test_an_unreachable_provider_is_no_verdict(rig: Rig) -> None:
    customer = rig.customer()
    brought_in(rig, customer)
    rig.fault(vendor="twilio", account=customer.sid, action="status", status=503, times=None)
    done = piped(rig, "check", customer.number)
    assert (done.code, done.out) == (1, "")
    assert "provider_unavailable" in done.err


def test_a_change_reaches_livekit_or_is_only_written_down(rig: Rig) -> None:
    customer = rig.customer(friendly_name="Old")
    number_id = brought_in(rig, customer)
    agent = piped(rig, "admin", "create-agent", "Desk", "--dispatch-name", "desk-2").out.strip()
    done = piped(rig, "change", customer.number, "--agent-id", agent)
    assert done.code == 0, done.err
    assert "create_dispatch_rule: done" in done.out
    [rule] = rig.outside([customer])[customer.number].rules
    assert "desk-2" in json.dumps(rule)
    assert piped(rig, "change", number_id, "--friendly-name", "New").out == (
        f"{customer.number} is changed\n"
    )
    shown = piped(rig, "numbers", number_id, "--json").json
    assert (shown["friendly_name"], shown["agent_id"]) == ("New", agent)
    cleared = piped(rig, "change", number_id, "--friendly-name", "", "--json").json
    assert (cleared["friendly_name"], cleared["agent_id"]) == (None, agent)
    assert piped(rig, "change", number_id).code == 2
    unknown = piped(rig, "change", number_id, "--fallback-agent-id", "agt_1")
    assert unknown.code == 1
    assert "agent_not_found" in unknown.err


def test_events_are_listed_and_cannot_steer_the_terminal(rig: Rig) -> None:
    customer = rig.customer(sms_enabled=True)
    number_id = brought_in(rig, customer)
    about = {
        "vendor": "twilio",
        "account": customer.sid,
        "number": customer.number,
        "from": "+12025550123",
    }
    rig.control("messages", {**about, "text": f"hello {_ESCAPE}"})
    rig.control("calls", about)
    for done in (
        piped(rig, "events", customer.number),
        in_terminal(rig, "events", customer.number, columns=400),
    ):
        assert done.code == 0
        assert "hello \\x1b[2J\\x1b[31mplanted\\u202e" in done.out
        assert "\x1b[2J" not in done.out
        assert "+12025550123" in done.out
    messages = piped(rig, "events", customer.number, "--kind", "sms", "--json").json
    assert [one["data"]["text"] for one in messages] == [f"hello {_ESCAPE}"]
    assert len(piped(rig, "events", customer.number, "--limit", "1", "--json").json) == 1
    assert piped(rig, "release", customer.number, "--yes").code == 0
    assert piped(rig, "events", customer.number).code == 1
    later = piped(rig, "events", number_id, "--kind", "sms", "--json").json
    assert later == messages, "a number that was given back keeps its events"


def test_accounts_are_kept_listed_and_get_new_secrets(rig: Rig, stranger: str) -> None:
    customer = rig.customer()
    given = json.dumps(customer.request["credentials"])
    source = ("--provider", "twilio", "--credentials", "-")
    added = piped(rig, "credentials", "add", *source, "--label", "Main", stdin=given)
    assert added.code == 0, added.err
    credential = added.out.strip()
    row = next(
        line for line in piped(rig, "credentials", "list").out.splitlines() if credential in line
    )
    assert row.split()[1:4] == ["twilio", customer.sid, "Main"]
    holds = piped(rig, "credentials", "numbers", credential)
    assert holds.code == 0
    assert holds.out.splitlines()[1].split() == [
        *(customer.number, "url", "https://pbx.example.com/voice?…", "number_in_use")
    ]
    assert "number_in_use: Calls to this number already go elsewhere." in holds.out
    [one] = piped(rig, "credentials", "numbers", credential, "--json").json
    assert (one["importable"], one["refusal"]["code"]) == (False, "number_in_use")
    wrong = json.dumps({**customer.request["credentials"], "auth_token": "planted-other"})
    rotate = ("credentials", "rotate", credential, "--credentials", "-")
    refused = piped(rig, *rotate, stdin=wrong)
    assert refused.code == 1
    assert "invalid_credentials" in refused.err
    assert piped(rig, "credentials", "numbers", credential).code == 0, "the old ones still open it"
    rotated = piped(rig, *rotate, "--overlap", "0", "--json", stdin=given)
    assert (rotated.code, rotated.json["id"]) == (0, credential)
    assert piped(rig, *rotate, "--overlap", "-1", stdin=given).code == 2
    theirs = piped(rig, "credentials", "numbers", credential, organization=stranger)
    assert theirs.code == 1
    assert "credential_not_owned" in theirs.err
    for done in (added, holds, refused, rotated, theirs):
        assert TOKEN not in done.out + done.err
        assert "planted" not in done.out + done.err


def test_an_organisation_goes_with_its_numbers_and_leaves_its_audit_log(rig: Rig) -> None:
    made = rig.stack.bootstrap("Leaving")
    customer = rig.customer()
    before = _held(rig, customer)
    with httpx.Client(
        base_url=rig.stack.api_url,
        headers={"Authorization": f"Bearer {made['api_key']}"},
        timeout=60,
        trust_env=False,
    ) as theirs:
        answer = theirs.post("/v1/imports", json=customer.request, headers={"Prefer": "wait=40"})
        assert answer.status_code == 201, answer.text
        unasked = piped(rig, "admin", "erase-organization", organization="Leaving")
        assert (unasked.code, rig.sql("SELECT 1 FROM organizations WHERE name = 'Leaving'")) == (
            2,
            [(1,)],
        )
        gone = piped(rig, "admin", "erase-organization", "--yes", "--json", organization="Leaving")
        assert gone.code == 0, gone.err
        assert gone.json["erased"]["phone_numbers"] == 1
        assert theirs.get("/v1/imports").status_code == 401
    assert _held(rig, customer) == before
    assert not any(rig.outside([customer])[customer.number].made.values())
    organization = made["organization_id"].removeprefix("org_")
    left = rig.sql(
        f"SELECT action FROM audit_log WHERE organization_id = '{organization}' "  # noqa: S608 -- ours
        "ORDER BY id"
    )
    assert [action for (action,) in left][-1] == "organization.erase"
