"""Know before, go back after, know why it does not ring: every vendor and mode, judged by a call.

A call is placed at the sandbox, which treats it as the vendor would: which setting wins, a signed
request to our public URL, the XML of the answer, LiveKit's own matching of trunk and rule.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from livekit import api

from tests.rig import Rig, eventually, running
from tests.vendors import VENDORS, Order, Vendor, order_of

CALLER = "+12025550123"
WAIT = {"Prefer": "wait=30"}
MODES = ("webhook", "sip_trunk")
EVERYWHERE = pytest.mark.parametrize(
    ("vendor", "mode"),
    [(vendor, mode) for vendor in VENDORS for mode in MODES],
    ids=[f"{vendor.name}-{mode}" for vendor in VENDORS for mode in MODES],
)
WEBHOOK = pytest.mark.parametrize("vendor", VENDORS, ids=[vendor.name for vendor in VENDORS])


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    with running() as started:
        yield started


class Line:
    """One number from its owner's point of view."""

    def __init__(self, rig: Rig, order: Order) -> None:
        self.rig = rig
        self.order = order
        #: What the vendor held before anything was done; a SIP carrier cannot be asked.
        self.before: Any = None if order.vendor == "sip" else self.account()
        self.id = ""
        self.import_id = ""

    def account(self) -> Any:
        state = self.rig.sandbox.get("/_sandbox/state").json()
        return state[self.order.vendor]["accounts"][self.order.account]

    def number(self) -> Any:
        """The number as the vendor has it."""
        numbers = self.account()["numbers"]
        digits = self.order.number.lstrip("+")
        return (
            numbers.get(self.order.number)
            or numbers.get(digits)
            or next(
                number
                for number in numbers.values()
                if number.get("phone_number") == self.order.number
            )
        )

    def ask(self, method: str, path: str, *, status: int = 200, **more: Any) -> Any:
        answer = self.rig.api.request(method, path, **more)
        assert answer.status_code == status, answer.text
        return answer.json() if answer.content else None

    def bring_in(self) -> None:
        number = self.ask(
            "POST", "/v1/imports", status=201, json=dict(self.order.body), headers=WAIT
        )
        self.id, self.import_id = number["id"], number["import_id"]

    def release(self) -> Any:
        return self.ask("DELETE", f"/v1/phone-numbers/{self.id}", headers=WAIT)

    def check(self, **params: str) -> Any:
        return self.ask("POST", f"/v1/phone-numbers/{self.id}/check", params=params)

    def repair(self) -> Any:
        path = f"/v1/phone-numbers/{self.id}/check"
        return self.ask("POST", path, params={"repair": "true"}, headers=WAIT)

    def call(self, **how: Any) -> Any:
        return self.rig.control("calls", {**self._line(), "from": CALLER, **how})

    def text(self, text: str) -> Any:
        return self.rig.control("messages", {**self._line(), "from": CALLER, "text": text})

    def events(self, kind: str) -> list[Any]:
        path = f"/v1/phone-numbers/{self.id}/events"
        items: list[Any] = self.ask("GET", path, params={"kind": kind})["items"]
        return items

    def edit(self, **change: Any) -> None:
        """Changes something at the vendor by hand."""
        account = {"vendor": self.order.vendor, "account": self.order.account}
        self.rig.control("edit", {**account, **change})

    def objects(self) -> dict[str, str]:
        rows = self.rig.sql(
            "SELECT objects FROM job_steps WHERE job_id = (SELECT coalesce(job_id, import_id) "  # noqa: S608 -- our own id
            f"FROM phone_numbers WHERE id = '{self.id.removeprefix('num_')}')"
        )
        found: dict[str, str] = {}
        for (objects,) in rows:
            found |= objects
        return found

    def livekit(self, act: Callable[[Any], Any]) -> None:
        """Does something at LiveKit by hand."""
        env = self.rig.stack.environment

        async def run() -> None:
            url, key, secret = (env[f"LIVEKIT_{name}"] for name in ("URL", "API_KEY", "API_SECRET"))
            async with api.LiveKitAPI(url, key, secret) as client:
                await act(client.sip)

        asyncio.run(run())

    def _line(self) -> dict[str, str]:
        return {
            "vendor": self.order.vendor,
            "account": self.order.account,
            "number": self.order.number,
        }


