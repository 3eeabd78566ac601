"""What providers ask and tell us of calls and messages: verified, answered, stored once."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from worker.answering import AGENT, TRIED, first_answer, next_answer
from worker.checking import Opened
from worker.db.records import Setup
from worker.domain.calls import Acknowledge, Answer, CallbackKind, CallbackRequest, Forward
from worker.domain.errors import InvalidSignature, TrunklineError
from worker.domain.values import NumberStatus, parse_id
from worker.providers import PROVIDERS
from worker.selftest import probe_answer
from worker.service._core import Part

_log = structlog.get_logger()


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
                self._numbers.add_event(
                    setup, kind=event.kind, key=event.key, sealed=self._vault.seal(event.data)
                )
        content_type, body = webhooks.render(answer)
        return CallbackAnswer(content_type=content_type, body=body)

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
        if opened.setup.number.status is NumberStatus.ACTIVE or original is None:
            return None
        try:
            return opened.plan.provider.answer_url(original.parts["voice"])
        except TrunklineError as error:
            # A call waits: better to go on without than to say nothing.
            _log.warning("who answered before cannot be looked up", code=error.code)
            return None
