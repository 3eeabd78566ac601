"""Calls and messages to the numbers that the vendors hold: would a phone ring, and where.

    POST calls         see phone_order.CallOrder; answered with phone_call.Trace
    POST messages      see phone_order.MessageOrder; the same answer
    POST public-urls   {"https://voice.example.com": "http://127.0.0.1:8080", ...}: where to connect
    POST agents        {"<agent name>": "online" | "offline"}; all are online until told otherwise

The two last ones add to what was said before; a reset forgets it. Nothing here is journaled:
the journal is of requests to the vendors, these are requests by them.
"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final, Literal, TypeVar
from urllib.parse import urlsplit

import aiohttp
from pydantic import TypeAdapter

from deploy.sandbox import phone_plivo, phone_telnyx, phone_twilio
from deploy.sandbox.livekit import LiveKit
from deploy.sandbox.livekit_calls import Login
from deploy.sandbox.phone_call import Line, Run, Texting, Trace
from deploy.sandbox.phone_order import CallOrder, MessageOrder
from deploy.sandbox.phone_sip import Address, Caller, Network
from deploy.sandbox.phone_web import Web
from deploy.sandbox.plivo import Plivo
from deploy.sandbox.telnyx import Telnyx
from deploy.sandbox.twilio import Twilio

if TYPE_CHECKING:
    from collections.abc import Collection

    from deploy.sandbox.plivo_state import PlivoState
    from deploy.sandbox.telnyx_state import TelnyxState
    from deploy.sandbox.twilio_state import TwilioState
    from deploy.sandbox.vendor import Vendor

#: An address of a network for documentation: nobody's.
_SIP_SOURCE: Final = "198.51.100.1"
_URLS: Final = TypeAdapter(dict[str, str])
_AGENTS: Final = TypeAdapter(dict[str, Literal["online", "offline"]])

SomeVendor = TypeVar("SomeVendor", Twilio, Telnyx, Plivo, LiveKit)


class Phone:
    """Everybody who calls and texts, and the agents who answer."""

    def __init__(self, vendors: Collection[Vendor]) -> None:
        self._twilio: TwilioState = _one(vendors, Twilio)._state  # noqa: SLF001 - see _one
        self._telnyx: TelnyxState = _one(vendors, Telnyx)._state  # noqa: SLF001 - see _one
        self._plivo: PlivoState = _one(vendors, Plivo)._state  # noqa: SLF001 - see _one
        self._public_urls: dict[str, str] = {}
        self._agents: dict[str, str] = {}
        self._network = Network(_one(vendors, LiveKit), self._agents)

    def set_public_urls(self, document: object) -> dict[str, str]:
        """Says where public names lead to. Raises ValueError."""
        for public, target in _URLS.validate_python(document).items():
            parts, to = urlsplit(public), urlsplit(target)
            if parts.scheme not in {"http", "https"} or parts.path.strip("/") or not parts.netloc:
                msg = f"not a scheme and a host: {public}"
                raise ValueError(msg)
            if to.scheme not in {"http", "https"} or not to.netloc:
                msg = f"not a server's address: {target}"
                raise ValueError(msg)
            self._public_urls[f"{parts.scheme}://{parts.netloc}".lower()] = target.rstrip("/")
        return dict(self._public_urls)

    def set_agents(self, document: object) -> dict[str, str]:
        """Says which agents are there. Raises ValueError."""
        self._agents |= _AGENTS.validate_python(document)
        return dict(self._agents)

    async def call(self, document: object) -> dict[str, object]:
        """Places a call. Raises ValueError if the account has no such number."""
        order = CallOrder.model_validate(document)
        trace = Trace()
        line = self._line(order)
        if line is None:
            self._call_directly(order, trace)
            return trace.document()
        async with self._session() as session:
            web = self._web(session, trace, line)
            run = Run(
                trace=trace,
                web=web,
                network=self._network,
                caller=_caller(order, line.source),
                duration_seconds=order.duration,
                message_seconds=order.message_seconds,
                repeat=order.repeat,
            )
            await line.place(run)
            await run.finish(line)
        return trace.document()

    async def message(self, document: object) -> dict[str, object]:
        """Delivers a message. Raises ValueError if the account has no such number."""
        order = MessageOrder.model_validate(document)
        trace = Trace()
        texting = self._texting(order)
        async with self._session() as session:
            web = self._web(session, trace, texting)
            for _ in range(order.repeat):
                await texting.deliver(web, trace)
        return trace.document()

    def _line(self, order: CallOrder) -> Line | None:
        """None for a carrier that only speaks SIP."""
        match order.vendor:
            case "twilio":
                return phone_twilio.line(self._twilio, order)
            case "telnyx":
                return phone_telnyx.line(self._telnyx, order)
            case "plivo":
                return phone_plivo.line(self._plivo, order)
            case "sip":
                return None

    def _texting(self, order: MessageOrder) -> Texting:
        message_id = uuid.uuid4()
        match order.vendor:
            case "twilio":
                return phone_twilio.texting(self._twilio, order, message_id)
            case "telnyx":
                return phone_telnyx.texting(self._telnyx, order, message_id)
            case "plivo":
                return phone_plivo.texting(self._plivo, order, message_id)

    def _call_directly(self, order: CallOrder, trace: Trace) -> None:
        """A carrier without an API sends the call where it was told to."""
        login = Login(username=order.username, password=order.password)
        address = Address.parse(order.address, user=order.number, scheme=False)
        ringing = self._network.invite(
            address,
            _caller(order, _SIP_SOURCE),
            trace.steps,
            login=login if order.username else None,
        )
        trace.ring(ringing, address)

    def _web(self, session: aiohttp.ClientSession, trace: Trace, vendor: Line | Texting) -> Web:
        return Web(
            session,
            self._public_urls,
            trace.steps,
            signer=vendor.sign,
            user_agent=vendor.user_agent,
            timeout_seconds=vendor.timeout_seconds,
        )

    @staticmethod
    def _session() -> aiohttp.ClientSession:
        # No cookies, no proxy of the environment: a vendor has neither.
        return aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar())


def _caller(order: CallOrder, source: str) -> Caller:
    return Caller(
        calling=order.sender,
        source=str(order.source or source),
        pin=order.pin,
        answered=order.answered,
    )


def _one(vendors: Collection[Vendor], kind: type[SomeVendor]) -> SomeVendor:
    """The vendor of a kind. Calls read its state, which has no other readers outside its module."""
    return next(vendor for vendor in vendors if isinstance(vendor, kind))
