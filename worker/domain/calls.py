"""What providers tell us of calls and messages, and what we answer; the same for every vendor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Final, TypeAlias
from urllib.parse import parse_qsl, urlsplit

from worker.domain.values import SipLogin


class CallbackKind(StrEnum):
    """Which of a number's webhooks a provider calls; a segment of the webhook's path."""

    #: A call has come in: the answer says what becomes of it.
    VOICE = "voice"
    #: The call that we sent to LiveKit has ended, or was never answered there.
    DIALED = "dialed"
    #: The state of a call has changed.
    STATUS = "status"
    #: A message has come in, or the state of one has changed.
    SMS = "sms"
    #: A recording, such as a voicemail, is ready.
    RECORDING = "recording"


class EventKind(StrEnum):
    """What an event is about."""

    CALL = "call"
    SMS = "sms"
    RECORDING = "recording"


class NotificationState(StrEnum):
    """Whether a notification has reached its callback_url."""

    #: Not yet: the next attempt is due.
    PENDING = "pending"
    #: The URL answered with a success.
    DELIVERED = "delivered"
    #: Given up after a day.
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class CallbackRequest:
    """One webhook request as it arrived; may hold personal data, so it is never logged."""

    method: str
    #: The public URL that the provider called, with its query: what a signature covers.
    url: str
    #: Names in lower case.
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    @cached_property
    def form(self) -> tuple[tuple[str, str], ...]:
        """The fields of a form body in their order; empty if it is none."""
        kind = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/x-www-form-urlencoded":
            return ()
        return tuple(
            parse_qsl(
                self.body.decode(errors="replace"), keep_blank_values=True, max_num_fields=500
            )
        )

    @property
    def query(self) -> Mapping[str, str]:
        """The URL's own parameters; the last of a name counts."""
        return dict(parse_qsl(urlsplit(self.url).query, keep_blank_values=True))


@dataclass(frozen=True, kw_only=True)
class Event:
    """What a provider reports of a call, a message or a recording."""

    kind: EventKind
    #: The vendor's id and the state that it reports: the same report always has the same key.
    key: str
    #: In the words of ``EVENT_FIELDS``, the same for every vendor; None where it said nothing.
    data: Mapping[str, str | int | None] = field(repr=False)


#: Kind → what an event of that kind tells; an adapter gives each, None where the vendor does not.
EVENT_FIELDS: Final[Mapping[EventKind, tuple[str, ...]]] = {
    EventKind.CALL: ("call_id", "status", "direction", "from", "to", "duration_seconds"),
    EventKind.SMS: ("message_id", "status", "direction", "from", "to", "text"),
    EventKind.RECORDING: ("recording_id", "call_id", "status", "url", "duration_seconds"),
}


@dataclass(frozen=True, kw_only=True)
class Dial:
    """Sends the call to a SIP address, and asks again when nobody answered there."""

    #: User and host, such as +14155550100@project.sip.livekit.cloud; no scheme, no parameters.
    address: str
    #: "tcp", "tls" or "udp".
    transport: str
    #: What the call answers LiveKit's challenge with, where the vendor's XML can carry it.
    login: SipLogin | None
    ring_seconds: int
    #: The URL that is asked what comes next when the dialled call has ended or was not answered.
    then: str


@dataclass(frozen=True, kw_only=True)
class Forward:
    """Lets another URL answer, such as the one that did before the import."""

    url: str = field(repr=False)
    #: GET or POST.
    method: str


@dataclass(frozen=True, kw_only=True)
class Voicemail:
    """Speaks a message, then records the caller."""

    message: str
    #: Told when the recording is ready.
    recording: str


@dataclass(frozen=True, kw_only=True)
class HangUp:
    """Ends the call."""


@dataclass(frozen=True, kw_only=True)
class Acknowledge:
    """Nothing is to be done: the request only reported something."""


Answer: TypeAlias = Dial | Forward | Voicemail | HangUp | Acknowledge