def line_of(rig: Rig, vendor: Vendor, mode: str, **request: Any) -> Line:
    return Line(rig, order_of(rig, vendor, mode, **request))


def agent(rig: Rig, name: str) -> str:
    """Makes an agent of the organisation, whose workers register under its name."""
    arguments = ("admin", "create-agent", name, "-o", "Acme", "--dispatch-name", name)
    return rig.stack.command("agent", *arguments).strip()


# Preflight


@EVERYWHERE
def test_preflight_changes_nothing_and_tells_what_the_import_then_does(
    rig: Rig, vendor: Vendor, mode: str
) -> None:
    line = line_of(rig, vendor, mode)
    last = rig.sandbox.get("/_sandbox/journal").json()["last"]
    everything = rig.sandbox.get("/_sandbox/state").json()
    jobs = rig.sql("SELECT count(*) FROM import_jobs, credentials, phone_numbers")

    found = line.ask("POST", "/v1/imports/preflight", json=dict(line.order.body))

    entries = rig.sandbox.get("/_sandbox/journal", params={"after": last}).json()["entries"]
    assert entries
    assert [entry for entry in entries if entry["write"]] == []
    assert rig.sandbox.get("/_sandbox/state").json() == everything
    assert rig.sql("SELECT count(*) FROM import_jobs, credentials, phone_numbers") == jobs
    assert (found["importable"], found["refusals"]) == (True, [])
    created = {change["object"] for change in found["changes"] if change["action"] == "create"}
    line.bring_in()
    assert created == set(line.objects())
    voice = [
        field
        for change in found["changes"]
        if change["step"] == "route_number"
        for field in change["fields"]
    ]
    assert voice
    if vendor.name == "twilio" and mode == "webhook":
        assert {"field": "voice_url", "from": "https://pbx.example.com/voice"}.items() <= next(
            field for field in voice if field["field"] == "voice_url"
        ).items()


@EVERYWHERE
def test_preflight_names_every_reason_at_once(rig: Rig, vendor: Vendor, mode: str) -> None:
    line = line_of(rig, vendor, mode, replace_existing_routing=False)
    body = {
        **line.order.body,
        "agent_id": f"agt_{'0' * 32}",
        "user_id": f"usr_{'0' * 32}",
        "inbound": {"fallback_agent_id": "agt_1"},
    }

    found = line.ask("POST", "/v1/imports/preflight", json=body)

    assert not found["importable"]
    codes = {refusal["code"] for refusal in found["refusals"]}
    assert codes == {"agent_not_found", "user_not_found", "number_in_use"}
    assert all(refusal["message"] for refusal in found["refusals"])


@WEBHOOK
def test_preflight_of_wrong_credentials_still_tells_of_livekit(rig: Rig, vendor: Vendor) -> None:
    line = line_of(rig, vendor, "webhook")
    trunk = api.CreateSIPInboundTrunkRequest(
        trunk=api.SIPInboundTrunkInfo(name="somebody else", numbers=[line.order.number])
    )
    line.livekit(lambda sip: sip.create_inbound_trunk(trunk))
    wrong = {
        "twilio": {"auth_token": "0" * 32},
        "telnyx": {"api_key": "wrong-key"},
        "plivo": {"auth_token": "wrong-token"},
    }[vendor.name]
    body = {**line.order.body, "credentials": {**line.order.body["credentials"], **wrong}}

    found = line.ask("POST", "/v1/imports/preflight", json=body)

    codes = {refusal["code"] for refusal in found["refusals"]}
    assert codes == {"invalid_credentials", "trunk_conflict"}


