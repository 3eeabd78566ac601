"""Calls and messages to a number at Telnyx: which setting wins, and what its requests hold.

https://developers.telnyx.com/docs/voice/programmable-voice/texml-fundamentals,
https://developers.telnyx.com/api-reference/callbacks, where TeXML's are listed one by one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import phonenumbers

from deploy.sandbox import phone_signatures
from deploy.sandbox.phone_call import Dialled, Run, Texting, Trace
from deploy.sandbox.phone_sip import Address
from deploy.sandbox.phone_web import Hook, Outgoing, Web
from deploy.sandbox.phone_xml import TEXML, DocumentError
from deploy.sandbox.telnyx_state import new_uuid

if TYPE_CHECKING:
    from uuid import UUID

    from deploy.sandbox.phone_order import CallOrder, MessageOrder
    from deploy.sandbox.telnyx_state import Account, PhoneNumber, Resource, TelnyxState

_USER_AGENT: Final = "telnyx-webhooks"
#: Not documented for TeXML; short, so that a slow answer shows.
_TIMEOUT_SECONDS: Final = 5.0
#: The United States' signalling address: https://sip.telnyx.com
_SOURCE: Final = "192.76.120.10"


class TelnyxLine:
    """A call at Telnyx."""

    dialect = TEXML
    user_agent = _USER_AGENT
    timeout_seconds = _TIMEOUT_SECONDS
    source = _SOURCE
    recording_attributes = ("recordingStatusCallback", "recordingStatusCallbackMethod")
    records_in_circles = False

    def __init__(self, account: Account, number: PhoneNumber, order: CallOrder) -> None:
        self.account = account
        self.number = number
        self.fallback: Hook | None = None
        self.status_hook: Hook | None = None
        self._order = order
        self._call_sid = f"v3:{new_uuid()}"
        self._recording_sid = new_uuid()
        self._started = datetime.now(UTC)

    async def place(self, run: Run) -> None:
        """Lets the call in, by the setting that wins."""
        await _place(self, run)

    def sign(self, request: Outgoing) -> Mapping[str, str]:
        """With the account's key."""
        return phone_signatures.telnyx(request, self.account.signing_key)

    def voice(self, status: str) -> dict[str, str]:
        """The fields of every voice request."""
        fields = {
            "AccountSid": self.account.id,
            "CallSid": self._call_sid,
            "CallSidLegacy": self._call_sid,
            "ConnectionId": self.number.connection_id or "",
            "From": self._order.sender,
            "To": self._order.number,
            "CallStatus": status,
            "Direction": "inbound",
        }
        if self._order.attestation:
            fields["ShakenStirAttestation"] = self._order.attestation
            fields["ShakenStirValidated"] = "true"
        return fields

    def dialled(self, ended: Dialled) -> dict[str, str]:
        """As TwiML's action is told; Telnyx documents no list of its own."""
        fields = {
            "DialCallSid": f"v3:{new_uuid()}",
            "DialCallStatus": ended.status,
            "DialSipResponseCode": str(ended.sip_status),
        }
        if ended.status == "completed":
            fields["DialCallDuration"] = str(ended.seconds)
        return fields

    def recorded(self, seconds: int) -> dict[str, str]:
        """https://developers.telnyx.com/docs/voice/programmable-voice/texml-verbs/record."""
        return {
            "RecordingSid": self._recording_sid,
            "RecordingUrl": self._recording_url,
            "RecordingDuration": str(seconds),
            "Digits": "#",
        }

    def announced(self, seconds: int) -> dict[str, str]:
        """https://developers.telnyx.com/api-reference/callbacks/texml-recording-completed."""
        return {
            "AccountSid": self.account.id,
            "CallSid": self._call_sid,
            "CallSidLegacy": self._call_sid,
            "ConnectionId": self.number.connection_id or "",
            "RecordingChannels": "2",
            "RecordingDuration": str(seconds),
            "RecordingSid": self._recording_sid,
            "RecordingSource": "RecordVerb",
            "RecordingStatus": "completed",
            "RecordingUrl": self._recording_url,
        }

    def failed(self, _error: DocumentError, _url: str) -> dict[str, str]:
        """Nothing in addition is documented."""
        return {}

    def ended(self, status: str, seconds: int) -> dict[str, str]:
        """https://developers.telnyx.com/api-reference/callbacks/texml-call-completed."""
        over = self._started + timedelta(seconds=seconds)
        fields = self.voice(status) | {
            "CallInitiatedAt": self._started.isoformat(),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": "3",
            "Timestamp": over.isoformat(),
            "CallDuration": str(seconds),
        }
        # The page on this callback has no direction.
        del fields["Direction"]
        if status == "completed":
            fields |= {"StartTime": self._started.isoformat(), "EndTime": over.isoformat()}
        return fields

    @property
    def _recording_url(self) -> str:
        return f"https://recordings.telnyx.example/{self._recording_sid}.mp3"


