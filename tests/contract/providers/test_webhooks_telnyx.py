"""Telnyx's webhook requests: who signed them, what they say and how they are answered.

Telnyx publishes no signature with its key: the tests of its SDKs make a key each time and sign
``timestamp + b"|" + payload`` (telnyx-python, tests/test_webhook.py; telnyx-node,
test/Webhook.spec.js), as is done here with their payload.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping
from urllib.parse import urlencode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, reject
from hypothesis import strategies as st
from pydantic import ValidationError

from worker.domain.calls import (
    EVENT_FIELDS,
    CallbackKind,
    CallbackRequest,
    Event,
)
from worker.domain.errors import InvalidRequest
from worker.providers._telnyx_credentials import TelnyxCredentials
from worker.providers._telnyx_webhooks import TelnyxWebhooks

WEBHOOKS = TelnyxWebhooks()
URL = "https://voice.example.com/callbacks/telnyx/voice/num_1"
FORM = "application/x-www-form-urlencoded"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER_KEY = Ed25519PrivateKey.from_private_bytes(bytes(32))
#: The payload of the SDKs' own tests.
PUBLISHED = b"""{
    "record_type": "event",
    "id": "0ccc7b54-4df3-4bca-a65a-3da1ecc777f0",
    "event_type": "call_initiated",
    "created_at": "2018-02-02T22:25:27.521992Z",
    "payload": {
        "to": "+13129457420",
        "start_time": "2018-02-02T22:25:27.521992Z",
        "occurred_at": "2018-02-02T22:25:27.521992Z",
        "from": "+35319605860",
        "call_control_id": "AgDIxmoRX6QMuaIj_uXRXnPAXP0QlNfXczRrZvZakpWxBlpw48KyZQ==",
        "connection_id": "7267xxxxxxxxxxxxxx",
        "call_leg_id": "428c31b6-7af4-4bcb-b7f5-5013ef9657c1",
        "call_session_id": "428c31b6-abf3-3bc1-b7f4-5013ef9657c1",
        "client_state": "aGF2ZSBhIG5pY2UgZGF5ID1d",
        "direction": "incoming",
        "state": "parked"
    }
}"""


def public(key: Ed25519PrivateKey = KEY) -> str:
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def credentials(public_key: str | None = public()) -> TelnyxCredentials:
    return TelnyxCredentials.model_validate({"api_key": "KEY-planted", "public_key": public_key})


def signed(
    body: bytes = PUBLISHED,
    *,
    url: str = URL,
    after: int = 0,
    key: Ed25519PrivateKey = KEY,
    **headers: str | None,
) -> CallbackRequest:
    timestamp = str(int(time.time()) + after)
    signature = base64.b64encode(key.sign(timestamp.encode() + b"|" + body)).decode()
    made = {
        "content-type": FORM,
        "telnyx-timestamp": timestamp,
        "telnyx-signature-ed25519": signature,
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    kept = {name: value for name, value in made.items() if value is not None}
    return CallbackRequest(method="POST", url=url, headers=kept, body=body)


def form(**fields: str) -> CallbackRequest:
    return CallbackRequest(
        method="POST", url=URL, headers={"content-type": FORM}, body=urlencode(fields).encode()
    )


def document(value: object) -> CallbackRequest:
    headers = {"content-type": "application/json"}
    return CallbackRequest(method="POST", url=URL, headers=headers, body=json.dumps(value).encode())


# --- signatures -------------------------------------------------------------------------------


def now() -> int:
    return int(time.time())


@pytest.mark.parametrize(
    "sign",
    [
        signed,
        lambda: signed(b""),
        lambda: signed(b"CallSid=v3%3A1&From=%2B1415&From=%2B1416"),
        lambda: signed("To=Zoë&Text=日本".encode()),
        lambda: signed(b"\xff\x00\xfe"),
        # Neither scheme, host, port, path nor query is part of what Telnyx signs.
        lambda: signed(url="http://internal:8080/elsewhere?x=1&x=2"),
        lambda: signed(url="https://voice.example.com:443/callbacks/telnyx/voice/num_1"),
        lambda: signed(after=-290),
        lambda: signed(after=290),
    ],
)
def test_what_telnyx_signed_is_let_in(sign: Callable[[], CallbackRequest]) -> None:
    assert WEBHOOKS.verify(credentials(), sign())


@pytest.mark.parametrize(
    "sign",
    [
        lambda: signed(after=-310),
        lambda: signed(after=310),
        lambda: signed(key=OTHER_KEY),
        lambda: signed(telnyx_timestamp=None),
        lambda: signed(telnyx_signature_ed25519=None),
        lambda: signed(telnyx_signature_ed25519=""),
        lambda: signed(telnyx_signature_ed25519="é"),
        lambda: signed(telnyx_signature_ed25519="bad_header"),
        lambda: signed(telnyx_signature_ed25519=base64.b64encode(bytes(64)).decode()),
        lambda: signed(telnyx_signature_ed25519=base64.b64encode(bytes(63)).decode()),
        lambda: signed(telnyx_timestamp=str(now() - 60)),
        lambda: signed(telnyx_timestamp=f"{now()}.0"),
        lambda: signed(telnyx_timestamp=f"-{now()}"),
        lambda: signed(telnyx_timestamp="²"),
        lambda: signed(telnyx_timestamp="9" * 5000),
        lambda: signed(telnyx_timestamp=""),
    ],
)
def test_anything_else_is_not(sign: Callable[[], CallbackRequest]) -> None:
    assert not WEBHOOKS.verify(credentials(), sign())


def test_another_body_is_not() -> None:
    request = signed(b"CallSid=1&From=%2B1415")

    for body in (b"CallSid=1&From=%2B1416", b"From=%2B1415&CallSid=1", b"CallSid=1&From=%2B1415\n"):
        changed = CallbackRequest(method="POST", url=URL, headers=request.headers, body=body)
        assert not WEBHOOKS.verify(credentials(), changed)


def test_a_signature_is_of_one_account() -> None:
    other = credentials(public(OTHER_KEY))

    assert not WEBHOOKS.verify(other, signed())
    assert WEBHOOKS.verify(other, signed(key=OTHER_KEY))


def test_without_the_public_key_nothing_is_let_in() -> None:
    assert not WEBHOOKS.verify(credentials(None), signed())


@given(
    timestamp=st.one_of(st.text(), st.builds(lambda: str(now()))),
    signature=st.one_of(st.text(), st.binary(max_size=70).map(base64.b64encode).map(bytes.decode)),
    body=st.binary(),
)
def test_garbage_is_refused_without_raising(timestamp: str, signature: str, body: bytes) -> None:
    headers = {"telnyx-timestamp": timestamp, "telnyx-signature-ed25519": signature}
    request = CallbackRequest(method="POST", url=URL, headers=headers, body=body)

    assert not WEBHOOKS.verify(credentials(), request)


@given(st.binary(min_size=32, max_size=32))
def test_a_key_that_is_none_verifies_nothing(key: bytes) -> None:
    try:
        theirs = credentials(base64.b64encode(key).decode())
    except ValidationError:
        reject()  # anybody can sign for it, and so it is refused

    assert not WEBHOOKS.verify(theirs, signed())


def test_only_telnyx_can_sign() -> None:
    kind, body = WEBHOOKS.call("+14155550101", "+14155550100")
    request = CallbackRequest(method="POST", url=URL, headers={"content-type": kind}, body=body)

    assert WEBHOOKS.sign(credentials(), request) is None
    fields = dict(request.form)
    assert (fields["From"], fields["To"]) == ("+14155550101", "+14155550100")
    assert fields["CallSid"]


# --- what they say ----------------------------------------------------------------------------

#: https://developers.telnyx.com/api-reference/callbacks/texml-call-completed
COMPLETED = {
    "AccountSid": "f5586561-8ff0-4291-a51b-c7dfe4139ff9",
    "CallSid": "v3:9X2vxPDFY2RHSJ1EdMS0RHRksMTg7ldNxdjWbVr9zBjbGjGsSe-aiQ",
    "CallStatus": "completed",
    "CallbackSource": "call-progress-events",
    "ConnectionId": "1234567890",
    "From": "+35319605860",
    "SequenceNumber": "3",
    "Timestamp": "2024-01-15T10:30:00Z",
    "To": "+13129457420",
    "CallDuration": "45",
}
#: https://developers.telnyx.com/api-reference/callbacks/texml-recording-completed
RECORDED = {
    "AccountSid": "cb6cfbbc-eb00-41af-a3f3-0d7b32009e4b",
    "CallSid": "v2:qiaymU9Ij90xJRRkYGWHOIx_41EVJPrzlny2zC67hwL1wVIUnnMrqQ",
    "ConnectionId": "1234567890",
    "RecordingChannels": "1",
    "RecordingDuration": "5",
    "RecordingSid": "35094891-3290-4142-b2c2-b2eda57534cf",
    "RecordingSource": "DialVerb",
    "RecordingStatus": "completed",
    "RecordingUrl": "https://recording.com/your-recording-url",
}


SENDER = {"carrier": "T-Mobile", "phone_number": "+13125550001"}


def message(
    event_type: str = "message.received",
    *,
    attempt: int = 1,
    event: str = "b301ed3f-1490-491f-995f-6e64e69674d4",
    sender: object = SENDER,
    **payload: object,
) -> CallbackRequest:
    """As in the SDK's MessagingInboundMessage and OutboundMessage."""
    return document(
        {
            "data": {
                "event_type": event_type,
                "id": event,
                "occurred_at": "2024-01-15T20:16:07.588+00:00",
                "payload": {
                    "direction": "inbound",
                    "from": sender,
                    "id": "84cca175-9755-4859-b67f-4730d7f58aa3",
                    "text": "Hällo",
                    "to": [{"phone_number": "+17735550002", "status": "webhook_delivered"}],
                    "type": "SMS",
                    **payload,
                },
                "record_type": "event",
            },
            "meta": {"attempt": attempt, "delivered_to": URL},
        }
    )


