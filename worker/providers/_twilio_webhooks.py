"""Twilio's webhook requests: signed with the account's auth token, answered in TwiML.

- Signatures: https://www.twilio.com/docs/usage/webhooks/webhooks-security
- Requests: https://www.twilio.com/docs/voice/twiml#request-parameters
- TwiML: https://www.twilio.com/docs/voice/twiml
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from hmac import compare_digest
from types import MappingProxyType
from typing import Final
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.etree.ElementTree import Element, SubElement, tostring

from twilio.request_validator import (
    HMAC_SHA1,
    HMAC_SHA256,
    SIGNATURE_HEADER,
    SIGNATURE_SETTINGS_HEADER,
    RequestValidator,
    get_signature_algorithm,
)

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
from worker.providers._twilio_credentials import TwilioCredentials

_XML: Final = "text/xml"
_FORM: Final = "application/x-www-form-urlencoded"
_SIGNATURE: Final = SIGNATURE_HEADER.lower()
_SETTINGS: Final = SIGNATURE_SETTINGS_HEADER.lower()
#: What XML 1.0 cannot carry, not even escaped: https://www.w3.org/TR/xml/#charsets
_UNSPEAKABLE: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: Of a call that had begun: https://www.twilio.com/docs/voice/twiml/dial#dialcallstatus-values
_ANSWERED: Final = ("completed", "answered")
#: Directions of https://www.twilio.com/docs/voice/api/call-resource: a trunk originates what comes
#: from the telephone network, and terminates what goes to it.
_DIRECTIONS: Final = MappingProxyType(
    {
        "inbound": "inbound",
        "trunking-originating": "inbound",
        "outbound-api": "outbound",
        "outbound-dial": "outbound",
        "trunking-terminating": "outbound",
    }
)
#: Twilio would record for an hour: https://www.twilio.com/docs/voice/twiml/record#maxlength
_VOICEMAIL_SECONDS: Final = 300
#: Longer than any short code; Twilio writes a plus, but not every carrier that hands calls over.
_BARE_NUMBER: Final = re.compile(r"[1-9][0-9]{8,14}")


class TwilioWebhooks:
    """What Twilio asks and tells us, and what it understands."""

    def verify(self, credentials: Credentials, request: CallbackRequest) -> bool:
        """Whether the account's own auth token signed URL and form, or URL and body's hash."""
        token = _token(credentials)
        try:
            return token is not None and _is_signed(token, request)
        except (ValueError, TypeError):
            # No URL that can be taken apart, or a form of more fields than any vendor sends.
            return False

    def sign(self, credentials: Credentials, request: CallbackRequest) -> Mapping[str, str] | None:
        """Signs as Twilio does; None without the account's own auth token."""
        token = _token(credentials)
        if token is None:
            return None
        signature = RequestValidator(token).compute_signature(request.url, _Form(request.form))
        return {_SIGNATURE: signature}

    def numbers(self, request: CallbackRequest) -> frozenset[str] | None:
        """Reads From and To; a message does not tell its direction.

        Raises:
            InvalidRequest: more fields than any vendor sends.
        """
        fields = _fields(request)
        return concerned(
            _DIRECTIONS.get(fields.get("Direction", "").lower()),
            senders=(fields.get("From"),),
            receivers=(fields.get("To"),),
        )

    def call(self, sender: str, number: str) -> tuple[str, bytes]:
        """Returns the form of an inbound call that rings."""
        nobody = "0" * 32
        fields = {
            "AccountSid": f"AC{nobody}",
            "ApiVersion": "2010-04-01",
            "CallSid": f"CA{nobody}",
            "CallStatus": "ringing",
            "Called": number,
            "Caller": sender,
            "Direction": "inbound",
            "From": sender,
            "To": number,
        }
        return _FORM, urlencode(fields).encode()

    def is_answered(self, request: CallbackRequest) -> bool:
        """Whether the dialled call was connected before it ended."""
        return dict(request.form).get("DialCallStatus", "").lower() in _ANSWERED

    def event(self, kind: CallbackKind, request: CallbackRequest) -> Event | None:
        """Reads a report; None for the questions, and for what <Record> asks when it has ended.

        Raises:
            InvalidRequest: no id, or no state.
        """
        read = _EVENTS.get(kind)
        if read is None:
            return None
        return read(_fields(request))

    def render(self, answer: Answer) -> tuple[str, bytes]:
        """Returns TwiML."""
        response = Element("Response")
        match answer:
            case Dial():
                _dial(response, answer)
            case Forward():
                _add(response, "Redirect", answer.url, method=answer.method)
            case Voicemail():
                _voicemail(response, answer)
            case HangUp():
                _add(response, "Hangup")
            case Acknowledge():
                pass
        return _XML, tostring(response, encoding="UTF-8", xml_declaration=True)


class _Form:
    """A form as the SDK's validator takes one whose names may come more than once."""

    def __init__(self, pairs: Iterable[tuple[str, str]]) -> None:
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def getall(self, name: str) -> list[str]:
        """Returns all values of a name."""
        return self._values[name]


def _token(credentials: Credentials) -> str | None:
    """Returns what this account's webhooks are signed with, if we have it."""
    if not isinstance(credentials, TwilioCredentials) or not credentials.can_verify_webhooks:
        return None
    assert credentials.auth_token is not None
    return credentials.auth_token.get_secret_value()