def line(state: TelnyxState, order: CallOrder) -> TelnyxLine:
    """The call's line. Raises ValueError if the account has no such number."""
    return TelnyxLine(*_find(state, order), order)


async def _place(line: TelnyxLine, run: Run) -> None:
    """Forwarding comes before the connection; what the connection is decides the rest."""
    number = line.number
    forwards = bool(number.call_forwarding_enabled and number.forwards_to)
    if line.account.status != "active" or number.status != "active":
        run.trace.settle("rejected", f"account {line.account.status}, number {number.status}")
        return
    if forwards and number.forwarding_type != "on-failure":
        run.trace.settle("forwarded", f"forwarded to the number {number.forwards_to}")
        return
    connection = line.account.connections.get(number.connection_id or "")
    if connection is not None and connection.values.get("active") is False:
        run.trace.settle("rejected", f"the {connection.record_type} is not active")
    elif connection is not None:
        await _connect(line, connection, run)
    if forwards and run.trace.outcome in {"rejected", "failed", "ringing_unanswered"}:
        run.trace.settle("forwarded", f"forwarded to the number {number.forwards_to}")


async def _connect(line: TelnyxLine, connection: Resource, run: Run) -> None:
    match connection.record_type:
        case "texml_application":
            await _through_texml(line, connection, run)
        case "fqdn_connection":
            _through_fqdns(line, connection, run)
        case kind:
            # Commands over the API, a registered phone, a gateway: the customer's own system.
            where = connection.text("webhook_event_url") or f"the {kind}"
            run.trace.settle("forwarded", f"answered by {where}")


async def _through_texml(line: TelnyxLine, application: Resource, run: Run) -> None:
    method = application.text("voice_method").upper() or "POST"
    if url := application.text("voice_fallback_url"):
        line.fallback = Hook(url=url, method=method)
    if url := application.text("status_callback"):
        told = application.text("status_callback_method").upper() or "POST"
        line.status_hook = Hook(url=url, method=told)
    await run.answer(line, Hook(url=application.text("voice_url"), method=method))


def _through_fqdns(line: TelnyxLine, connection: Resource, run: Run) -> None:
    """The connection's FQDNs, the primary first, until one answers; no login can be given.

    https://developers.telnyx.com/docs/voice/sip-trunking/authentication/credential-types
    """
    inbound = connection.values.get("inbound")
    settings = inbound if isinstance(inbound, dict) else {}
    fqdns = [
        item for item in line.account.fqdns.values() if item.text("connection_id") == connection.id
    ]
    primary = settings.get("default_primary_fqdn_id")
    fqdns.sort(key=lambda item: item.id != primary)
    if not fqdns:
        run.trace.settle("rejected", "the connection has no FQDN")
    called = line.number.translated_number or line.number.phone_number
    as_dialled = _called(called, str(settings.get("dnis_number_format")), connection)
    calling = _calling(run.caller.calling, str(settings.get("ani_number_format")))
    for fqdn in fqdns:
        port = fqdn.values.get("port")
        ringing = run.invite(
            Address(
                user=as_dialled,
                host=fqdn.text("fqdn").lower(),
                port=port if isinstance(port, int) else None,
                transport=connection.text("transport_protocol").lower() or "udp",
            ),
            srtp=connection.text("encrypted_media") == "SRTP",
            caller=replace(run.caller, calling=calling),
        )
        if ringing.foreign or ringing.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return