def read(kind: CallbackKind, request: CallbackRequest) -> Event:
    event = WEBHOOKS.event(kind, request)
    assert event is not None
    assert event.data.keys() == set(EVENT_FIELDS[event.kind])
    return event


def test_a_call_that_ended_is_told() -> None:
    assert read(CallbackKind.STATUS, form(**COMPLETED)).data == {
        "call_id": COMPLETED["CallSid"],
        "status": "completed",
        "direction": None,
        "from": "+35319605860",
        "to": "+13129457420",
        "duration_seconds": 45,
    }


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"CallStatus": "In-Progress"}, {"status": "in-progress"}),
        ({"From": "35319605860"}, {"from": "+35319605860"}),
        ({"From": "12345"}, {"from": "12345"}),
        ({"From": "sip:1000@example.com"}, {"from": "sip:1000@example.com"}),
        ({"From": "anonymous"}, {"from": "anonymous"}),
        ({"From": ""}, {"from": None}),
        ({"From": "٣٥٣١٩٦٠٥٨٦٠"}, {"from": "٣٥٣١٩٦٠٥٨٦٠"}),
        ({"CallDuration": "1.5"}, {"duration_seconds": None}),
        ({"CallDuration": "-1"}, {"duration_seconds": None}),
        ({"CallDuration": "9" * 5000}, {"duration_seconds": None}),
        ({"Direction": "inbound"}, {"direction": "inbound"}),
        ({"Direction": "incoming"}, {"direction": "inbound"}),
        ({"Direction": "outbound-api"}, {"direction": "outbound"}),
        ({"Direction": "sideways"}, {"direction": None}),
    ],
)
def test_calls_are_told_in_one_way(fields: dict[str, str], told: Mapping[str, object]) -> None:
    event = read(CallbackKind.STATUS, form(**COMPLETED | fields))

    assert told.items() <= event.data.items()


