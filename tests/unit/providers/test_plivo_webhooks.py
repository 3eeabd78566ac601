"""What Plivo's requests say, and how they are answered; their signatures are in the contract."""

from __future__ import annotations

import dataclasses
from urllib.parse import urlencode
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.calls import (
    EVENT_FIELDS,
    Acknowledge,
    Answer,
    CallbackKind,
    CallbackRequest,
    Dial,
    Event,
    EventKind,
    Forward,
    HangUp,
    Voicemail,
)
from worker.domain.errors import InvalidRequest
from worker.domain.values import SipLogin
from worker.providers._plivo_webhooks import PlivoWebhooks

WEBHOOKS = PlivoWebhooks()
DIALED = "https://voice.example.com/callbacks/plivo/dialed/num_1"
RECORDING = "https://voice.example.com/callbacks/plivo/recording/num_1"
LOGIN = SipLogin(username="trunkline1", password="Planted-Password-1")
MESSAGE = {"MessageUUID": "message-1", "From": "14155550111"}
ANY = st.text(st.characters(exclude_categories=[]))


def request(form: dict[str, str]) -> CallbackRequest:
    return CallbackRequest(
        method="POST",
        url="https://voice.example.com/callbacks/plivo",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=urlencode(form).encode(),
    )


# --- what requests say ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        ("completed", True),
        ("busy", False),
        ("failed", False),
        ("cancel", False),
        ("timeout", False),
        ("no-answer", False),
        ("", False),
        (None, False),
    ],
)
def test_whether_somebody_answered(status: str | None, *, answered: bool) -> None:
    form = {"CallStatus": "in-progress", "DialRingStatus": "true"}

    assert WEBHOOKS.is_answered(
        request(form | ({} if status is None else {"DialStatus": status}))
    ) is (answered)


def read(kind: CallbackKind, form: dict[str, str]) -> Event:
    event = WEBHOOKS.event(kind, request(form))
    assert event is not None
    assert set(event.data) == set(EVENT_FIELDS[event.kind])
    return event


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (
            {
                "CallUUID": "call-1",
                "CallStatus": "Completed",
                "Direction": "inbound",
                "Event": "Hangup",
                "From": "14155550111",
                "To": "14155550100",
                "Duration": "42",
                "BillDuration": "60",
                "HangupCause": "NORMAL_CLEARING",
            },
            ("call-1", "completed", "inbound", "+14155550111", "+14155550100", 42),
        ),
        (
            {
                "CallUUID": "call-1",
                "CallStatus": "no-answer",
                "Direction": "OUTBOUND",
                "From": "+14155550111",
                "To": "sip:alice@example.com",
                "Duration": "-1",
            },
            ("call-1", "no-answer", "outbound", "+14155550111", "sip:alice@example.com", None),
        ),
        (
            {"CallUUID": "call-1", "CallStatus": "busy", "From": "anonymous", "Duration": "long"},
            ("call-1", "busy", None, "anonymous", None, None),
        ),
        (
            {"CallUUID": "1", "CallStatus": "busy", "Direction": "x", "Duration": "9" * 5000},
            ("1", "busy", None, None, None, None),
        ),
    ],
)
def test_a_call_that_ended(form: dict[str, str], data: tuple[object, ...]) -> None:
    event = read(CallbackKind.STATUS, form)

    assert event.kind is EventKind.CALL
    assert event.data == dict(zip(EVENT_FIELDS[EventKind.CALL], data, strict=True))


@pytest.mark.parametrize(
    ("form", "data"),
    [
        (
            {**MESSAGE, "To": "14155550100", "Type": "sms", "Text": "Grüße 🎉"},
            ("message-1", None, "inbound", "+14155550111", "+14155550100", "Grüße 🎉"),
        ),
        (
            {"MessageUUID": "message-1", "From": "262966", "Type": "mms", "Body": "look"},
            ("message-1", None, "inbound", "262966", None, "look"),
        ),
        (
            {"MessageUUID": "message-1", "Status": "Delivered", "To": "14155550111"},
            ("message-1", "delivered", "outbound", None, "+14155550111", None),
        ),
    ],
)
def test_a_message(form: dict[str, str], data: tuple[object, ...]) -> None:
    event = read(CallbackKind.SMS, form)

    assert event.kind is EventKind.SMS
    assert event.data == dict(zip(EVENT_FIELDS[EventKind.SMS], data, strict=True))


@pytest.mark.parametrize(("seconds", "expected"), [("12", 12), ("-1", None), ("", None)])
def test_a_recording(seconds: str, expected: int | None) -> None:
    form = {
        "RecordingID": "recording-1",
        "RecordUrl": "https://media.plivo.example.com/recording-1.mp3",
        "RecordingDuration": seconds,
        "RecordingDurationMs": f"{seconds}000",
        "CallUUID": "call-1",
    }
    event = read(CallbackKind.RECORDING, form)

    assert event.kind is EventKind.RECORDING
    assert event.data == {
        "recording_id": "recording-1",
        "call_id": "call-1",
        "status": None,
        "url": form["RecordUrl"],
        "duration_seconds": expected,
    }