# The whole way: import, drift by hand, check, repair, release, import again, release


def drifts(line: Line, mode: str) -> list[tuple[str, Callable[[], None]]]:
    """What a customer may do by hand, with the code that a check must find it under."""
    made = line.objects()
    number = {"phone_number": line.order.number}
    found: list[tuple[str, Callable[[], None]]] = [
        (
            "missing",
            lambda: line.livekit(
                lambda sip: sip.delete_dispatch_rule(
                    api.DeleteSIPDispatchRuleRequest(sip_dispatch_rule_id=made["dispatch_rule"])
                )
            ),
        ),
        (
            "missing",
            lambda: line.livekit(
                lambda sip: sip.delete_trunk(
                    api.DeleteSIPTrunkRequest(sip_trunk_id=made["livekit_inbound_trunk"])
                )
            ),
        ),
    ]
    if line.order.vendor == "twilio":
        elsewhere = (
            {"trunk_sid": ""}
            if mode == "sip_trunk"
            else {"voice_url": "https://new.example.com/voice"}
        )
        found.append(("elsewhere", lambda: line.edit(**number, set=elsewhere)))
        if mode == "sip_trunk":
            away = {"sip_url": "sip:other.example.com"}
            origination = f"{made['trunk']}/{made['origination']}"
            found.append(
                ("changed", lambda: line.edit(kind="origination", id=origination, set=away))
            )
        else:
            found.append(("changed", lambda: line.edit(**number, set={"voice_method": "GET"})))
    elif line.order.vendor == "telnyx":
        old = line.before["numbers"]
        previous = next(iter(old.values()))["connection_id"]
        found.append(("elsewhere", lambda: line.edit(**number, set={"connection_id": previous})))
        kind, key = (
            ("fqdn_connection", "connection") if mode == "sip_trunk"
            else ("texml_application", "application")
        )  # fmt: skip
        found.append(("changed", lambda: line.edit(kind=kind, id=made[key], set={"active": False})))
    else:
        previous = next(iter(line.before["numbers"].values()))["app_id"]
        digits = line.order.number.lstrip("+")
        found.append(("elsewhere", lambda: line.edit(number=digits, set={"app_id": previous})))
        if mode == "sip_trunk":
            off = {"trunk_status": "disabled"}
            found.append(
                ("changed", lambda: line.edit(kind="trunk", id=made["inbound_trunk"], set=off))
            )
        else:
            away = {"answer_url": "https://new.example.com/answer"}
            found.append(
                ("changed", lambda: line.edit(kind="application", id=made["application"], set=away))
            )
    return found


@EVERYWHERE
def test_import_drift_check_repair_release(rig: Rig, vendor: Vendor, mode: str) -> None:
    line = line_of(rig, vendor, mode)
    assert line.call()["outcome"] == "forwarded"
    line.bring_in()
    assert line.call()["outcome"] == "agent"
    assert line.check()["verdict"] == "ok"
    for place in range(len(drifts(line, mode))):
        code, drift = drifts(line, mode)[place]
        drift()
        assert line.call()["outcome"] != "agent", code
        found = line.check()
        assert found["verdict"] == "drifted"
        assert code in {finding["code"] for finding in found["findings"]}
        assert found["summary"]
        repaired = line.repair()
        assert (repaired["id"], repaired["status"]) == (line.id, "active")
        assert line.check() == {
            "verdict": "ok",
            "summary": "Everything is as it was set.",
            "findings": [],
            "warnings": found["warnings"],
        }
        assert line.call()["outcome"] == "agent", code
    assert line.release()["status"] == "released"
    assert line.account() == line.before
    assert line.call()["outcome"] == "forwarded"


