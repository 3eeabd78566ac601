"""Telnyx's webhooks: TeXML's forms, the JSON of messages, their signatures, and TeXML answers.

- Signatures: https://developers.telnyx.com/development/api-fundamentals/webhooks/receiving-webhooks
- TeXML: https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs
- Calls: https://developers.telnyx.com/api-reference/callbacks/texml-call-completed
- Recordings: https://developers.telnyx.com/api-reference/callbacks/texml-recording-completed
- Messages: https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlencode
from xml.etree.ElementTree import Element, SubElement, tostring

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from worker.domain.calls import (
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
from worker.providers._core import Credentials, concerned
from worker.providers._telnyx_credentials import TelnyxCredentials

#: How far Telnyx's clock and ours may be apart, both ways: what the SDK's own check allows.
_WINDOW_SECONDS: Final = 300
_TIMESTAMP: Final = re.compile(r"[0-9]{1,12}")
#: What a dialled call that was answered ends with; "busy", "no-answer", "canceled" and "failed"
#: are the others.
_ANSWERED: Final = frozenset({"completed", "answered"})
_MESSAGES: Final = frozenset({"message.received", "message.sent", "message.finalized"})
#: Shorter ones are short codes, which are no E.164.
_DIGITS: Final = re.compile(r"[0-9]{7,15}")
#: What XML 1.0 cannot hold, however it is escaped: https://www.w3.org/TR/xml/#charsets
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_XML: Final = "application/xml"
#: Seconds that <Dial timeout> may be.
_RING_SECONDS: Final = (5, 120)
#: Seconds of a voicemail; TeXML's own limit is an hour.
_MESSAGE_SECONDS: Final = 300


class TelnyxWebhooks:
    """Telnyx's webhook requests; see ``Webhooks``."""

    def verify(self, credentials: Credentials, request: CallbackRequest) -> bool:
        """Checks the Ed25519 signature of timestamp and body, which leaves the URL out."""
        assert isinstance(credentials, TelnyxCredentials)
        timestamp = request.headers.get("telnyx-timestamp", "")
        if credentials.public_key is None or _TIMESTAMP.fullmatch(timestamp) is None:
            return False
        if abs(time.time() - int(timestamp)) > _WINDOW_SECONDS:
            return False
        try:
            # The parameter that refuses other characters makes one signature have one spelling.
            signature = base64.b64decode(
                request.headers.get("telnyx-signature-ed25519", ""), validate=True
            )
            key = Ed25519PublicKey.from_public_bytes(base64.b64decode(credentials.public_key))
            key.verify(signature, timestamp.encode() + b"|" + request.body)
        except (ValueError, InvalidSignature):
            return False
        return True

    def sign(self, credentials: Credentials, request: CallbackRequest) -> Mapping[str, str] | None:
        """Returns None: only Telnyx has the private key."""
        del credentials, request
        return None

    def numbers(self, request: CallbackRequest) -> frozenset[str] | None:
        """Reads the parties of a call from its form, those of a message from its JSON.

        The signature leaves the URL out: this is what ties a request to the number it came for.

        Raises:
            InvalidRequest: more fields than Telnyx sends.
        """
        form = _form(request)
        if form:
            direction = _direction(form.get("Direction"))
            return concerned(direction, senders=(form.get("From"),), receivers=(form.get("To"),))
        try:
            payload = _object(_data(request).get("payload"))
        except InvalidRequest:
            return None
        return concerned(
            _direction(payload.get("direction")),
            senders=(_object(payload.get("from")).get("phone_number"),),
            # A message to a group names the others as well.
            receivers=[
                _object(one).get("phone_number")
                for name in ("to", "cc")
                for one in _list(payload.get(name))
            ],
        )

    def call(self, sender: str, number: str) -> tuple[str, bytes]:
        """Returns the form of a call that comes in, in the fields that all TeXML requests have."""
        call = "v3:trunkline-self-test"
        form = {
            "AccountSid": "00000000-0000-4000-8000-000000000000",
            "CallSid": call,
            "CallSidLegacy": call,
            "CallStatus": "ringing",
            "ConnectionId": "1",
            "From": sender,
            "To": number,
        }
        return "application/x-www-form-urlencoded", urlencode(form).encode()

    def is_answered(self, request: CallbackRequest) -> bool:
        """Reads DialCallStatus, as the request for <Dial action> has it."""
        try:
            return _form(request).get("DialCallStatus", "").lower() in _ANSWERED
        except InvalidRequest:
            return False

    def event(self, kind: CallbackKind, request: CallbackRequest) -> Event | None:
        """Reads calls and recordings from forms, messages from JSON."""
        match kind:
            case CallbackKind.STATUS:
                return _call(_form(request))
            case CallbackKind.RECORDING:
                return _recording(_form(request))
            case CallbackKind.SMS:
                return _message(request)
            case CallbackKind.VOICE | CallbackKind.DIALED:
                return None

    def render(self, answer: Answer) -> tuple[str, bytes]:
        """Returns TeXML, which is not quite TwiML: see each element."""
        response = Element("Response")
        match answer:
            case Dial():
                _dial(response, answer)
            case Forward():
                _add(response, "Redirect", answer.url, method=answer.method)
            case Voicemail():
                _add(response, "Say", answer.message)
                # Without an action TeXML goes on with the next verb, where TwiML would ask the
                # same URL again. Nor is there a timeout: Telnyx hears silence by transcription,
                # for which it charges.
                _add(
                    response,
                    "Record",
                    maxLength=str(_MESSAGE_SECONDS),
                    playBeep="true",
                    channels="single",
                    recordingStatusCallback=answer.recording,
                    recordingStatusCallbackMethod="POST",
                )
                _add(response, "Hangup")
            case HangUp():
                _add(response, "Hangup")
            case Acknowledge():
                pass
        return _XML, tostring(response, encoding="UTF-8", xml_declaration=True)