async def _deliver(
    owned: tuple[Account, PhoneNumber],
    order: MessageOrder,
    message_id: UUID,
    web: Web,
    trace: Trace,
) -> None:
    """The messaging profile's webhook, then its failover URL, each as version 2.

    https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
    """
    account, number = owned
    profile = account.messaging_profiles.get(number.messaging_profile_id or "")
    if profile is None or not number.sms or profile.values.get("enabled") is False:
        return
    if account.status != "active" or number.status != "active":
        return
    urls = [profile.text("webhook_url"), profile.text("webhook_failover_url")]
    if not urls[0]:
        return
    if profile.text("webhook_api_version") != "2":
        trace.fail("only version 2 of the messaging webhooks is played here")
        return
    for attempt, url in enumerate((url for url in urls if url), start=1):
        document = _message(order, message_id, profile, attempt=attempt, url=url)
        reply = await web.tell("sms", url, document)
        if reply.foreign:
            trace.settle("forwarded", f"answered by {url}")
            return
        if reply.succeeded:
            trace.settle("delivered", None)
            return
        trace.fail(reply.problem or f"the answer's status is {reply.status}")


def texting(state: TelnyxState, order: MessageOrder, message_id: UUID) -> Texting:
    """The message at Telnyx. Raises ValueError if the account has no such number."""
    owned = _find(state, order)
    return Texting(
        user_agent=_USER_AGENT,
        timeout_seconds=_TIMEOUT_SECONDS,
        sign=lambda request: phone_signatures.telnyx(request, owned[0].signing_key),
        deliver=lambda web, trace: _deliver(owned, order, message_id, web, trace),
    )


def _find(state: TelnyxState, order: CallOrder | MessageOrder) -> tuple[Account, PhoneNumber]:
    account = state.accounts.get(order.account)
    number = account.number_by_phone(order.number) if account else None
    if account is None or number is None:
        msg = f"account {order.account} has no number {order.number}"
        raise ValueError(msg)
    return account, number


def _message(
    order: MessageOrder, message_id: UUID, profile: Resource, *, attempt: int, url: str
) -> dict[str, object]:
    at = datetime.now(UTC).isoformat()
    failover = profile.text("webhook_failover_url") or None
    return {
        "data": {
            "event_type": "message.received",
            # A repeated delivery is the same event.
            "id": str(message_id),
            "occurred_at": at,
            "payload": {
                "id": str(message_id),
                "record_type": "message",
                "direction": "inbound",
                "type": "SMS",
                "messaging_profile_id": profile.id,
                "from": {"phone_number": order.sender, "carrier": "", "line_type": "Wireless"},
                "to": [{"phone_number": order.number, "status": "webhook_delivered"}],
                "cc": [],
                "text": order.text,
                "media": [],
                "encoding": "GSM-7" if order.text.isascii() else "UCS-2",
                "parts": 1,
                "errors": [],
                "tags": [],
                "received_at": at,
                "sent_at": None,
                "completed_at": None,
                "valid_until": None,
                "webhook_url": profile.text("webhook_url"),
                "webhook_failover_url": failover,
            },
            "record_type": "event",
        },
        "meta": {"attempt": attempt, "delivered_to": url},
    }


def _called(number: str, format_name: str, connection: Resource) -> str:
    match format_name:
        case "+e164":
            return number
        case "national":
            return _national(number)
        case "sip_username":
            return connection.text("user_name") or number.removeprefix("+")
        case _:
            return number.removeprefix("+")


def _calling(number: str, format_name: str) -> str:
    """The caller in the connection's format.

    What `-national` does to callers from another country is not documented; the country code is
    left out of all of them, which shows where somebody relies on it.
    """
    national = format_name.endswith("-national")
    text = _national(number) if national else number.removeprefix("+")
    return f"+{text}" if format_name.startswith("+") else text


def _national(number: str) -> str:
    return str(phonenumbers.national_significant_number(phonenumbers.parse(number)))