@EVERYWHERE
def test_import_release_import_again_release_ends_as_it_began(
    rig: Rig, vendor: Vendor, mode: str
) -> None:
    line = line_of(rig, vendor, mode)
    for _ in range(2):
        line.bring_in()
        released = line.release()
        assert (released["kind"], released["status"]) == ("release", "released")
        assert {step["state"] for step in released["steps"]} == {"undone"}
        assert line.account() == line.before
        line.ask("GET", f"/v1/phone-numbers/{line.id}", status=404)
    livekit = rig.sandbox.get("/_sandbox/state").json()["livekit"]
    left = [
        trunk
        for kind in ("inbound_trunks", "outbound_trunks")
        for trunk in livekit[kind].values()
        if any(line.order.number.lstrip("+") in number for number in trunk["numbers"])
    ]
    assert left == []


def voice_of(number: Mapping[str, Any]) -> dict[str, Any]:
    decisive = ("voice_", "trunk_sid", "connection_id", "app_id")
    return {name: value for name, value in number.items() if name.startswith(decisive)}


@WEBHOOK
def test_a_release_leaves_what_its_owner_has_pointed_elsewhere(rig: Rig, vendor: Vendor) -> None:
    line = line_of(rig, vendor, "webhook")
    line.bring_in()
    drift = dict(drifts(line, "webhook"))["elsewhere"]
    drift()
    moved = voice_of(line.number())
    assert line.release()["status"] == "released"
    assert voice_of(line.number()) == moved
    assert line.call()["outcome"] == "forwarded"


@WEBHOOK
def test_a_check_names_what_only_the_customer_can_put_right(rig: Rig, vendor: Vendor) -> None:
    line = line_of(rig, vendor, "webhook")
    line.bring_in()
    rival = api.CreateSIPInboundTrunkRequest(
        trunk=api.SIPInboundTrunkInfo(
            name="somebody else", numbers=[line.order.number], allowed_numbers=[CALLER]
        )
    )
    line.livekit(lambda sip: sip.create_inbound_trunk(rival))
    shadowed = line.check()["findings"]
    assert [(one["code"], one["repairable"]) for one in shadowed] == [("shadowed", False)]
    assert line.call()["outcome"] != "agent"

    number = {"number": line.order.number.lstrip("+")} if vendor.name == "plivo" else {
        "phone_number": line.order.number
    }  # fmt: skip
    line.edit(**number, remove=True)
    gone = line.check()
    assert "number_not_owned" in {one["code"] for one in gone["findings"]}
    assert "not in this" in gone["summary"]
    # There is nothing that a repair could do.
    assert line.repair()["verdict"] == "drifted"


def test_a_check_names_a_revoked_credential(rig: Rig) -> None:
    line = line_of(rig, VENDORS[0], "webhook")
    line.bring_in()
    revoked = {"sid": line.order.account, "auth_token": "sandbox-token-9"}
    rig.control("seed", {"twilio": {"accounts": [revoked]}})
    found = line.check()
    assert "invalid_credentials" in {one["code"] for one in found["findings"]}
    credential = line.ask("GET", f"/v1/phone-numbers/{line.id}")["credential_id"]
    new = {**line.order.body["credentials"], "auth_token": "sandbox-token-9"}
    line.ask("PATCH", f"/v1/credentials/{credential}", json={"credentials": new})
    assert line.check()["verdict"] == "ok"


# Rebinding


@EVERYWHERE
def test_a_rebound_number_reaches_the_other_agent(rig: Rig, vendor: Vendor, mode: str) -> None:
    first, second = agent(rig, f"first-{vendor.name}-{mode}"), agent(rig, "second")
    line = line_of(rig, vendor, mode, agent_id=first)
    line.bring_in()
    assert line.call()["agent_name"] == f"first-{vendor.name}-{mode}"
    rule = line.objects()["dispatch_rule"]
    path = f"/v1/phone-numbers/{line.id}"

    changed = line.ask(
        "PATCH",
        path,
        json={"agent_id": second, "inbound": {"room_pattern": "other-"}, "friendly_name": "Two"},
        headers=WAIT,
    )

    assert (changed["agent_id"], changed["friendly_name"]) == (second, "Two")
    call = line.call()
    assert (call["outcome"], call["agent_name"], call["room_prefix"]) == (
        "agent",
        "second",
        "other-",
    )
    assert line.objects()["dispatch_rule"] == rule
    assert line.check()["verdict"] == "ok"
    renamed = line.ask("PATCH", path, json={"friendly_name": None})
    assert (renamed["agent_id"], renamed["friendly_name"]) == (second, None)
    assert line.release()["status"] == "released"
    assert line.account() == line.before


