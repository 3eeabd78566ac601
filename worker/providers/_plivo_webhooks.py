"""Plivo's requests to us: their signatures, what they say, and our answers in Plivo's XML.

- Signatures of calls: https://www.plivo.com/docs/voice/concepts/signature-validation
- Signatures of messages: https://docs.plivo.com/docs/messaging/concepts/signature-validation
- Parameters: https://www.plivo.com/docs/voice/xml/overview, …/voice/xml/routing, …/voice/xml/record
- Messages: https://docs.plivo.com/docs/messaging/api/message/handling-incoming

The SDK builds the text that is signed. Its ready-made check is left aside: it refuses hosts that
are no public names, compares in a time that tells how much was right, and cannot sign.
"""

from __future__ import annotations

import hmac
import re
import secrets
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from hashlib import sha256
from types import MappingProxyType
from typing import Final, TypeAlias
from urllib.parse import urlencode, urlsplit
from uuid import uuid4
from xml.etree.ElementTree import Element, SubElement, tostring

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
from worker.domain.errors import InvalidPhoneNumber, InvalidRequest
from worker.domain.values import E164
from worker.providers._core import Credentials, concerned
from worker.providers._plivo_credentials import PlivoCredentials

#: With the token of the account or subaccount that has the number, and with the main account's.
_V3: Final = ("x-plivo-signature-v3", "x-plivo-signature-ma-v3")
_V3_NONCE: Final = "x-plivo-signature-v3-nonce"
_V2: Final = ("x-plivo-signature-v2", "x-plivo-signature-ma-v2")
_V2_NONCE: Final = "x-plivo-signature-v2-nonce"

_FORM: Final = "application/x-www-form-urlencoded"
#: "Content-Type must be application/xml or text/xml."
_XML: Final = "application/xml"
#: XML 1.0 cannot hold these, not even escaped: https://www.w3.org/TR/xml/#charsets
_ILLEGAL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_LONGEST_VOICEMAIL_SECONDS: Final = 180  # Plivo's default is 60

_Form: TypeAlias = Mapping[str, str]


class PlivoWebhooks:
    """Plivo's webhooks, signed with the auth token."""

    def verify(self, credentials: Credentials, request: CallbackRequest) -> bool:
        """Whether the token of these credentials signed it, as V3; messages may come with V2."""
        assert isinstance(credentials, PlivoCredentials)
        token = credentials.auth_token.get_secret_value()
        try:
            return _is_signed(token, request)
        except ValueError:
            return False  # no URL, no Unicode, or more fields than Plivo sends

    def sign(self, credentials: Credentials, request: CallbackRequest) -> Mapping[str, str]:
        """Returns V3, and the main account's if it is one; the nonce is new each time."""
        assert isinstance(credentials, PlivoCredentials)
        nonce = f"{secrets.randbelow(10**20):020d}"
        token = credentials.auth_token.get_secret_value()
        names = _V3 if credentials.auth_id.startswith("MA") else _V3[:1]
        return {_V3_NONCE: nonce, **dict.fromkeys(names, _v3(token, request, nonce))}

    def numbers(self, request: CallbackRequest) -> frozenset[str] | None:
        """Reads From and To; a message does not tell its direction.

        Raises:
            InvalidRequest: more fields than Plivo sends.
        """
        try:
            form = dict(request.form)
        except ValueError:
            raise InvalidRequest("The webhook has too many fields.") from None
        direction = _direction(form.get("Direction"))
        return concerned(direction, senders=(form.get("From"),), receivers=(form.get("To"),))

    def call(self, sender: str, number: str) -> tuple[str, bytes]:
        """Returns a request of the answer URL for an inbound call that rings."""
        form = {
            "BillRate": "0.0085",
            "CallStatus": "ringing",
            "CallUUID": str(uuid4()),
            "CallerName": sender,
            "Direction": "inbound",
            "Event": "StartApp",
            "From": sender.removeprefix("+"),
            "SessionStart": datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S.%f"),
            "To": number.removeprefix("+"),
        }
        return _FORM, urlencode(form).encode()

    def is_answered(self, request: CallbackRequest) -> bool:
        """Whether the dial is "completed", and not busy, failed, cancel, timeout or no-answer."""
        return dict(request.form).get("DialStatus", "").lower() == "completed"

    def event(self, kind: CallbackKind, request: CallbackRequest) -> Event | None:
        """Reads a call that ended, a message, or a recording that is ready."""
        read = _READERS.get(kind)
        return None if read is None else read(dict(request.form))

    def render(self, answer: Answer) -> tuple[str, bytes]:
        """Returns Plivo XML; an empty response ends a call, and acknowledges a report."""
        response = Element("Response")
        match answer:
            case Dial():
                _dial(response, answer)
            case Forward():
                redirect = SubElement(response, "Redirect", method=answer.method)
                redirect.text = _legal(answer.url)
            case Voicemail():
                _voicemail(response, answer)
            case HangUp():
                SubElement(response, "Hangup")
            case Acknowledge():
                pass
        return _XML, tostring(response, encoding="utf-8", xml_declaration=True)


def _is_signed(token: str, request: CallbackRequest) -> bool:
    # We ask for POST everywhere. Nothing signs a body that is no form, nor, as the SDK takes a URL
    # apart, what follows a ";" in its path or a "#".
    url = urlsplit(request.url)
    is_covered = not (";" in url.path or url.fragment or (request.body and not request.form))
    if request.method != "POST" or not is_covered:
        return False
    # A message's plain V3 was seen not to match, its Ma-V3 to match: either will do.
    if given := _signatures(request.headers, _V3):
        nonce = request.headers.get(_V3_NONCE, "")
        return bool(nonce) and _is_among(given, _v3(token, request, nonce))
    # V2 covers neither query nor body. It is deprecated for calls, and still the only one that is
    # documented for messages: there it counts if Plivo sent no other.
    if not _is_for_messages(request.url):
        return False
    nonce = request.headers.get(_V2_NONCE, "")
    given = _signatures(request.headers, _V2)
    return bool(nonce) and _is_among(given, _v2(token, request.url, nonce))


