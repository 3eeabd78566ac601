"""What Twilio's webhook requests say; which are believed is in the contract suite."""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.domain.calls import EVENT_FIELDS, CallbackKind, CallbackRequest, EventKind
from worker.domain.errors import InvalidRequest
from worker.providers._twilio_webhooks import TwilioWebhooks

WEBHOOKS = TwilioWebhooks()
pairs = st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), max_size=20)


def request(fields: Mapping[str, object] | bytes) -> CallbackRequest:
    return CallbackRequest(
        method="POST",
        url="https://voice.example.com/callbacks/status/num_1",
        headers={"content-type": "application/x-www-form-urlencoded"},
        body=fields if isinstance(fields, bytes) else urlencode(fields).encode(),
    )


@pytest.mark.parametrize(
    ("status", "answered"),
    [
        ("completed", True),
        ("answered", True),
        ("busy", False),
        ("no-answer", False),
        ("failed", False),
        ("canceled", False),
        ("", False),
        (None, False),
    ],
)
def test_a_dialled_call_was_answered_or_not(status: str | None, *, answered: bool) -> None:
    # The call itself goes on, whatever became of the dialled one.
    fields = {"CallSid": "CA1", "CallStatus": "in-progress"}
    given_ = {} if status is None else {"DialCallStatus": status}

    assert WEBHOOKS.is_answered(request(fields | given_)) is answered


# As Twilio sends it when a call to a number has ended:
# https://www.twilio.com/docs/voice/api/call-resource#statuscallback
ENDED = {
    "CallSid": "CA0001",
    "AccountSid": "AC0001",
    "From": "+14155550100",
    "To": "+14155550199",
    "CallStatus": "completed",
    "ApiVersion": "2010-04-01",
    "Direction": "inbound",
    "CallDuration": "42",
    "Duration": "1",
    "Timestamp": "Wed, 02 Sep 2026 10:00:41 +0000",
    "CallbackSource": "call-progress-events",
    "SequenceNumber": "0",
}
RECEIVED = {
    "MessageSid": "SM0001",
    "SmsSid": "SM0001",
    "SmsMessageSid": "SM0001",
    "AccountSid": "AC0001",
    "From": "+14155550100",
    "To": "+14155550199",
    "Body": "Grüße",
    "NumMedia": "0",
    "NumSegments": "1",
    "SmsStatus": "received",
    "ApiVersion": "2010-04-01",
}
SENT = {
    "MessageSid": "SM0002",
    "SmsSid": "SM0002",
    "From": "+14155550199",
    "To": "+14155550100",
    "MessageStatus": "delivered",
    "SmsStatus": "delivered",
}
RECORDED = {
    "AccountSid": "AC0001",
    "CallSid": "CA0001",
    "RecordingSid": "RE0001",
    "RecordingUrl": "https://api.twilio.com/2010-04-01/Accounts/AC0001/Recordings/RE0001",
    "RecordingStatus": "completed",
    "RecordingDuration": "7",
    "RecordingChannels": "1",
    "RecordingSource": "RecordVerb",
}


@pytest.mark.parametrize(
    ("kind", "fields", "key", "expected"),
    [
        (
            CallbackKind.STATUS,
            ENDED,
            "CA0001:completed:0",
            {
                "call_id": "CA0001",
                "status": "completed",
                "direction": "inbound",
                "from": "+14155550100",
                "to": "+14155550199",
                "duration_seconds": 42,
            },
        ),
        (
            CallbackKind.STATUS,
            {"CallSid": "CA0002", "CallStatus": "No-Answer", "From": "sip:a@b.example"},
            "CA0002:no-answer",
            {
                "call_id": "CA0002",
                "status": "no-answer",
                "direction": None,
                "from": "sip:a@b.example",
                "to": None,
                "duration_seconds": None,
            },
        ),
        (
            CallbackKind.SMS,
            RECEIVED,
            "SM0001:received",
            {
                "message_id": "SM0001",
                "status": "received",
                "direction": "inbound",
                "from": "+14155550100",
                "to": "+14155550199",
                "text": "Grüße",
            },
        ),
        (
            CallbackKind.SMS,
            SENT,
            "SM0002:delivered",
            {
                "message_id": "SM0002",
                "status": "delivered",
                "direction": "outbound",
                "from": "+14155550199",
                "to": "+14155550100",
                "text": None,
            },
        ),
        (
            CallbackKind.RECORDING,
            RECORDED,
            "RE0001:completed",
            {
                "recording_id": "RE0001",
                "call_id": "CA0001",
                "status": "completed",
                "url": RECORDED["RecordingUrl"],
                "duration_seconds": 7,
            },
        ),
    ],
)
def test_reports_are_told_in_our_words(
    kind: CallbackKind, fields: dict[str, str], key: str, expected: dict[str, object]
) -> None:
    event = WEBHOOKS.event(kind, request(fields))

    assert event is not None
    assert (event.key, event.data) == (key, expected)
    assert tuple(event.data) == EVENT_FIELDS[event.kind]
    assert WEBHOOKS.event(kind, request(dict(reversed(fields.items())))) == event


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("inbound", "inbound"),
        ("outbound-api", "outbound"),
        ("outbound-dial", "outbound"),
        ("trunking-originating", "inbound"),
        ("trunking-terminating", "outbound"),
        ("sideways", None),
    ],
)
def test_directions(direction: str, expected: str | None) -> None:
    event = WEBHOOKS.event(CallbackKind.STATUS, request(ENDED | {"Direction": direction}))

    assert event is not None
    assert event.data["direction"] == expected


