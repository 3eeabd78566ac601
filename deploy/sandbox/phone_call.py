"""One call on its way: the documents that answer it, carried out verb by verb.

Time is simulated: nothing rings or talks for real. Which setting of a number the call starts with,
and what the vendor's requests hold, is in phone_twilio.py, phone_telnyx.py and phone_plivo.py.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urljoin

from deploy.sandbox.livekit_calls import Login
from deploy.sandbox.phone_sip import Address
from deploy.sandbox.phone_web import Hook
from deploy.sandbox.phone_xml import Dialect, DocumentError, Element, read

if TYPE_CHECKING:
    from deploy.sandbox.phone_sip import Caller, Network, Ringing
    from deploy.sandbox.phone_web import Outgoing, Signer, Web

#: Documents that one call may go through; more is a circle.
MAX_DOCUMENTS: Final = 20
#: Later entries never take the place of earlier ones: whoever was reached was reached.
_RANK: Final = ("agent", "voicemail", "forwarded")


@dataclass(slots=True)
class Trace:
    """What became of a call, and every step on the way."""

    outcome: str = "rejected"
    reason: str | None = "nothing answers this number"
    agent_name: str | None = None
    room_prefix: str | None = None
    rule: str | None = None
    trunk: str | None = None
    #: Everything that went wrong on the way, also if somebody was reached in the end.
    problems: list[str] = field(default_factory=list)
    steps: list[dict[str, object]] = field(default_factory=list)

    def settle(self, outcome: str, reason: str | None) -> None:
        """Notes how far the call came; what is better than it stays."""
        if self.outcome in _RANK and (
            outcome not in _RANK or _RANK.index(self.outcome) <= _RANK.index(outcome)
        ):
            return
        self.outcome, self.reason = outcome, reason

    def fail(self, reason: str) -> None:
        """Notes that something went wrong."""
        self.problems.append(reason)
        self.settle("failed", reason)

    def ring(self, ringing: Ringing, address: Address) -> None:
        """Notes how an INVITE went."""
        if ringing.foreign:
            self.settle("forwarded", f"sent to {address}")
            return
        if self.outcome != "agent":
            self.trunk, self.rule = ringing.trunk, ringing.rule
            self.agent_name, self.room_prefix = ringing.agent_name, ringing.room_prefix
        if ringing.joined:
            self.settle("agent", None)
        elif ringing.rang_seconds:
            self.problems.append(ringing.reason)
            self.settle("ringing_unanswered", ringing.reason)
        else:
            self.fail(ringing.reason)

    def document(self) -> dict[str, object]:
        """As JSON."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """How a `Dial` ended."""

    #: "completed", "no-answer", "busy" or "failed".
    status: str
    sip_status: int
    seconds: int


class Line(Protocol):
    """A call at its vendor: where it starts, and what the vendor puts into its requests."""

    dialect: Dialect
    user_agent: str
    #: How long the vendor waits for an answer.
    timeout_seconds: float
    #: Where the vendor's SIP signalling comes from.
    source: str
    #: What the vendor asks when a document cannot be had or carried out.
    fallback: Hook | None
    #: What the vendor itself tells when the call is over.
    status_hook: Hook | None
    #: Names of the attributes that name where a recording is announced, and with which method.
    recording_attributes: tuple[str, str]
    #: Whether `Record` without an action asks for the present document again.
    records_in_circles: bool

    async def place(self, run: Run) -> None:
        """Lets the call in, by the setting that wins."""

    def sign(self, request: Outgoing) -> Mapping[str, str]:
        """The headers that prove who sends a request."""

    def voice(self, status: str) -> dict[str, str]:
        """The fields that every request has, with the call's state."""

    def dialled(self, ended: Dialled) -> dict[str, str]:
        """What a `Dial`'s action is told in addition."""

    def recorded(self, seconds: int) -> dict[str, str]:
        """What a `Record`'s action is told in addition."""

    def announced(self, seconds: int) -> dict[str, str]:
        """All that is told when a recording is ready."""

    def failed(self, error: DocumentError, url: str, /) -> dict[str, str]:
        """What the fallback is told in addition."""

    def ended(self, status: str, seconds: int) -> dict[str, str]:
        """All that is told when the call is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Texting:
    """A message at its vendor."""

    user_agent: str
    timeout_seconds: float
    sign: Signer
    #: Delivers it once, as the same message every time.
    deliver: Callable[[Web, Trace], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Next:
    """The document to go on with."""

    purpose: str
    hook: Hook
    fields: dict[str, str]


class Run:
    """One call."""

    def __init__(
        self,
        *,
        trace: Trace,
        web: Web,
        network: Network,
        caller: Caller,
        duration_seconds: int,
        message_seconds: int,
        repeat: int,
    ) -> None:
        self.trace = trace
        self._web = web
        self._network = network
        self.caller = caller
        self._duration_seconds = duration_seconds
        self._message_seconds = message_seconds
        self._repeat = repeat
        self._over = False
        self._talked_seconds = 0
        self._announcements: list[tuple[Hook, dict[str, str]]] = []

    async def answer(self, line: Line, hook: Hook, *, purpose: str = "voice") -> None:
        """Lets documents answer the call, from the given URL on, until it is over."""
        following: _Next | None = _Next(purpose=purpose, hook=hook, fields=line.voice("ringing"))
        fallback = line.fallback
        for _ in range(MAX_DOCUMENTS):
            if following is None or self._over:
                break
            present = following
            reply = await self._web.ask(present.purpose, present.hook, present.fields)
            if reply.foreign:
                self.trace.settle("forwarded", f"answered by {present.hook.url}")
                break
            try:
                verbs = read(reply, line.dialect)
                self.trace.steps[-1]["verbs"] = [verb.document() for verb in verbs]
                following = await self._carry_out(line, verbs, present.hook)
            except DocumentError as error:
                self.trace.fail(str(error))
                following = None
                if fallback is not None:
                    told = line.voice("ringing") | line.failed(error, present.hook.url)
                    following = _Next(purpose="fallback", hook=fallback, fields=told)
                fallback = None
        else:
            if following is not None:
                self.trace.fail(f"the documents go in a circle: more than {MAX_DOCUMENTS}")

    def invite(
        self,
        address: Address,
        *,
        login: Login | None = None,
        srtp: bool = False,
        timeout_seconds: int | None = None,
        caller: Caller | None = None,
    ) -> Ringing:
        """Rings an address; the trace tells how far that came."""
        ringing = self._network.invite(
            address,
            caller or self.caller,
            self.trace.steps,
            login=login,
            srtp=srtp,
            timeout_seconds=timeout_seconds,
        )
        self.trace.ring(ringing, address)
        self._over = ringing.foreign
        if ringing.joined:
            self._talked_seconds += self._duration_seconds
        return ringing

    async def finish(self, line: Line) -> None:
        """Tells what the vendor tells by itself once the call is over."""
        status = "no-answer" if self.trace.outcome == "ringing_unanswered" else "completed"
        for _ in range(self._repeat):
            if line.status_hook is not None:
                fields = line.ended(status, self._talked_seconds)
                await self._tell("status", line.status_hook, fields)
        for hook, fields in self._announcements:
            for _ in range(self._repeat):
                await self._tell("recording", hook, fields)

    async def _tell(self, purpose: str, hook: Hook, fields: Mapping[str, str]) -> None:
        reply = await self._web.ask(purpose, hook, fields)
        if not (reply.foreign or reply.succeeded):
            what = reply.problem or f"status {reply.status}"
            self.trace.problems.append(f"the {purpose} callback failed: {what}")

    async def _carry_out(
        self, line: Line, verbs: tuple[Element, ...], document: Hook
    ) -> _Next | None:
        for position, verb in enumerate(verbs):
            following: _Next | None = None
            match verb.name:
                case "Dial":
                    following = await self._dial(line, verb, document)
                case "Record":
                    following = await self._record(line, verb, document)
                case "Redirect":
                    hook = Hook(
                        url=self._url(line, verb.text, document), method=verb.get("method", "POST")
                    )
                    return _Next(purpose="redirect", hook=hook, fields=line.voice("in-progress"))
                case "Reject" if position:
                    raise line.dialect.error("schema", "<Reject> must be the first verb")
                case "Reject" | "Hangup":
                    self._hang_up(verb)
                    return None
                case _:
                    continue
            if following is not None or self._over:
                return following
        self._hang_up(None)
        return None

    def _hang_up(self, verb: Element | None) -> None:
        if not any(step["kind"] == "invite" for step in self.trace.steps):
            how = f"<{verb.name}>" if verb is not None else "an answer that says no more"
            self.trace.settle("rejected", f"ended by {how}")

    async def _dial(self, line: Line, verb: Element, document: Hook) -> _Next | None:
        targets = verb.nouns or (Element("Number", verb.text, {}),)
        for target in targets:
            if target.name == "Number":
                self.trace.settle("forwarded", f"sent to the number {target.text}")
                self._over = True
                return None
        dialect = line.dialect
        timeout = verb.get("timeout")
        limit = int(timeout) if timeout else dialect.default_timeout
        for target in targets:
            ringing = self.invite(
                self._address(line, target),
                login=_login(target, dialect),
                timeout_seconds=limit,
            )
            if self._over:
                return None
            if ringing.status == HTTPStatus.OK:
                break
        ended = Dialled(
            status=_dial_status(ringing.status),
            sip_status=ringing.status,
            seconds=self._duration_seconds if ringing.joined else 0,
        )
        return await self._act(line, verb, document, "dialed", line.dialled(ended))

    async def _record(self, line: Line, verb: Element, document: Hook) -> _Next | None:
        if "true" in {verb.get("recordSession"), verb.get("startOnDialAnswer")}:
            raise line.dialect.error("schema", "recording beside the call is not played here")
        seconds = self._message_seconds
        if not seconds:
            # Nothing was said: no recording is kept, and the next verb follows.
            return None
        self.trace.settle("voicemail", None)
        self._talked_seconds += seconds
        callback, method = line.recording_attributes
        if verb.get(callback):
            hook = Hook(
                url=self._url(line, verb.get(callback), document), method=verb.get(method, "POST")
            )
            self._announcements.append((hook, line.announced(seconds)))
        told = line.recorded(seconds)
        if not verb.get("action") and line.records_in_circles:
            again = Hook(url=document.url, method=verb.get("method", "POST"))
            fields = line.voice("in-progress") | told
            return _Next(purpose="recorded", hook=again, fields=fields)
        return await self._act(line, verb, document, "recorded", told)

    async def _act(
        self, line: Line, verb: Element, document: Hook, purpose: str, told: dict[str, str]
    ) -> _Next | None:
        """What follows a verb that has ended: its action, or the next verb."""
        if not verb.get("action"):
            return None
        hook = Hook(
            url=self._url(line, verb.get("action"), document), method=verb.get("method", "POST")
        )
        fields = line.voice("in-progress") | told
        if verb.get("redirect") == "false":
            # Plivo: the action is only told, the document goes on.
            await self._tell(purpose, hook, fields)
            return None
        return _Next(purpose=purpose, hook=hook, fields=fields)

    @staticmethod
    def _url(line: Line, text: str, document: Hook) -> str:
        url = urljoin(document.url, text) if line.dialect.relative_urls else text
        if not url.startswith(("http://", "https://")):
            raise line.dialect.error("url", f"not a URL that can be requested: {text}")
        return url

    @staticmethod
    def _address(line: Line, target: Element) -> Address:
        try:
            return Address.parse(target.text)
        except ValueError as problem:
            raise line.dialect.error("schema", str(problem)) from problem


def _login(target: Element, dialect: Dialect) -> Login | None:
    username, password = (target.get(name) for name in dialect.login)
    return Login(username=username, password=password) if username else None


def _dial_status(sip_status: int) -> str:
    if sip_status == HTTPStatus.OK:
        return "completed"
    return "no-answer" if sip_status == HTTPStatus.REQUEST_TIMEOUT else "failed"
