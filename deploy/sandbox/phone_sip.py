"""The SIP side of a call: the addresses that are dialled, and who answers there."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from deploy.sandbox.livekit_calls import Invite, Login

if TYPE_CHECKING:
    from deploy.sandbox.livekit import LiveKit

_ADDRESS: Final = re.compile(
    r"(?:(?P<user>[^@\s;:?]+)@)?(?P<host>[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)"
    r"(?::(?P<port>[0-9]{1,5}))?(?P<parameters>(?:;[^;?\s]+)*)(?:\?\S*)?"
)
#: Where LiveKit listens: https://docs.livekit.io/home/self-hosting/sip-server/
_PORTS: Final[Mapping[str, int]] = {"udp": 5060, "tcp": 5060, "tls": 5061}


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where an INVITE is sent."""

    user: str
    host: str
    #: None where the address names none.
    port: int | None
    transport: str
    #: Whether the address asks for encrypted media.
    secure: bool = False

    @classmethod
    def parse(cls, text: str, *, user: str = "", scheme: bool = True) -> Address:
        """Reads `sip:user@host:port;transport=tcp`; the given user stands in for a missing one.

        Without a scheme the text must not have one. Raises ValueError.
        """
        if scheme != text.startswith("sip:"):
            msg = f"not a sip: address: {text}" if scheme else f"an address without sip: {text}"
            raise ValueError(msg)
        found = _ADDRESS.fullmatch(text.removeprefix("sip:"))
        if found is None or not (found["user"] or user):
            msg = f"not a SIP address: {text}"
            raise ValueError(msg)
        pairs = (item.partition("=") for item in found["parameters"].split(";") if item)
        parameters = {name.lower(): value.lower() for name, _, value in pairs}
        transport = parameters.get("transport", "udp")
        if transport not in _PORTS:
            msg = f"no such transport: {transport}"
            raise ValueError(msg)
        return cls(
            user=unquote(found["user"] or user),
            host=found["host"].lower(),
            port=int(found["port"]) if found["port"] else None,
            transport=transport,
            secure=parameters.get("secure") == "true",
        )

    def __str__(self) -> str:
        return f"{self.user}@{self.host}{f':{self.port}' if self.port else ''}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ringing:
    """How a carrier's INVITE went."""

    #: The address is not LiveKit's: somebody else's system has the call.
    foreign: bool = False
    #: The final SIP status; 200 is answered, 408 is that nobody did.
    status: int = HTTPStatus.OK
    reason: str = ""
    trunk: str | None = None
    rule: str | None = None
    agent_name: str | None = None
    room_prefix: str | None = None
    #: Whether somebody talks to the caller; answered without it, the caller hears a prompt.
    joined: bool = False
    rang_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """What every INVITE of one call has in common."""

    calling: str
    source: str
    pin: str | None
    #: Whether anybody answers who could.
    answered: bool


class Network:
    """Delivers INVITEs: to LiveKit if they are for its host, else to nobody we know."""

    def __init__(self, livekit: LiveKit, agents: Mapping[str, str]) -> None:
        self._livekit = livekit
        self._agents = agents

    def invite(
        self,
        address: Address,
        caller: Caller,
        steps: list[dict[str, object]],
        *,
        login: Login | None = None,
        srtp: bool = False,
        timeout_seconds: int | None = None,
    ) -> Ringing:
        """Rings an address and keeps a step of it."""
        ringing = self._ring(address, caller, login, srtp=srtp, limit=timeout_seconds)
        steps.append(
            {
                "kind": "invite",
                "address": str(address),
                "transport": address.transport,
                "login": login.username if login else None,
                "source": caller.source,
                "from": caller.calling,
                "foreign": ringing.foreign,
                "status": None if ringing.foreign else ringing.status,
                "said": ringing.reason or None,
                "trunk": ringing.trunk,
                "rule": ringing.rule,
                "agent_name": ringing.agent_name,
            }
        )
        return ringing

    def _ring(
        self,
        address: Address,
        caller: Caller,
        login: Login | None,
        *,
        srtp: bool,
        limit: int | None,
    ) -> Ringing:
        if address.host != self._livekit.sip_host:
            return Ringing(foreign=True)
        if address.port not in {None, _PORTS[address.transport]}:
            return Ringing(
                status=HTTPStatus.SERVICE_UNAVAILABLE,
                reason=f"nobody listens on port {address.port} for {address.transport}",
            )
        answer = self._livekit.dispatch(
            Invite(
                called=address.user,
                calling=caller.calling,
                source=caller.source,
                login=login,
                srtp=srtp or address.secure,
                pin=caller.pin,
            )
        )
        if answer.refusal:
            return Ringing(
                status=answer.status, reason=answer.refusal, trunk=answer.trunk, rule=answer.rule
            )
        # An agent that is not named in a rule is called "" here.
        online = self._agents.get(answer.agent_name or "", "online") == "online"
        joined = online and caller.answered
        rang = min(answer.ring_seconds, limit or answer.ring_seconds)
        reason = "" if joined else f"nobody joined the room within {rang} s"
        # After the PIN prompt the call is answered, whether an agent joins or not.
        answered = joined or answer.asked_for_pin
        return Ringing(
            status=HTTPStatus.OK if answered else HTTPStatus.REQUEST_TIMEOUT,
            reason=reason,
            trunk=answer.trunk,
            rule=answer.rule,
            agent_name=answer.agent_name,
            room_prefix=answer.room_prefix,
            joined=joined,
            rang_seconds=0 if joined else rang,
        )
