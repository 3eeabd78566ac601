"""What providers ask and tell us of calls and messages: verified, answered, stored once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import structlog

from worker.answering import AGENT, TRIED, first_answer, next_answer
from worker.checking import Opened
from worker.db.records import Setup
from worker.domain.calls import (
    Acknowledge,
    Answer,
    CallbackKind,
    CallbackRequest,
    Event,
    Forward,
)
from worker.domain.errors import InvalidRequest, InvalidSignature, TrunklineError
from worker.domain.job import Attempt, Lease
from worker.domain.values import NumberStatus, format_id, parse_id
from worker.providers import PROVIDERS
from worker.selftest import probe_answer
from worker.service._core import Part

_log = structlog.get_logger()

#: Ids of vendors are short and plain; the database could neither hold nor index every text.
_KEY: Final = re.compile(r"[!-~]{1,512}")
#: Beyond one call outside: a caller hears nothing while we look, and vendors wait 5 to 15 s.
_LOOKING_SECONDS: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class CallbackAnswer:
    """What goes back to a provider."""

    content_type: str
    body: bytes


class Calls(Part):
    """Requests of providers, signed with the account's own secret; no API key is involved."""

    @property
    def public_base_url(self) -> str:
        """Where providers reach the callbacks."""
        return self._settings.public_base_url

    def prove(self, nonce: str, url: str) -> str:
        """Returns what proves to our own self-test that the URL led here."""
        return probe_answer(self._settings, nonce, url)

    def answer_callback(
        self, provider: str, kind: CallbackKind, number_id: str, request: CallbackRequest
    ) -> CallbackAnswer:
        """Answers a webhook request: says what becomes of a call, or keeps what it reports.

        Raises:
            InvalidSignature: the provider did not sign it for this number.
            InvalidRequest: it is signed, but says nothing that can be understood.

        Safe to repeat: yes, the same report is kept once.
        """
        found = parse_id("num", number_id)
        setup = None if found is None else self._numbers.setup(found)
        if setup is None or setup.number.provider != provider:
            raise InvalidSignature
        opened = Opened(setup, settings=self._settings, vault=self._vault, doing=kind)
        webhooks = opened.plan.provider.webhooks
        if webhooks is None or not self._is_signed(opened, setup, request):
            raise InvalidSignature
        # A signature need not cover the URL: what was sent for one number counts for no other.
        named = webhooks.numbers(request)
        if named is not None and not _is_among(setup.number.e164, named):
            raise InvalidSignature
        answer: Answer = Acknowledge()
        if kind is CallbackKind.VOICE:
            answer = first_answer(opened.plan, setup.number.status, self._previous(opened))
        elif kind is CallbackKind.DIALED:
            tried = request.query.get(TRIED, AGENT)
            answered = webhooks.is_answered(request)
            answer = next_answer(opened.plan, tried=tried, answered=answered)
        else:
            event = webhooks.event(kind, request)
            if event is not None:
                self._keep(setup, event)
        content_type, body = webhooks.render(answer)
        return CallbackAnswer(content_type=content_type, body=body)

    def _keep(self, setup: Setup, event: Event) -> None:
        if _KEY.fullmatch(event.key) is None:
            raise InvalidRequest("The report's id is none that a provider gives.")
        self._numbers.add_event(
            setup, kind=event.kind, key=event.key, sealed=self._vault.seal(_whole(event.data))
        )

    def _is_signed(self, opened: Opened, setup: Setup, request: CallbackRequest) -> bool:
        """Whether the provider signed it, with the present secret or one replaced just now."""
        webhooks = opened.plan.provider.webhooks
        if webhooks is None:
            return False
        if webhooks.verify(opened.credentials, request):
            return True
        if setup.replaced_sealed is None:
            return False
        model = PROVIDERS[opened.plan.spec.provider].credentials_model
        before = model(**self._vault.open(setup.replaced_sealed))
        return bool(webhooks.verify(before, request))

    def _previous(self, opened: Opened) -> Forward | None:
        """Who answered before the import, while calls are not ours; looked up where need be."""
        original = opened.original
        number = opened.setup.number
        if number.status is NumberStatus.ACTIVE or original is None:
            return None
        settings = self._settings
        lease = Lease(seconds=settings.call_seconds + _LOOKING_SECONDS)
        attempt = Attempt(
            import_id=format_id("num", number.id), step="forward", number=1, lease=lease
        )
        adapter = PROVIDERS[opened.plan.spec.provider]
        try:
            provider = adapter.connect(opened.credentials, settings, attempt)
            return provider.answer_url(original.parts["voice"])
        except TrunklineError as error:
            # A call waits: better to go on without than to say nothing.
            _log.warning("who answered before cannot be looked up", code=error.code)
            return None


def _is_among(number: str, named: frozenset[str]) -> bool:
    """Whether digits are the number's, also without its country code or with zeros before them."""
    ours = number.removeprefix("+")
    return any(
        ours.endswith(digits) or digits.endswith(ours)
        for digits in (one.lstrip("0") for one in named)
    )


def _whole(data: Mapping[str, str | int | None]) -> dict[str, str | int | None]:
    """Replaces halves of surrogate pairs: JSON from outside may hold them, an answer cannot."""
    return {
        name: value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        if isinstance(value, str)
        else value
        for name, value in data.items()
    }
