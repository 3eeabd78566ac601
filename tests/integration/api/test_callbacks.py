"""What providers ask over real HTTP: who is heard, and who gets the call."""

from __future__ import annotations

from collections.abc import Mapping
from xml.etree.ElementTree import Element, fromstring

import httpx
import pytest

from tests.integration.api.conftest import TOKEN, Platform, Tenant, problem
from tests.integration.api.lines import (
    OTHER_KEY,
    VENDORS,
    Line,
    active,
    pending,
)
from worker.domain.values import Routing

PLANTED = "planted-text-4711"
WRONG = {"twilio": "another-token", "plivo": "another-token", "telnyx": OTHER_KEY}


def xml(answer: httpx.Response) -> Element:
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].partition(";")[0] in ("text/xml", "application/xml")
    root = fromstring(answer.content)  # noqa: S314 -- our own answer
    assert root.tag == "Response"
    return root


def refused(line: Line, answer: httpx.Response) -> None:
    problem(answer, 403, "invalid_signature")
    assert line.stored() == 0


@pytest.fixture(params=VENDORS)
def line(request: pytest.FixtureRequest, platform: Platform, tenant: Tenant) -> Line:
    return active(platform, tenant, request.param)


# --- heard ------------------------------------------------------------------------------------


def test_a_signed_call_is_sent_to_livekit_with_the_trunk_s_login(line: Line) -> None:
    [dial] = xml(line.send())

    secrets = line.platform.vault.open(line.platform.job(line.import_id).sealed)
    assert dial.tag == "Dial"
    assert dial.attrib["timeout"] == "25"
    assert dial.attrib["action"] == f"{line.url('dialed')}?tried=agent"
    [leg] = dial
    tag, user, password = {
        "plivo": ("User", "sipAuthUsername", "sipAuthPassword"),
    }.get(line.vendor, ("Sip", "username", "password"))
    assert leg.tag == tag
    assert leg.text == f"sip:{line.number}@sandbox.sip.livekit.example;transport=tcp"
    assert leg.attrib[user] == secrets["inbound_username"]
    assert leg.attrib[password] == secrets["inbound_password"]
    assert secrets["inbound_password"] not in line.platform.log()


def test_calls_of_a_number_without_inbound_end(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant, supports_inbound=False)

    assert [verb.tag for verb in xml(line.send())] == ["Hangup"]


def test_a_call_nobody_answered_goes_to_the_fallback_then_to_the_voicemail(
    platform: Platform, tenant: Tenant
) -> None:
    caller = platform.service.authenticate(tenant.key)
    agent = platform.service.create_agent(caller, name="b", dispatch_name="b")
    inbound = {"fallback_agent_id": agent, "voicemail_message": "Please leave a message."}
    for vendor in VENDORS:
        line = active(platform, tenant, vendor, inbound=inbound)
        ended = "DialStatus" if vendor == "plivo" else "DialCallStatus"
        nobody = line.call(**{ended: "no-answer"})

        [dial] = xml(line.send("dialed", nobody, query="?tried=agent"))
        assert dial.attrib["action"] == f"{line.url('dialed')}?tried=fallback"
        assert (dial[0].text or "").startswith("sip:")
        assert (
            dial[0].text or ""
        ) != f"sip:{line.number}@sandbox.sip.livekit.example;transport=tcp"

        spoken = xml(line.send("dialed", nobody, query="?tried=fallback"))
        assert spoken[0].text == "Please leave a message."
        assert [verb.tag for verb in spoken][1:] == ["Record", "Hangup"]
        assert line.url("recording") in spoken[1].attrib.values()

        answered = line.call(**{ended: "completed"})
        after = xml(line.send("dialed", answered, query="?tried=agent"))
        assert [verb.tag for verb in after] in (["Hangup"], [])


def test_without_fallback_and_voicemail_an_unanswered_call_ends(line: Line) -> None:
    ended = "DialStatus" if line.vendor == "plivo" else "DialCallStatus"
    nobody = line.call(**{ended: "busy"})

    assert [verb.tag for verb in xml(line.send("dialed", nobody, query="?tried=agent"))] == [
        "Hangup"
    ]


# --- whose call it is, by the number's status -------------------------------------------------


ORIGINAL = Routing(
    parts={
        "voice": {
            "voice_url": "https://pbx.example.com/voice?key=planted-query",
            "voice_method": "GET",
            "voice_application_sid": "",
            "trunk_sid": "",
        }
    }
)


@pytest.mark.parametrize("status", ["pending", "releasing", "released"])
def test_a_number_that_is_not_ours_now_is_answered_by_who_did_before(
    platform: Platform, tenant: Tenant, status: str
) -> None:
    line = pending(platform, tenant)
    platform.find(line.import_id, ORIGINAL)
    line.set_status(status)

    [redirect] = xml(line.send())

    assert (redirect.tag, redirect.attrib["method"]) == ("Redirect", "GET")
    assert redirect.text == ORIGINAL.parts["voice"]["voice_url"]
    assert "planted-query" not in platform.log()