def _dial(response: Element, answer: Dial) -> None:
    least, most = _RING_SECONDS
    dial = _add(
        response,
        "Dial",
        timeout=str(min(max(answer.ring_seconds, least), most)),
        action=answer.then,
        method="POST",
    )
    login = {}
    if answer.login is not None:
        login = {"username": answer.login.username, "password": answer.login.password}
    # The URI's transport parameter is SIP's own (RFC 3261, 19.1.1); TeXML documents no other way.
    _add(dial, "Sip", f"sip:{answer.address};transport={answer.transport}", **login)


def _add(parent: Element, name: str, text: str = "", **attributes: str) -> Element:
    found = {key: _NOT_XML.sub("", value) for key, value in attributes.items()}
    element = SubElement(parent, name, found)
    element.text = _NOT_XML.sub("", text) or None
    return element


def _call(form: Mapping[str, str]) -> Event:
    call, status = _needed(form, "CallSid"), _needed(form, "CallStatus").lower()
    # Counts the reports of a call; one that is delivered again has the same number.
    sequence = form.get("SequenceNumber", "")
    return Event(
        kind=EventKind.CALL,
        key=f"call:{call}:{status}:{sequence}",
        data={
            "call_id": call,
            "status": status,
            # Not among the documented fields of TeXML.
            "direction": _direction(form.get("Direction")),
            "from": _party(form.get("From")),
            "to": _party(form.get("To")),
            "duration_seconds": _seconds(form.get("CallDuration")),
        },
    )


def _recording(form: Mapping[str, str]) -> Event:
    recording = _needed(form, "RecordingSid")
    status = _needed(form, "RecordingStatus").lower()
    return Event(
        kind=EventKind.RECORDING,
        key=f"recording:{recording}:{status}",
        data={
            "recording_id": recording,
            "call_id": _text(form.get("CallSid")),
            "status": status,
            # Valid for ten minutes after the call: https://developers.telnyx.com/docs/voice/
            # programmable-voice/texml-verbs/record
            "url": _text(form.get("RecordingUrl")),
            "duration_seconds": _seconds(form.get("RecordingDuration")),
        },
    )


def _message(request: CallbackRequest) -> Event | None:
    data = _data(request)
    event_type = _needed(data, "event_type")
    if event_type not in _MESSAGES:
        return None
    payload = _object(data.get("payload"))
    # A message to a group has several; the others are not ours.
    receiver = _object(next(iter(_list(payload.get("to"))), None))
    received = event_type == "message.received"
    return Event(
        kind=EventKind.SMS,
        key=f"sms:{_needed(data, 'id')}",
        data={
            "message_id": _needed(payload, "id"),
            # What each receiver of a message that came in has made of it is of no use here.
            "status": "received" if received else _lower(receiver.get("status")),
            "direction": _direction(payload.get("direction"))
            or ("inbound" if received else "outbound"),
            "from": _party(_object(payload.get("from")).get("phone_number")),
            "to": _party(receiver.get("phone_number")),
            "text": _text(payload.get("text")),
        },
    )


def _form(request: CallbackRequest) -> Mapping[str, str]:
    try:
        return dict(request.form)
    except ValueError:
        raise InvalidRequest("The webhook has too many fields.") from None


def _data(request: CallbackRequest) -> Mapping[str, object]:
    try:
        document = json.loads(request.body)
    except (ValueError, RecursionError):
        raise InvalidRequest("The webhook is not JSON.") from None
    return _object(_object(document).get("data"))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _object(value: object) -> Mapping[str, object]:
    return value if isinstance(value, dict) else {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _lower(value: object) -> str | None:
    text = _text(value)
    return text.lower() if text else None


def _needed(fields: Mapping[str, object], name: str) -> str:
    text = _text(fields.get(name))
    if text is None:
        raise InvalidRequest(f"The webhook lacks {name}.")
    return text


def _direction(value: object) -> str | None:
    """Knows "incoming" as well, and whatever else follows "outbound", such as "outbound-api"."""
    text = _lower(value) or ""
    if text.startswith(("inbound", "incoming")):
        return "inbound"
    return "outbound" if text.startswith(("outbound", "outgoing")) else None


def _party(value: object) -> str | None:
    text = _text(value)
    return f"+{text}" if text and _DIGITS.fullmatch(text) else text


def _seconds(value: object) -> int | None:
    text = _text(value)
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else None
