"""Calls and messages to a number at Twilio: which setting wins, and what Twilio's requests hold.

https://www.twilio.com/docs/voice/twiml#twilios-request-to-your-application,
https://www.twilio.com/docs/messaging/guides/webhook-request.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from deploy.sandbox import phone_signatures
from deploy.sandbox.phone_call import Dialled, Run, Texting, Trace
from deploy.sandbox.phone_sip import Address
from deploy.sandbox.phone_web import Hook, Outgoing, Web
from deploy.sandbox.phone_xml import TWIML, DocumentError, read
from deploy.sandbox.twilio_state import new_sid

if TYPE_CHECKING:
    from uuid import UUID

    from deploy.sandbox.phone_order import CallOrder, MessageOrder
    from deploy.sandbox.twilio_state import Account, Application, PhoneNumber, Trunk, TwilioState

_USER_AGENT: Final = "TwilioProxy/1.1"
#: https://www.twilio.com/docs/api/errors/31408
_TIMEOUT_SECONDS: Final = 15.0
#: One of https://www.twilio.com/docs/sip-trunking/ip-addresses, as for calls from TwiML.
_SOURCE: Final = "54.172.60.1"
_API_VERSION: Final = "2010-04-01"


class TwilioLine:
    """A call at Twilio."""

    dialect = TWIML
    user_agent = _USER_AGENT
    timeout_seconds = _TIMEOUT_SECONDS
    source = _SOURCE
    recording_attributes = ("recordingStatusCallback", "recordingStatusCallbackMethod")
    records_in_circles = True

    def __init__(self, account: Account, number: PhoneNumber, order: CallOrder) -> None:
        self.account = account
        self.number = number
        self.fallback: Hook | None = None
        self.status_hook: Hook | None = None
        self._order = order
        self._call_sid = new_sid("CA")
        self._recording_sid = new_sid("RE")

    async def place(self, run: Run) -> None:
        """Lets the call in, by the setting that wins."""
        await _place(self, run)

    def sign(self, request: Outgoing) -> Mapping[str, str]:
        """With the primary token, whatever the caller of the API uses."""
        return phone_signatures.twilio(request, self.account.auth_token)

    def voice(self, status: str) -> dict[str, str]:
        """The fields of every voice request."""
        fields = {
            "CallSid": self._call_sid,
            "AccountSid": self.account.sid,
            "From": self._order.sender,
            "To": self._order.number,
            "CallStatus": status,
            "ApiVersion": _API_VERSION,
            "Direction": "inbound",
            "Caller": self._order.sender,
            "Called": self._order.number,
        }
        if self._order.attestation:
            fields["StirVerstat"] = f"TN-Validation-Passed-{self._order.attestation}"
        return fields

    def dialled(self, ended: Dialled) -> dict[str, str]:
        """https://www.twilio.com/docs/voice/twiml/dial#action, and of <Sip>."""
        fields = {
            "DialCallSid": new_sid("CA"),
            "DialCallStatus": ended.status,
            "DialBridged": str(ended.status == "completed").lower(),
            "DialSipCallId": f"{new_sid('')}@0.0.0.0",
            "DialSipResponseCode": str(ended.sip_status),
        }
        if ended.status == "completed":
            fields["DialCallDuration"] = str(ended.seconds)
        return fields

    def recorded(self, seconds: int) -> dict[str, str]:
        """https://www.twilio.com/docs/voice/twiml/record#action; ended by a key."""
        return {
            "RecordingSid": self._recording_sid,
            "RecordingUrl": self._recording_url,
            "RecordingDuration": str(seconds),
            "Digits": "#",
        }

    def announced(self, seconds: int) -> dict[str, str]:
        """https://www.twilio.com/docs/voice/twiml/record#recordingstatuscallback."""
        return {
            "AccountSid": self.account.sid,
            "CallSid": self._call_sid,
            "RecordingSid": self._recording_sid,
            "RecordingUrl": self._recording_url,
            "RecordingStatus": "completed",
            "RecordingDuration": str(seconds),
            "RecordingChannels": "1",
            "RecordingStartTime": _now(),
            "RecordingSource": "RecordVerb",
            "RecordingTrack": "inbound",
            "ErrorCode": "0",
        }

    def failed(self, error: DocumentError, url: str) -> dict[str, str]:
        """https://www.twilio.com/docs/usage/security/availability-reliability."""
        return {"ErrorCode": str(error.code or 11200), "ErrorUrl": url}

    def ended(self, status: str, seconds: int) -> dict[str, str]:
        """https://www.twilio.com/docs/voice/api/call-resource#statuscallback."""
        return self.voice(status) | {
            "CallDuration": str(seconds),
            "Duration": str(-(-seconds // 60)),
            "Timestamp": _now(),
            "CallbackSource": "call-progress-events",
            "SequenceNumber": "0",
        }

    @property
    def _recording_url(self) -> str:
        return (
            f"https://api.twilio.com/{_API_VERSION}/Accounts/{self.account.sid}"
            f"/Recordings/{self._recording_sid}"
        )


def line(state: TwilioState, order: CallOrder) -> TwilioLine:
    """The call's line. Raises ValueError if the account has no such number."""
    return TwilioLine(*_find(state, order), order)


async def _place(line: TwilioLine, run: Run) -> None:
    """A trunk comes before an application, an application before a URL."""
    account, number = line.account, line.number
    if account.status != "active":
        run.trace.settle("rejected", f"the account is {account.status}")
    elif not number.capabilities.get("voice") or number.voice_receive_mode != "voice":
        run.trace.settle("rejected", "the number takes no voice calls")
    elif number.trunk_sid:
        await _through_trunk(line, account.trunks.get(number.trunk_sid), run)
    elif number.voice_application_sid:
        application = account.applications.get(number.voice_application_sid)
        if application is None:
            run.trace.settle("rejected", "the number's application does not exist")
        else:
            await _through_hooks(line, application, run)
    else:
        await _through_hooks(line, number, run)


async def _through_hooks(line: TwilioLine, hooks: PhoneNumber | Application, run: Run) -> None:
    if not hooks.voice_url:
        return
    if hooks.voice_fallback_url:
        line.fallback = Hook(url=hooks.voice_fallback_url, method=hooks.voice_fallback_method)
    if hooks.status_callback:
        # Of an application's number the application's callback is told; "all of the voice urls"
        # of the number are ignored then, says the resource's page.
        line.status_hook = Hook(url=hooks.status_callback, method=hooks.status_callback_method)
    await run.answer(line, Hook(url=hooks.voice_url, method=hooks.voice_method))


async def _through_trunk(line: TwilioLine, trunk: Trunk | None, run: Run) -> None:
    """The origination URLs by priority, then the disaster recovery URL.

    The weight decides by chance at the vendor; here the heaviest goes first. It goes on to the next
    after a 5xx or no answer at all: https://www.twilio.com/docs/sip-trunking#origination. No login
    can be given, so a challenge ends the call. Whether the number's status callback is told is not
    documented: it is not.
    """
    urls = [item for item in trunk.origination_urls.values() if item.enabled] if trunk else []
    if trunk is None or not urls:
        run.trace.settle("rejected", "the number's trunk has no origination URL that is enabled")
    for url in sorted(urls, key=lambda item: (item.priority, -item.weight)):
        try:
            address = Address.parse(url.sip_url, user=line.number.phone_number)
        except ValueError as problem:
            run.trace.fail(str(problem))
            continue
        srtp = trunk is not None and trunk.secure
        ringing = run.invite(address, srtp=srtp)
        if ringing.foreign or ringing.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return
    if trunk is not None and trunk.disaster_recovery_url:
        recovery = Hook(url=trunk.disaster_recovery_url, method=trunk.disaster_recovery_method)
        await run.answer(line, recovery, purpose="disaster recovery")


async def _deliver(
    owned: tuple[Account, PhoneNumber],
    order: MessageOrder,
    message_id: UUID,
    web: Web,
    trace: Trace,
) -> None:
    """An application comes before a URL; the answer must be TwiML, or nothing."""
    account, number = owned
    hooks: PhoneNumber | Application | None = number
    if number.sms_application_sid:
        hooks = account.applications.get(number.sms_application_sid)
    if not number.capabilities.get("sms") or hooks is None or not hooks.sms_url:
        return
    if account.status != "active":
        return
    sid = f"SM{message_id.hex}"
    fields = {
        "MessageSid": sid,
        "SmsSid": sid,
        "SmsMessageSid": sid,
        "AccountSid": account.sid,
        "From": order.sender,
        "To": order.number,
        "Body": order.text,
        "NumMedia": "0",
        "NumSegments": "1",
        "SmsStatus": "received",
        "ApiVersion": _API_VERSION,
    }
    fallback = Hook(url=hooks.sms_fallback_url, method=hooks.sms_fallback_method)
    for hook in (Hook(url=hooks.sms_url, method=hooks.sms_method), fallback):
        if not hook.url:
            return
        reply = await web.ask("sms", hook, fields)
        if reply.foreign:
            trace.settle("forwarded", f"answered by {hook.url}")
            return
        try:
            if reply.status != HTTPStatus.NO_CONTENT and read(reply, TWIML):
                trace.fail("an answer to a message that does something is not played here")
        except DocumentError as error:
            trace.fail(str(error))
            fields |= {"ErrorCode": str(error.code or 11200), "ErrorUrl": hook.url}
        else:
            trace.settle("delivered", None)
            return


def texting(state: TwilioState, order: MessageOrder, message_id: UUID) -> Texting:
    """The message at Twilio. Raises ValueError if the account has no such number."""
    owned = _find(state, order)
    return Texting(
        user_agent=_USER_AGENT,
        timeout_seconds=_TIMEOUT_SECONDS,
        sign=lambda request: phone_signatures.twilio(request, owned[0].auth_token),
        deliver=lambda web, trace: _deliver(owned, order, message_id, web, trace),
    )


def _find(state: TwilioState, order: CallOrder | MessageOrder) -> tuple[Account, PhoneNumber]:
    account = state.accounts.get(order.account)
    number = account.number_by_phone(order.number) if account else None
    if account is None or number is None:
        msg = f"account {order.account} has no number {order.number}"
        raise ValueError(msg)
    return account, number


def _now() -> str:
    return format_datetime(datetime.now(UTC))