@pytest.mark.parametrize(
    ("status", "verb"), [("pending", "Dial"), ("releasing", "Hangup"), ("released", "Hangup")]
)
def test_where_nobody_answered_before(
    platform: Platform, tenant: Tenant, status: str, verb: str
) -> None:
    line = pending(platform, tenant)
    nowhere = dict.fromkeys(ORIGINAL.parts["voice"], "")
    platform.find(line.import_id, Routing(parts={"voice": nowhere}))
    line.set_status(status)

    assert [found.tag for found in xml(line.send())] == [verb]


def test_an_original_that_is_ours_is_not_called_in_circles(
    platform: Platform, tenant: Tenant
) -> None:
    line = pending(platform, tenant)
    ours = {**ORIGINAL.parts["voice"], "voice_url": line.url()}
    platform.find(line.import_id, Routing(parts={"voice": ours}))
    line.set_status("released")

    assert [found.tag for found in xml(line.send())] == ["Hangup"]


def _released_from_an_application(platform: Platform, tenant: Tenant) -> Line:
    account = {
        "auth_id": "MA000000000000000001",
        "auth_token": TOKEN,
        "applications": [
            {
                "app_id": "88000001",
                "app_name": "pbx",
                "answer_url": "https://pbx.example.com/answer",
                "answer_method": "GET",
            }
        ],
    }
    platform.control("reset", {"plivo": {"accounts": [account]}})
    line = pending(platform, tenant, "plivo")
    platform.find(line.import_id, Routing(parts={"voice": {"app_id": "88000001"}}))
    line.set_status("released")
    return line


def test_an_application_that_answered_before_is_looked_up(
    platform: Platform, tenant: Tenant
) -> None:
    [redirect] = xml(_released_from_an_application(platform, tenant).send())

    assert (redirect.tag, redirect.text) == ("Redirect", "https://pbx.example.com/answer")
    assert redirect.attrib["method"] == "GET"


@pytest.mark.parametrize(
    "fault",
    [
        {"action": "status", "status": 500},
        {"action": "status", "status": 401},
        {"action": "status", "status": 429},
        {"action": "cut"},
        {"action": "garbage"},
        {"action": "delay", "seconds": 20},
    ],
    ids=lambda fault: "-".join(map(str, fault.values())),
)
def test_a_provider_that_does_not_say_who_answered_before_ends_the_call(
    platform: Platform, tenant: Tenant, fault: Mapping[str, object]
) -> None:
    line = _released_from_an_application(platform, tenant)
    platform.control("faults", {"match": {"vendor": "plivo"}, "times": None, **fault})

    answer = line.send()

    assert [verb.tag for verb in xml(answer)] == ["Hangup"]
    # Vendors give a webhook 15 s; a second attempt outside would not fit.
    assert answer.elapsed.total_seconds() < 9
    platform.control("reset", {})


# --- a replaced secret ------------------------------------------------------------------------


@pytest.mark.parametrize("vendor", ["twilio", "plivo"])
def test_the_replaced_secret_counts_as_long_as_was_agreed(
    platform: Platform, tenant: Tenant, vendor: str
) -> None:
    line = active(platform, tenant, vendor)
    credential = platform.job(line.import_id).credential_id
    rotate(platform, line, "the-new-token", overlap=3600)

    assert line.send(secret="the-new-token").status_code == 200
    assert line.send().status_code == 200

    platform.sql(
        "UPDATE credentials SET replaced_until = now() - interval '1 second' WHERE id = :id",
        id=credential,
    )
    refused(line, line.send())
    assert line.send(secret="the-new-token").status_code == 200


def test_a_leaked_secret_counts_no_more_at_once(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant)
    rotate(platform, line, "the-new-token", overlap=0)

    refused(line, line.send())
    assert line.send(secret="the-new-token").status_code == 200


def rotate(platform: Platform, line: Line, token: str, *, overlap: int) -> None:
    """Rotates over HTTP, at an account of the sandbox that accepts the new token."""
    job = platform.job(line.import_id)
    if line.vendor == "twilio":
        sid = "AC0123456789abcdef0123456789abcdef"
        account: dict[str, object] = {"sid": sid, "auth_token": token, "numbers": []}
        credentials = {"account_sid": sid, "auth_token": token}
    else:
        account = {"auth_id": "MA000000000000000001", "auth_token": token}
        credentials = {"auth_id": "MA000000000000000001", "auth_token": token}
    platform.control("reset", {line.vendor: {"accounts": [account]}})
    answer = line.tenant.http.patch(
        f"/v1/credentials/cred_{job.credential_id.hex}",
        json={"credentials": credentials, "overlap_seconds": overlap},
    )
    assert answer.status_code == 200, answer.text
    assert token not in answer.text