@pytest.mark.parametrize(
    ("party", "expected"),
    [
        ("+14155550100", "+14155550100"),
        ("14155550100", "+14155550100"),
        ("12345", "12345"),
        ("client:alice", "client:alice"),
        ("Trunkline", "Trunkline"),
        ("whatsapp:+14155550100", "whatsapp:+14155550100"),
        ("", None),
    ],
)
def test_parties(party: str, expected: str | None) -> None:
    event = WEBHOOKS.event(CallbackKind.SMS, request(RECEIVED | {"From": party}))

    assert event is not None
    assert event.data["from"] == expected


@pytest.mark.parametrize("duration", ["", "-1", "1.5", "soon", "9" * 40, "٣"])
def test_a_duration_that_is_none(duration: str) -> None:
    event = WEBHOOKS.event(CallbackKind.STATUS, request(ENDED | {"CallDuration": duration}))

    assert event is not None
    assert event.data["duration_seconds"] is None


def test_two_reports_of_one_call_have_two_keys() -> None:
    reports = [
        ENDED | {"CallStatus": status, "SequenceNumber": str(number)}
        for number, status in enumerate(["initiated", "ringing", "in-progress", "completed"])
    ]
    reports += [ENDED | {"SequenceNumber": "4"}, ENDED | {"CallSid": "CA0002"}]

    events = [WEBHOOKS.event(CallbackKind.STATUS, request(report)) for report in reports]

    assert len({event.key for event in events if event}) == len(reports)


def test_the_end_of_a_recording_is_no_report_but_its_completion_is() -> None:
    # <Record action> asks at the same address what comes next; it sends the call's own fields.
    asked = ENDED | {"RecordingUrl": "https://api.twilio.com/r", "RecordingDuration": "7"}
    asked |= {"RecordingSid": "RE0001", "Digits": "hangup"}

    assert WEBHOOKS.event(CallbackKind.RECORDING, request(asked)) is None
    assert WEBHOOKS.event(CallbackKind.RECORDING, request(RECORDED)) is not None


@pytest.mark.parametrize("kind", [CallbackKind.VOICE, CallbackKind.DIALED])
def test_a_question_is_no_report(kind: CallbackKind) -> None:
    assert WEBHOOKS.event(kind, request(ENDED)) is None


@pytest.mark.parametrize(
    ("kind", "fields", "missing"),
    [
        (CallbackKind.STATUS, ENDED, ["CallSid"]),
        (CallbackKind.STATUS, ENDED, ["CallStatus"]),
        (CallbackKind.SMS, RECEIVED, ["MessageSid", "SmsSid"]),
        (CallbackKind.SMS, RECEIVED, ["SmsStatus"]),
        (CallbackKind.RECORDING, RECORDED, ["RecordingSid"]),
        (CallbackKind.RECORDING, RECORDED, ["RecordingStatus"]),
    ],
)
def test_a_report_that_tells_nothing_apart_is_refused(
    kind: CallbackKind, fields: dict[str, str], missing: list[str]
) -> None:
    left = {name: value for name, value in fields.items() if name not in missing}

    for report in (left, left | dict.fromkeys(missing, "")):
        with pytest.raises(InvalidRequest) as caught:
            WEBHOOKS.event(kind, request(report))
        assert "+1415" not in str(caught.value)


@given(kind=st.sampled_from(CallbackKind), body=st.binary(), pairs=pairs)
def test_a_report_of_garbage_is_read_or_refused(
    kind: CallbackKind, body: bytes, pairs: list[tuple[str, str]]
) -> None:
    encoded = urlencode([(n, v.encode(errors="replace")) for n, v in pairs], errors="replace")
    names = ["CallSid=1&CallStatus=2", "MessageSid=1&SmsStatus=2", "RecordingSid=1"]
    for sent in (body, encoded.encode(), f"{'&'.join(names)}&{encoded}".encode() + body):
        try:
            event = WEBHOOKS.event(kind, request(sent))
        except InvalidRequest:
            continue
        assert event is None or (event.key and event.kind in EventKind)