@WEBHOOK
def test_a_call_that_nobody_answers_goes_to_the_fallback_agent_then_to_the_voicemail(
    rig: Rig, vendor: Vendor
) -> None:
    day, night = f"day-{vendor.name}", f"night-{vendor.name}"
    line = line_of(
        rig,
        vendor,
        "webhook",
        agent_id=agent(rig, day),
        inbound={"fallback_agent_id": agent(rig, night), "voicemail_message": "Please say a word."},
    )
    line.bring_in()
    assert line.check()["verdict"] == "ok"
    assert line.call()["agent_name"] == day
    rig.control("agents", {day: "offline"})
    assert line.call()["agent_name"] == night
    rig.control("agents", {night: "offline"})
    trace = line.call(repeat=2)
    assert trace["outcome"] == "voicemail"
    eventually(lambda: len(line.events("recording")) == 1)
    recording = line.events("recording")[0]["data"]
    assert recording["url"]
    rig.control("agents", {day: "online", night: "online"})
    line.ask(
        "PATCH",
        f"/v1/phone-numbers/{line.id}",
        json={"inbound": {"fallback_agent_id": None, "voicemail_message": None}},
        headers=WAIT,
    )
    rig.control("agents", {day: "offline"})
    assert line.call()["outcome"] == "ringing_unanswered"
    assert line.release()["status"] == "released"
    assert line.account() == line.before


# Events


@WEBHOOK
def test_calls_and_messages_are_kept_once_each(rig: Rig, vendor: Vendor) -> None:
    line = line_of(rig, vendor, "webhook", sms_enabled=True)
    line.bring_in()
    assert line.call(repeat=3)["problems"] == []
    assert line.text("The code is 1234")["outcome"] == "delivered"
    eventually(lambda: bool(line.events("call")) and bool(line.events("sms")))
    calls, messages = line.events("call"), line.events("sms")
    assert [(one["data"]["from"], one["data"]["to"]) for one in calls] == [
        (CALLER, line.order.number)
    ]
    assert [one["data"]["text"] for one in messages] == ["The code is 1234"]
    assert rig.sql("SELECT 1 FROM number_events WHERE number_events::text LIKE '%1234 %'") == []


# Rotation and account numbers


def rotated(vendor: Vendor, order: Order) -> tuple[Mapping[str, Any], Mapping[str, str]]:
    """A seed that gives the account new secrets, and those."""
    old = order.body["credentials"]
    if vendor.name == "twilio":
        new = {"sid": order.account, "auth_token": "sandbox-token-2"}
        return new, {**old, "auth_token": "sandbox-token-2"}
    if vendor.name == "plivo":
        new = {"auth_id": order.account, "auth_token": "sandbox-token-2"}
        return new, {**old, "auth_token": "sandbox-token-2"}
    key = f"{old['api_key']}-second"
    return {"id": order.account, "api_key": key}, {**old, "api_key": key}


