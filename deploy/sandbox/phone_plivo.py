"""Calls and messages to a number at Plivo: which setting wins, and what Plivo's requests hold.

https://docs.plivo.com/docs/voice/xml/request, https://docs.plivo.com/docs/account/api/application.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from deploy.sandbox import phone_signatures
from deploy.sandbox.livekit_calls import Login
from deploy.sandbox.phone_call import Dialled, Run, Texting, Trace
from deploy.sandbox.phone_sip import Address
from deploy.sandbox.phone_web import Hook, Outgoing, Web
from deploy.sandbox.phone_xml import PLIVO_XML, DocumentError
from deploy.sandbox.plivo_state import new_uuid

if TYPE_CHECKING:
    from uuid import UUID

    from deploy.sandbox.phone_order import CallOrder, MessageOrder
    from deploy.sandbox.plivo_state import Account, Application, Number, PlivoState, Trunk

_USER_AGENT: Final = "Plivo-Callback"
#: The answer URL is given up after 60 s and 3 retries (docs.plivo.com/docs/voice/api/call/make-a-
#: call, fallback_url); one of those attempts is played here, with its share of the time.
_TIMEOUT_SECONDS: Final = 15.0
#: Plivo publishes no list; an address of the documentation's network that deploy/local admits.
_SOURCE: Final = "203.0.113.1"
#: https://www.plivo.com/docs/voice/troubleshooting/hangup-causes
_CAUSES: Final = {"completed": "NORMAL_CLEARING", "no-answer": "NO_ANSWER", "busy": "USER_BUSY"}


class PlivoLine:
    """A call at Plivo."""

    dialect = PLIVO_XML
    user_agent = _USER_AGENT
    timeout_seconds = _TIMEOUT_SECONDS
    source = _SOURCE
    recording_attributes = ("callbackUrl", "callbackMethod")
    records_in_circles = False

    def __init__(self, account: Account, number: Number, order: CallOrder) -> None:
        self.account = account
        self.number = number
        self.fallback: Hook | None = None
        self.status_hook: Hook | None = None
        self._order = order
        self._call_uuid = new_uuid()
        self._recording_id = new_uuid()
        self._started = datetime.now(UTC)

    async def place(self, run: Run) -> None:
        """Lets the call in, by the setting that wins."""
        await _place(self, run)

    def sign(self, request: Outgoing) -> Mapping[str, str]:
        """With the token of the number's account or sub-account."""
        return phone_signatures.plivo_v3(request, *_tokens(self.account, self.number))

    def voice(self, status: str) -> dict[str, str]:
        """The fields of every voice request; numbers come without a plus."""
        fields = {
            "CallUUID": self._call_uuid,
            "From": self._order.sender.removeprefix("+"),
            "To": self.number.number,
            "CallStatus": status,
            "Direction": "inbound",
        }
        if status == "ringing":
            fields["Event"] = "StartApp"
        return fields

    def dialled(self, ended: Dialled) -> dict[str, str]:
        """https://docs.plivo.com/docs/voice/xml/dial, parameters sent to the action URL."""
        answered = ended.status == "completed"
        return {
            "DialRingStatus": str(ended.status in {"completed", "no-answer"}).lower(),
            "DialHangupCause": _CAUSES.get(ended.status, "CALL_REJECTED"),
            "DialStatus": ended.status,
            "DialALegUUID": self._call_uuid,
            "DialBLegUUID": new_uuid() if answered else "",
        }

    def recorded(self, seconds: int) -> dict[str, str]:
        """https://docs.plivo.com/docs/voice/xml/record, parameters sent to the action URL."""
        return self._recording(seconds) | {"Digits": "#"}

    def announced(self, seconds: int) -> dict[str, str]:
        """The same page, parameters sent to the callback URL."""
        return self.voice("in-progress") | self._recording(seconds)

    def failed(self, _error: DocumentError, _url: str) -> dict[str, str]:
        """Nothing in addition is documented."""
        return {}

    def ended(self, status: str, seconds: int) -> dict[str, str]:
        """https://docs.plivo.com/docs/account/api/application, parameters sent to the hangup URL.

        Of an inbound call the state is always "completed".
        """
        over = self._started + timedelta(seconds=seconds)
        return self.voice("completed") | {
            "Event": "Hangup",
            "HangupCause": _CAUSES[status],
            "Duration": str(seconds),
            "BillDuration": str(-(-seconds // 60) * 60),
            "StartTime": f"{self._started:%Y-%m-%d %H:%M:%S}",
            "EndTime": f"{over:%Y-%m-%d %H:%M:%S}",
        }

    def _recording(self, seconds: int) -> dict[str, str]:
        begun = int(self._started.timestamp() * 1000)
        return {
            "RecordUrl": f"https://media.plivo.example/{self._recording_id}.mp3",
            "RecordingID": self._recording_id,
            "RecordingDuration": str(seconds),
            "RecordingDurationMs": str(seconds * 1000),
            "RecordingStartMs": str(begun),
            "RecordingEndMs": str(begun + seconds * 1000),
        }


def line(state: PlivoState, order: CallOrder) -> PlivoLine:
    """The call's line. Raises ValueError if the account has no such number."""
    return PlivoLine(*_find(state, order), order)


async def _place(line: PlivoLine, run: Run) -> None:
    """The number's one target is an application or an inbound trunk."""
    account, number = line.account, line.number
    if not number.active or not number.voice_enabled:
        run.trace.settle("rejected", "the number is not active or takes no voice calls")
        return
    if number.app_id in account.zentrunk.trunks:
        _through_trunk(line, account.zentrunk.trunks[number.app_id], run)
        return
    application = account.applications.get(number.app_id)
    if application is None:
        return
    if not _is_enabled(application):
        run.trace.settle("rejected", "the application is disabled")
        return
    if application.hangup_url or application.answer_url:
        # Without a URL of its own, hanging up is told to the answer URL.
        url = application.hangup_url or application.answer_url
        line.status_hook = Hook(url=url, method=application.hangup_method)
    if application.fallback_answer_url:
        line.fallback = Hook(
            url=application.fallback_answer_url, method=application.fallback_method
        )
    await run.answer(line, Hook(url=application.answer_url, method=application.answer_method))


def _through_trunk(line: PlivoLine, trunk: Trunk, run: Run) -> None:
    """The primary URI, then the fallback, each with its login if it has one.

    https://plivo.com/docs/sip-trunking/api/overview. In which format the called number arrives is
    not documented: without a plus, as everywhere at Plivo.
    """
    zentrunk = line.account.zentrunk
    if trunk.trunk_status != "enabled" or trunk.trunk_direction != "inbound":
        run.trace.settle("rejected", f"the trunk is {trunk.trunk_direction}, {trunk.trunk_status}")
        return
    if zentrunk.is_broken(trunk):
        run.trace.settle("rejected", "something that the trunk refers to was deleted")
        return
    for name in (trunk.primary_uri_uuid, trunk.fallback_uri_uuid):
        uri = zentrunk.uris.get(name)
        if uri is None:
            continue
        login = Login(username=uri.username, password=uri.password)
        try:
            address = Address.parse(uri.uri, user=line.number.number, scheme=False)
        except ValueError as problem:
            run.trace.fail(str(problem))
            continue
        ringing = run.invite(
            address, login=login if uri.authentication_needed else None, srtp=trunk.secure
        )
        if ringing.foreign or ringing.status < HTTPStatus.INTERNAL_SERVER_ERROR:
            return


async def _deliver(
    owned: tuple[Account, Number],
    order: MessageOrder,
    message_id: UUID,
    web: Web,
    trace: Trace,
) -> None:
    """The application's message URL; a number on a trunk has none.

    https://docs.plivo.com/docs/messaging/api/message/receive-a-message. What the answer holds is
    not looked at: a 2xx will do.
    """
    account, number = owned
    application = account.applications.get(number.app_id)
    if application is None or not number.sms_enabled or not application.message_url:
        return
    if not _is_enabled(application) or not number.active:
        return
    fields = {
        "From": order.sender.removeprefix("+"),
        "To": number.number,
        "Type": "sms",
        "Text": order.text,
        "MessageUUID": str(message_id),
        "Units": "1",
    }
    hook = Hook(url=application.message_url, method=application.message_method)
    reply = await web.ask("sms", hook, fields)
    if reply.foreign:
        trace.settle("forwarded", f"answered by {hook.url}")
    elif reply.succeeded:
        trace.settle("delivered", None)
    else:
        trace.fail(reply.problem or f"the answer's status is {reply.status}")


def texting(state: PlivoState, order: MessageOrder, message_id: UUID) -> Texting:
    """The message at Plivo. Raises ValueError if the account has no such number."""
    owned = _find(state, order)
    return Texting(
        user_agent=_USER_AGENT,
        timeout_seconds=_TIMEOUT_SECONDS,
        sign=lambda request: _sign_message(owned, order, request),
        deliver=lambda web, trace: _deliver(owned, order, message_id, web, trace),
    )


def _sign_message(
    owned: tuple[Account, Number], order: MessageOrder, request: Outgoing
) -> Mapping[str, str]:
    """The signatures that the order names."""
    tokens = _tokens(*owned)
    headers: dict[str, str] = {}
    if "v2" in order.signatures:
        headers |= phone_signatures.plivo_v2(request, *tokens)
    if "v3" in order.signatures:
        headers |= phone_signatures.plivo_v3(request, *tokens)
    return headers


def _find(state: PlivoState, order: CallOrder | MessageOrder) -> tuple[Account, Number]:
    account = state.accounts.get(order.account) or state.owners.get(order.account)
    number = account.numbers.get(order.number.removeprefix("+")) if account else None
    if account is None or number is None:
        msg = f"account {order.account} has no number {order.number}"
        raise ValueError(msg)
    return account, number


def _tokens(account: Account, number: Number) -> tuple[str, str]:
    """The token of whoever has the number, and the main account's."""
    part = account.subaccounts.get(number.sub_account or "")
    return (part.auth_token if part else account.auth_token), account.auth_token


def _is_enabled(application: Application) -> bool:
    """Applications can be disabled by the vendor; those of a state that cannot tell are not."""
    return bool(getattr(application, "enabled", True))