def test_a_recording_is_told() -> None:
    event = read(CallbackKind.RECORDING, form(**RECORDED))

    assert event.data == {
        "recording_id": RECORDED["RecordingSid"],
        "call_id": RECORDED["CallSid"],
        "status": "completed",
        "url": "https://recording.com/your-recording-url",
        "duration_seconds": 5,
    }


@pytest.mark.parametrize(
    ("request_", "told"),
    [
        (message(), {"status": "received", "direction": "inbound", "text": "Hällo"}),
        (message(), {"from": "+13125550001", "to": "+17735550002"}),
        (message(), {"message_id": "84cca175-9755-4859-b67f-4730d7f58aa3"}),
        (message(direction=None), {"direction": "inbound"}),
        (message("message.sent", direction=None), {"direction": "outbound"}),
        (message(text=None), {"text": None}),
        (message(to=[]), {"to": None}),
        (message(to=None), {"to": None}),
        (message(sender=None), {"from": None}),
        (message(sender={"phone_number": "ACME"}), {"from": "ACME"}),
        (message(to=[{"phone_number": "12345"}]), {"to": "12345"}),
        (
            message(
                "message.finalized",
                direction="outbound",
                to=[{"phone_number": "+13125550001", "status": "Delivered"}],
            ),
            {"status": "delivered", "direction": "outbound", "to": "+13125550001"},
        ),
    ],
)
def test_a_message_is_told(request_: CallbackRequest, told: Mapping[str, object]) -> None:
    assert told.items() <= read(CallbackKind.SMS, request_).data.items()


