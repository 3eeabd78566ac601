"""What providers report: kept once, sealed, listed, and forwarded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from tests.integration.api.conftest import Platform, Tenant, problem
from tests.integration.api.lines import (
    CALLER,
    FORM,
    VENDORS,
    Line,
    active,
    message,
    pending,
    sign,
)
from worker.service import Role

AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]
TEXT = "planted-one-time-code 4711"
JSON = {"Content-Type": "application/json"}


@pytest.fixture(params=VENDORS)
def line(request: pytest.FixtureRequest, platform: Platform, tenant: Tenant) -> Line:
    return active(platform, tenant, request.param)


def end_of_call(line: Line, call: str = "call-1") -> dict[str, str]:
    """What the vendor says when a call has ended."""
    id_, seconds = (
        ("CallUUID", "Duration") if line.vendor == "plivo" else ("CallSid", "CallDuration")
    )
    return line.call(**{id_: call, "CallStatus": "completed", seconds: "42"})


def report(line: Line, call: str = "call-1") -> None:
    answer = line.send("status", end_of_call(line, call))
    assert answer.status_code == 200, answer.text


def write_to(line: Line, text: str = TEXT) -> None:
    """Lets an SMS come in."""
    if line.vendor == "telnyx":
        answer = line.send("sms", message(line, text=text), headers=JSON)
    elif line.vendor == "plivo":
        fields = {"MessageUUID": "m-1", "Text": text, "Type": "sms"}
        parties = {"From": line.party(CALLER), "To": line.party(line.number)}
        answer = line.send("sms", {**fields, **parties})
    else:
        fields = {"MessageSid": "SM1", "SmsStatus": "received", "Body": text}
        answer = line.send("sms", {**fields, "From": CALLER, "To": line.number})
    assert answer.status_code == 200, answer.text


def leave_voicemail(line: Line) -> None:
    fields = (
        {"RecordingID": "rec-1", "RecordUrl": "https://r.example.com/1", "RecordingDuration": "7"}
        if line.vendor == "plivo"
        else {
            "RecordingSid": "rec-1",
            "RecordingStatus": "completed",
            "RecordingUrl": "https://r.example.com/1",
            "RecordingDuration": "7",
        }
    )
    answer = line.send("recording", fields)
    assert answer.status_code == 200, answer.text


def test_reports_are_listed_in_the_same_words_for_every_vendor(line: Line) -> None:
    report(line)
    write_to(line)
    leave_voicemail(line)

    recording, sms, call = line.events()

    assert [recording["kind"], sms["kind"], call["kind"]] == ["recording", "sms", "call"]
    assert call["data"] == {
        "call_id": "call-1",
        "status": "completed",
        "direction": "inbound",
        "from": CALLER,
        "to": line.number,
        "duration_seconds": 42,
    }
    assert (sms["data"]["text"], sms["data"]["from"]) == (TEXT, CALLER)
    assert sms["data"]["to"] == line.number
    assert recording["data"]["url"] == "https://r.example.com/1"
    assert recording["data"]["duration_seconds"] == 7
    assert call["received_at"].endswith("Z")
    assert [event["id"][:4] for event in line.events(kind="sms")] == ["evt_"]
    assert line.events(kind="recording") == [recording]


def test_a_report_that_is_delivered_again_is_kept_once(line: Line, at_once: AtOnce) -> None:
    fields = end_of_call(line)

    answers = at_once(8, lambda _: line.send("status", fields))
    answers += [line.send("status", fields) for _ in range(2)]

    assert {answer.status_code for answer in answers} == {200}
    assert line.stored() == len(line.events()) == 1


def test_reports_of_two_numbers_are_apart(platform: Platform, tenant: Tenant) -> None:
    one, two = active(platform, tenant), active(platform, tenant)
    report(one)
    report(two)

    assert (one.stored(), two.stored()) == (1, 1)
    assert one.events()[0]["data"]["to"] == one.number


def test_pages_hold_each_event_once_newest_first(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant)
    for number in range(5):
        report(line, f"call-{number}")
    path = f"/v1/phone-numbers/{line.id}/events"

    found, sizes, cursor = [], [], None
    while True:
        params = {"limit": 2} if cursor is None else {"limit": 2, "cursor": cursor}
        page = tenant.http.get(path, params=params).json()
        found += [event["data"]["call_id"] for event in page["items"]]
        sizes.append(len(page["items"]))
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert found == [f"call-{number}" for number in (4, 3, 2, 1, 0)]
    assert sizes == [2, 2, 1]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=x", "limit"),
        ("limit=1.5", "limit"),
        ("limit=", "limit"),
        ("kind=nonsense", "kind"),
        ("kind=CALL", "kind"),
        ("nonsense=1", "nonsense"),
        ("cursor=nonsense", None),
        ("cursor=evt_0", None),
        ("cursor=num_" + "0" * 32, None),
        ("cursor=evt_" + "G" * 32, None),
        ("cursor=%00", None),
        ("cursor=", None),
        ("cursor=evt_" + "0" * 32 + "%0a", None),
    ],
)
def test_a_query_that_is_none_is_refused(
    platform: Platform, tenant: Tenant, query: str, field: str | None
) -> None:
    line = active(platform, tenant)

    found = problem(
        tenant.http.get(f"/v1/phone-numbers/{line.id}/events?{query}"), 400, "invalid_request"
    )

    if field is not None:
        assert [error["field"] for error in found["errors"]] == [field]


def test_who_may_read_reports(platform: Platform, tenant: Tenant, other: Tenant) -> None:
    line = active(platform, tenant)
    write_to(line)
    path = f"/v1/phone-numbers/{line.id}/events"
    _, viewer = tenant.add_key(Role.VIEWER)

    assert viewer.get(path).json()["items"][0]["data"]["text"] == TEXT
    problem(other.http.get(path), 404, "not_found")
    problem(platform.client().get(path), 401, "unauthenticated")
    assert TEXT not in other.http.get(path).text


def test_reports_outlive_the_release(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant)
    report(line, "before")
    line.set_status("released")
    report(line, "after")

    assert [event["data"]["call_id"] for event in line.events()] == ["after", "before"]
    problem(tenant.http.get(f"/v1/phone-numbers/{line.id}"), 404, "not_found")


def test_reports_that_come_during_the_import_are_kept(platform: Platform, tenant: Tenant) -> None:
    line = pending(platform, tenant)
    report(line)

    assert line.stored() == 1


def test_nothing_of_a_report_is_plain_in_the_database_or_the_log(line: Line) -> None:
    write_to(line)
    report(line)

    rows = line.platform.sql(
        "SELECT to_jsonb(e)::text FROM number_events e WHERE phone_number_id = :id", id=line.uuid
    )
    plain = "".join(row[0] for row in rows)
    assert len(rows) == 2
    for secret in (TEXT, "one-time-code", CALLER, CALLER[1:], line.number[1:]):
        assert secret not in plain
        assert secret not in line.platform.log()


def test_a_report_is_forwarded_once_to_who_asked_for_it(
    platform: Platform, tenant: Tenant, at_once: AtOnce
) -> None:
    # Nothing is sent there: no worker runs.
    line = active(platform, tenant, callback_url="https://1.1.1.1/hook?key=planted-query")
    fields = end_of_call(line)
    at_once(4, lambda _: line.send("status", fields))
    write_to(line)

    rows = platform.sql(
        "SELECT n.type, n.payload::text, e.phone_number_id, n.state FROM notifications n "
        "JOIN number_events e ON e.id = n.event_id WHERE e.phone_number_id = :id ORDER BY n.id",
        id=line.uuid,
    )

    assert [(row[0], row[3]) for row in rows] == [
        ("call.received", "pending"),
        ("sms.received", "pending"),
    ]
    assert TEXT not in rows[1][1]
    assert CALLER not in rows[0][1]
    assert "planted-query" not in platform.log()


def test_nobody_is_told_who_did_not_ask(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant)
    report(line)

    told = "SELECT count(*) FROM notifications WHERE organization_id = :id"
    assert platform.sql(told, id=tenant.uuid) == [(0,)]


def test_an_event_and_its_notification_are_one_transaction(
    platform: Platform, tenant: Tenant
) -> None:
    line = active(platform, tenant, callback_url="https://1.1.1.1/hook")
    # The notification cannot be written: then the event is not kept either, and the vendor is told
    # to come again.
    platform.sql(
        "CREATE OR REPLACE FUNCTION refuse() RETURNS trigger AS "
        "$$ BEGIN RAISE EXCEPTION 'refused'; END $$ LANGUAGE plpgsql"
    )
    platform.sql(
        "CREATE TRIGGER refuse BEFORE INSERT ON notifications FOR EACH ROW "
        "EXECUTE FUNCTION refuse()"
    )
    try:
        body = urlencode(end_of_call(line)).encode()
        headers = {"Content-Type": FORM, **sign("twilio", line.url("status"), body)}
        answer = httpx.post(platform.url + line.path("status"), content=body, headers=headers)
        problem(answer, 500, "internal_error")
        assert line.stored() == 0
    finally:
        platform.sql("DROP TRIGGER refuse ON notifications")
    report(line)
    assert line.stored() == 1


def test_half_a_surrogate_pair_spoils_no_list(platform: Platform, tenant: Tenant) -> None:
    line = active(platform, tenant, "telnyx")
    body = message(line).replace(b'"direction"', b'"text": "a\\ud83d", "direction"')

    assert line.send("sms", body, headers=JSON).status_code == 200

    assert [event["data"]["text"] for event in line.events()] == ["a\ufffd"]