def _signatures(headers: Mapping[str, str], names: tuple[str, ...]) -> list[bytes]:
    """Returns what is in the headers: one signature for each active token, with commas between."""
    given = ",".join(headers.get(name, "") for name in names)
    return [part.strip().encode() for part in given.split(",") if part.strip()]


def _is_among(given: list[bytes], expected: str) -> bool:
    return any(hmac.compare_digest(one, expected.encode()) for one in given)


def _v3(token: str, request: CallbackRequest, nonce: str) -> str:
    """Signs the URL, the sorted fields of the form and the nonce.

    Where Plivo's page and its SDKs differ, captured requests agree with the SDKs.
    """
    from plivo.utils.signature_v3 import (  # noqa: PLC0415 -- see plivo.py
        construct_post_url,
        get_signature_v3,
    )

    fields: dict[str, list[str]] = {}
    for name, value in request.form:
        fields.setdefault(name, []).append(value)
    signed = construct_post_url(request.url, fields).decode()
    return str(get_signature_v3(token.encode(), signed, nonce).decode())


def _v2(token: str, url: str, nonce: str) -> str:
    text = url.partition("?")[0] + nonce
    digest = hmac.new(token.encode(), text.encode(), sha256).digest()
    return b64encode(digest).decode()


def _is_for_messages(url: str) -> bool:
    """Whether the path is …/sms/{number}; it is signed, so nobody else chooses it."""
    return urlsplit(url).path.split("/")[-2:-1] == [CallbackKind.SMS]


def _call(form: _Form) -> Event:
    id_, status = _filled(form, "CallUUID"), _filled(form, "CallStatus").lower()
    return Event(
        kind=EventKind.CALL,
        key=f"{id_}:{status}",
        data={
            "call_id": id_,
            "status": status,
            "direction": _direction(form.get("Direction")),
            "from": _number(form.get("From")),
            "to": _number(form.get("To")),
            "duration_seconds": _seconds(form.get("Duration")),
        },
    )


def _message(form: _Form) -> Event:
    """A message that came in has no status; a report on one that went out has nothing else."""
    id_, status = _filled(form, "MessageUUID"), form.get("Status", "").lower()
    return Event(
        kind=EventKind.SMS,
        key=f"{id_}:{status}",
        data={
            "message_id": id_,
            "status": status or None,
            "direction": "outbound" if status else "inbound",
            "from": _number(form.get("From")),
            "to": _number(form.get("To")),
            # The text of an MMS is called its body.
            "text": form.get("Text", form.get("Body")),
        },
    )


def _recording(form: _Form) -> Event:
    id_ = _filled(form, "RecordingID")
    return Event(
        kind=EventKind.RECORDING,
        key=id_,
        data={
            "recording_id": id_,
            "call_id": form.get("CallUUID") or None,
            "status": None,
            "url": form.get("RecordUrl") or None,
            "duration_seconds": _seconds(form.get("RecordingDuration")),
        },
    )


_READERS: Final = MappingProxyType[CallbackKind, Callable[[_Form], Event]](
    {
        CallbackKind.STATUS: _call,
        CallbackKind.SMS: _message,
        CallbackKind.RECORDING: _recording,
    }
)


def _filled(form: _Form, name: str) -> str:
    value = form.get(name)
    if not value:
        raise InvalidRequest(f"{name} is missing.")
    return value


def _direction(word: str | None) -> str | None:
    lower = (word or "").lower()
    return lower if lower in {"inbound", "outbound"} else None


def _number(text: str | None) -> str | None:
    """Adds the plus to what is a phone number, and to no short code, SIP address or name."""
    try:
        return E164.parse(f"+{(text or '').removeprefix('+')}")
    except InvalidPhoneNumber:
        return text or None


def _seconds(text: str | None) -> int | None:
    """Reads whole seconds; -1 stands for a recording that goes on."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else None


def _dial(response: Element, answer: Dial) -> None:
    # Plivo runs what `action` answers with, and what follows Dial otherwise: there is nothing.
    dial = SubElement(
        response,
        "Dial",
        action=_legal(answer.then),
        method="POST",
        timeout=str(answer.ring_seconds),
    )
    user = SubElement(dial, "User")
    if answer.login is not None:
        # https://www.plivo.com/docs/voice/concepts/sip-authentication
        user.set("sipAuthUsername", _legal(answer.login.username))
        user.set("sipAuthPassword", _legal(answer.login.password))
    user.text = _legal(f"sip:{answer.address};transport={answer.transport}")


def _voicemail(response: Element, answer: Voicemail) -> None:
    if text := _legal(answer.message).strip():
        SubElement(response, "Speak").text = text
    # Without `action` and `redirect` nothing is asked again: the call goes on to Hangup, and only
    # the file, once it is there, is reported.
    SubElement(
        response,
        "Record",
        redirect="false",
        callbackUrl=_legal(answer.recording),
        callbackMethod="POST",
        maxLength=str(_LONGEST_VOICEMAIL_SECONDS),
        finishOnKey="#",
    )
    SubElement(response, "Hangup")


def _legal(text: str) -> str:
    return _ILLEGAL.sub("", text)