def test_the_same_report_has_the_same_key_and_no_other_has_it() -> None:
    status, recording, sms = CallbackKind.STATUS, CallbackKind.RECORDING, CallbackKind.SMS
    reports = [
        (status, form(**COMPLETED)),
        (status, form(**COMPLETED | {"CallStatus": "ringing", "SequenceNumber": "1"})),
        (status, form(**COMPLETED | {"CallStatus": "ringing", "SequenceNumber": "2"})),
        (status, form(**COMPLETED | {"CallSid": "v3:other"})),
        (recording, form(**RECORDED)),
        (recording, form(**RECORDED | {"RecordingStatus": "in-progress"})),
        (recording, form(**RECORDED | {"RecordingSid": "other"})),
        (sms, message()),
        (sms, message("message.sent", event="b301ed3f-1490-491f-995f-6e64e69674d5")),
    ]

    keys = [read(kind, request).key for kind, request in reports]

    assert len(set(keys)) == len(keys)
    assert keys == [read(kind, request).key for kind, request in reports]
    # Delivered again, it says so outside the report.
    assert read(sms, message(attempt=2)).key == read(sms, message()).key
    later = form(**COMPLETED | {"Timestamp": "2024-01-15T10:31:00Z"})
    assert read(status, later).key == keys[0]


@pytest.mark.parametrize(
    ("kind", "request_"),
    [
        (CallbackKind.STATUS, form()),
        (CallbackKind.STATUS, form(CallSid="1")),
        (CallbackKind.STATUS, form(CallStatus="completed")),
        (CallbackKind.STATUS, form(**COMPLETED | {"CallSid": ""})),
        (CallbackKind.STATUS, document(COMPLETED)),
        (CallbackKind.STATUS, form(**{f"field{number}": "x" for number in range(501)})),
        (CallbackKind.RECORDING, form(**COMPLETED)),
        (CallbackKind.RECORDING, form(RecordingSid="1")),
        (CallbackKind.SMS, form(**COMPLETED)),
        (CallbackKind.SMS, document(None)),
        (CallbackKind.SMS, document([])),
        (CallbackKind.SMS, document({"data": []})),
        (CallbackKind.SMS, document({"data": {"event_type": "message.received"}})),
        (CallbackKind.SMS, document({"data": {"event_type": 7, "id": "1"}})),
        (CallbackKind.SMS, document({"data": {"event_type": "message.sent", "id": "1"}})),
        (CallbackKind.SMS, message(event="")),
        (CallbackKind.SMS, message(id=None)),
    ],
)
def test_what_lacks_what_tells_it_apart_is_refused(
    kind: CallbackKind, request_: CallbackRequest
) -> None:
    with pytest.raises(InvalidRequest):
        WEBHOOKS.event(kind, request_)


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[" * 100_000, b"1" * 5000])
def test_what_is_no_json_is_refused(body: bytes) -> None:
    request = CallbackRequest(method="POST", url=URL, headers={}, body=body)

    with pytest.raises(InvalidRequest):
        WEBHOOKS.event(CallbackKind.SMS, request)


def test_what_nobody_keeps_is_nothing() -> None:
    assert WEBHOOKS.event(CallbackKind.SMS, message("message.read")) is None
    assert WEBHOOKS.event(CallbackKind.SMS, message("10dlc.campaign.update")) is None
    for kind in (CallbackKind.VOICE, CallbackKind.DIALED):
        assert WEBHOOKS.event(kind, form(**COMPLETED)) is None


@pytest.mark.parametrize(
    ("fields", "answered"),
    [
        ({"DialCallStatus": "completed", "DialCallDuration": "120"}, True),
        ({"DialCallStatus": "answered"}, True),
        ({"DialCallStatus": "no-answer"}, False),
        ({"DialCallStatus": "busy"}, False),
        ({"DialCallStatus": "failed"}, False),
        ({"DialCallStatus": "canceled"}, False),
        # The caller's own call is not the dialled one.
        ({"CallStatus": "completed"}, False),
        ({}, False),
        ({f"field{number}": "x" for number in range(501)}, False),
    ],
)
def test_whether_the_dialled_call_was_answered(fields: dict[str, str], *, answered: bool) -> None:
    assert WEBHOOKS.is_answered(form(**fields)) is answered