@WEBHOOK
def test_a_rotated_credential_serves_its_numbers_without_a_new_import(
    rig: Rig, vendor: Vendor
) -> None:
    line = line_of(rig, vendor, "webhook")
    line.bring_in()
    path = f"/v1/credentials/{line.ask('GET', f'/v1/phone-numbers/{line.id}')['credential_id']}"
    seed, credentials = rotated(vendor, line.order)
    wrong = {name: value[:-1] + "x" for name, value in credentials.items() if "key" in name}
    if "auth_token" in credentials:
        wrong = {"auth_token": "wrong-token"}
    refused = line.ask(
        "PATCH", path, status=401, json={"credentials": {**credentials, **wrong}}
    ) if vendor.name != "telnyx" else None  # fmt: skip
    assert refused is None or refused["code"] == "invalid_credentials"
    assert line.check()["verdict"] == "ok"

    rig.control("seed", {vendor.name: {"accounts": [seed]}})
    line.ask("PATCH", path, json={"credentials": credentials, "label": "second"})

    assert line.check()["verdict"] == "ok"
    assert line.call()["outcome"] == "agent"
    assert line.release()["status"] == "released"
    found, before = line.number(), line.before["numbers"]
    assert found in before.values()


@WEBHOOK
def test_an_account_lists_its_numbers_and_which_can_be_imported(rig: Rig, vendor: Vendor) -> None:
    line = line_of(rig, vendor, "webhook")
    stored = line.ask(
        "POST",
        "/v1/credentials",
        status=201,
        json={"provider": vendor.name, "credentials": line.order.body["credentials"]},
    )
    path = f"/v1/credentials/{stored['id']}/numbers"
    before = line.ask("GET", path)["items"]
    assert [one["phone_number"] for one in before] == [line.order.number]
    assert before[0]["refusal"]["code"] == "number_in_use"
    assert before[0]["voice"]
    line.bring_in()
    after = line.ask("GET", path)
    assert after["items"][0]["refusal"]["code"] == "number_already_imported"
    assert after["next_cursor"] is None


# A SIP carrier: no API, a login that its customer may change


def test_a_carriers_number_is_checked_repaired_rebound_and_released(rig: Rig) -> None:
    number, sip = "+442079460199", {"username": "acme", "password": "planted-sip-password"}
    order = Order(
        vendor="sip",
        account="",
        number=number,
        body={
            "phone_number": number,
            "provider": "sip",
            "sip": {**sip, "address": "sip.example.com"},
        },
    )

    def call(password: str) -> Any:
        livekit = "sandbox.sip.livekit.example;transport=tcp"
        carrier = {"vendor": "sip", "number": number, "from": CALLER, "address": livekit}
        return rig.control("calls", {**carrier, "username": "acme", "password": password})

    line = Line(rig, order)
    preflight = line.ask("POST", "/v1/imports/preflight", json=dict(order.body))
    assert preflight["importable"]
    assert "planted-sip-password" not in str(preflight)
    line.bring_in()
    path = f"/v1/phone-numbers/{line.id}"
    assert call("planted-sip-password")["outcome"] == "agent"
    assert line.check()["verdict"] == "ok"

    made = line.objects()
    trunk = api.DeleteSIPTrunkRequest(sip_trunk_id=made["livekit_inbound_trunk"])
    line.livekit(lambda client: client.delete_trunk(trunk))
    assert call("planted-sip-password")["outcome"] != "agent"
    assert line.check()["verdict"] == "drifted"
    line.repair()
    assert call("planted-sip-password")["outcome"] == "agent"

    other = agent(rig, "carrier-agent")
    line.ask("PATCH", path, json={"agent_id": other}, headers=WAIT)
    assert call("planted-sip-password")["agent_name"] == "carrier-agent"

    login = {"username": "acme", "password": "another-sip-password"}
    line.ask("PATCH", path, json={"sip": login}, headers=WAIT)
    assert call("planted-sip-password")["outcome"] != "agent"
    assert call("another-sip-password")["agent_name"] == "carrier-agent"
    assert line.check()["verdict"] == "ok"

    assert line.release()["status"] == "released"
    assert call("another-sip-password")["outcome"] != "agent"
    livekit = rig.sandbox.get("/_sandbox/state").json()["livekit"]
    assert number not in str(livekit)