REPORTS: list[tuple[CallbackKind, dict[str, str]]] = [
    (CallbackKind.STATUS, {"CallUUID": "1", "CallStatus": "ringing"}),
    (CallbackKind.STATUS, {"CallUUID": "1", "CallStatus": "completed"}),
    (CallbackKind.STATUS, {"CallUUID": "2", "CallStatus": "completed"}),
    (CallbackKind.SMS, {"MessageUUID": "1"}),
    (CallbackKind.SMS, {"MessageUUID": "1", "Status": "sent"}),
    (CallbackKind.SMS, {"MessageUUID": "1", "Status": "delivered"}),
    (CallbackKind.SMS, {"MessageUUID": "2"}),
    (CallbackKind.RECORDING, {"RecordingID": "1"}),
    (CallbackKind.RECORDING, {"RecordingID": "2"}),
]


def test_a_report_has_one_key_and_no_two_share_it() -> None:
    keys = {(kind, read(kind, form).key) for kind, form in REPORTS}

    assert len(keys) == len(REPORTS)
    # What may differ between two deliveries of one report does not count.
    assert keys == {(kind, read(kind, {**form, "Attempt": "2"}).key) for kind, form in REPORTS}


@pytest.mark.parametrize(
    ("kind", "form", "missing"),
    [
        (CallbackKind.STATUS, {"CallStatus": "completed"}, "CallUUID"),
        (CallbackKind.STATUS, {"CallUUID": "planted", "CallStatus": ""}, "CallStatus"),
        (CallbackKind.SMS, {"Text": "planted"}, "MessageUUID"),
        (CallbackKind.RECORDING, {"RecordUrl": "https://planted.example.com"}, "RecordingID"),
        (CallbackKind.RECORDING, {}, "RecordingID"),
    ],
)
def test_what_cannot_be_told_apart_is_refused(
    kind: CallbackKind, form: dict[str, str], missing: str
) -> None:
    with pytest.raises(InvalidRequest, match=missing) as caught:
        WEBHOOKS.event(kind, request(form))
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("kind", [CallbackKind.VOICE, CallbackKind.DIALED])
def test_what_asks_reports_nothing(kind: CallbackKind) -> None:
    assert WEBHOOKS.event(kind, request({"CallUUID": "1", "CallStatus": "ringing"})) is None


# --- answers ----------------------------------------------------------------------------------

DIAL = Dial(
    address="+14155550100@project.sip.example.com",
    transport="tcp",
    login=None,
    ring_seconds=20,
    then=f"{DIALED}?a=1&b=2",
)


def xml(answer: Answer) -> tuple[str, Element]:
    kind, body = WEBHOOKS.render(answer)
    return kind, fromstring(body)  # noqa: S314 -- our own


@pytest.mark.parametrize("login", [None, LOGIN])
def test_dial(login: SipLogin | None) -> None:
    kind, root = xml(dataclasses.replace(DIAL, login=login))
    (dial,) = root
    (user,) = dial

    assert (kind, root.tag, dial.tag, user.tag) == ("application/xml", "Response", "Dial", "User")
    assert dial.attrib == {"action": DIAL.then, "method": "POST", "timeout": "20"}
    assert user.text == "sip:+14155550100@project.sip.example.com;transport=tcp"
    assert user.attrib == (
        {}
        if login is None
        else {"sipAuthUsername": LOGIN.username, "sipAuthPassword": LOGIN.password}
    )


def test_forward() -> None:
    _, root = xml(Forward(url="https://old.example.com/?a=1&b=<2>", method="GET"))
    (redirect,) = root

    assert (redirect.tag, redirect.attrib) == ("Redirect", {"method": "GET"})
    assert redirect.text == "https://old.example.com/?a=1&b=<2>"


def test_voicemail_asks_nothing_again() -> None:
    _, root = xml(Voicemail(message="Leave <a> message & go.", recording=RECORDING))
    speak, record, hangup = root

    assert [speak.tag, record.tag, hangup.tag] == ["Speak", "Record", "Hangup"]
    assert speak.text == "Leave <a> message & go."
    assert (record.get("callbackUrl"), record.get("callbackMethod")) == (RECORDING, "POST")
    assert record.get("redirect") == "false"
    assert record.get("action") is None
    assert int(record.get("maxLength", "0")) > 60


@pytest.mark.parametrize("message", ["", " \n", "\x00"])
def test_no_message_is_no_empty_element(message: str) -> None:
    _, root = xml(Voicemail(message=message, recording=RECORDING))

    assert [child.tag for child in root] == ["Record", "Hangup"]


def test_the_short_ones() -> None:
    assert [child.tag for child in xml(HangUp())[1]] == ["Hangup"]
    kind, body = WEBHOOKS.render(Acknowledge())
    assert kind == "application/xml"
    assert body.endswith(b"<Response />")


@given(text=ANY, url=ANY)
def test_whatever_is_said_is_well_formed_and_escaped(text: str, url: str) -> None:
    for answer in (
        dataclasses.replace(DIAL, address=text, then=url),
        Forward(url=url, method="POST"),
        Voicemail(message=text, recording=url),
    ):
        _, root = xml(answer)
        assert {child.tag for child in root.iter()} <= {
            *("Response", "Dial", "User", "Redirect", "Speak", "Record", "Hangup")
        }
    printable = "".join(char for char in url if char.isprintable() and char.isascii())
    (redirect,) = xml(Forward(url=printable, method="POST"))[1]
    assert (redirect.text or "") == printable
    assert xml(dataclasses.replace(DIAL, then=printable))[1][0].get("action") == printable