def _is_signed(token: str, request: CallbackRequest) -> bool:
    signature = request.headers.get(_SIGNATURE, "")
    algorithm = get_signature_algorithm(request.headers.get(_SETTINGS))
    # The SDK would log an algorithm that it does not know: the caller's words.
    if not signature or algorithm.upper() not in (HMAC_SHA1, HMAC_SHA256):
        return False
    form = _Form(request.form)
    # A signature covers URL and form. Any other body is covered by its hash in the URL only.
    hashes = parse_qs(urlsplit(request.url).query).get("bodySHA256")
    if hashes is None and request.body and not form:
        return False
    if hashes is not None and not _is_hash_of(request.body, hashes[0]):
        return False
    return bool(RequestValidator(token).validate(request.url, form, signature, algorithm))


def _is_hash_of(body: bytes, text: str) -> bool:
    return compare_digest(sha256(body).hexdigest().encode(), text.lower().encode())


# --- reports ----------------------------------------------------------------------------------


def _call_event(fields: Mapping[str, str]) -> Event:
    """https://www.twilio.com/docs/voice/api/call-resource#statuscallback."""
    call = _told(fields, "CallSid")
    status = _told(fields, "CallStatus")
    # One state may be reported twice, such as by two subscriptions: the reports are numbered.
    key = ":".join(filter(None, (call, status, fields.get("SequenceNumber"))))
    return Event(
        kind=EventKind.CALL,
        key=key,
        data={
            "call_id": call,
            "status": status,
            "direction": _DIRECTIONS.get(fields.get("Direction", "").lower()),
            "from": _party(fields.get("From")),
            "to": _party(fields.get("To")),
            "duration_seconds": _seconds(fields.get("CallDuration")),
        },
    )


def _sms_event(fields: Mapping[str, str]) -> Event:
    """https://www.twilio.com/docs/messaging/guides/webhook-request; says no direction."""
    message = _told(fields, "MessageSid", "SmsSid")
    status = _told(fields, "MessageStatus", "SmsStatus")
    return Event(
        kind=EventKind.SMS,
        key=f"{message}:{status}",
        data={
            "message_id": message,
            "status": status,
            "direction": "inbound" if status in ("receiving", "received") else "outbound",
            "from": _party(fields.get("From")),
            "to": _party(fields.get("To")),
            "text": fields.get("Body"),
        },
    )


def _recording_event(fields: Mapping[str, str]) -> Event | None:
    """https://www.twilio.com/docs/voice/twiml/record#recordingstatuscallback."""
    if "RecordingStatus" not in fields and "CallStatus" in fields:
        return None  # <Record> has ended and asks what comes next
    recording = _told(fields, "RecordingSid")
    status = _told(fields, "RecordingStatus")
    return Event(
        kind=EventKind.RECORDING,
        key=f"{recording}:{status}",
        data={
            "recording_id": recording,
            "call_id": fields.get("CallSid") or None,
            "status": status,
            "url": fields.get("RecordingUrl") or None,
            "duration_seconds": _seconds(fields.get("RecordingDuration")),
        },
    )


_EVENTS: Final = MappingProxyType[CallbackKind, Callable[[Mapping[str, str]], Event | None]](
    {
        CallbackKind.STATUS: _call_event,
        CallbackKind.SMS: _sms_event,
        CallbackKind.RECORDING: _recording_event,
    }
)


def _fields(request: CallbackRequest) -> Mapping[str, str]:
    try:
        return dict(request.form)
    except ValueError:
        raise InvalidRequest("The report has too many fields.") from None


def _told(fields: Mapping[str, str], *names: str) -> str:
    value = next((fields[name] for name in names if fields.get(name)), "")
    if not value:
        raise InvalidRequest(f"The report lacks {' and '.join(names)}.")
    # Ids are of mixed case, states are not.
    return value if names[0].endswith("Sid") else value.lower()


def _party(text: str | None) -> str | None:
    """A number, or what else calls and writes: a SIP address, a client, a short code, a name."""
    if not text:
        return None
    return f"+{text}" if _BARE_NUMBER.fullmatch(text) else text


def _seconds(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else None


# --- TwiML ------------------------------------------------------------------------------------


def _dial(response: Element, answer: Dial) -> None:
    """https://www.twilio.com/docs/voice/twiml/sip; the caller hears it ring until then."""
    dial = _add(
        response,
        "Dial",
        action=answer.then,
        method="POST",
        timeout=str(answer.ring_seconds),
        answerOnBridge="true",
    )
    login = answer.login
    given = {} if login is None else {"username": login.username, "password": login.password}
    _add(dial, "Sip", f"sip:{answer.address};transport={answer.transport}", **given)


def _voicemail(response: Element, answer: Voicemail) -> None:
    """https://www.twilio.com/docs/voice/twiml/record; ends in any case, and never starts over.

    Without an action Twilio would request the present document again when the caller has spoken,
    and speak the message once more, without end. So it asks where the recording is reported to,
    whose empty answer ends the call. After an empty recording it asks nobody and goes on here.
    """
    _add(response, "Say", answer.message)
    _add(
        response,
        "Record",
        action=answer.recording,
        method="POST",
        maxLength=str(_VOICEMAIL_SECONDS),
        recordingStatusCallback=answer.recording,
        recordingStatusCallbackMethod="POST",
    )
    _add(response, "Hangup")


def _add(parent: Element, verb: str, text: str = "", **attributes: str) -> Element:
    speakable = {name: _speakable(value) for name, value in attributes.items()}
    element = SubElement(parent, verb, speakable)
    element.text = _speakable(text) or None
    return element


def _speakable(text: str) -> str:
    return _UNSPEAKABLE.sub("\ufffd", text)
