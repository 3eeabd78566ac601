from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from pydantic import SecretStr

from tests.conftest import make_settings
from worker.answering import AGENT, FALLBACK, first_answer, next_answer
from worker.domain.calls import Dial, Forward, HangUp, Voicemail
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.spec import ImportSecrets, ImportSpec
from worker.domain.values import (
    E164,
    ImportTag,
    MediaEncryption,
    NumberStatus,
    Ownership,
    ProviderName,
    RoutingMode,
    SipLogin,
    SipTransport,
)
from worker.plans import Plan
from worker.providers.twilio import Twilio

SETTINGS = make_settings("postgresql://h/d")
SPEC = ImportSpec(
    phone_number=E164("+14155550100"),
    provider=ProviderName.TWILIO,
    routing_mode=RoutingMode.WEBHOOK,
    ownership=Ownership.PROVEN,
    number_sid=None,
    friendly_name=None,
    agent_id=None,
    user_id=None,
    supports_inbound=True,
    supports_outbound=True,
    replace_existing_routing=False,
    sms_enabled=False,
    sip_trunk_name=None,
    sip_address=None,
    sip_transport=SipTransport.AUTO,
    media_encryption=MediaEncryption.ALLOW,
    allowed_addresses=(),
    room_prefix="call-",
    fallback_agent_id=None,
    voicemail_message=None,
    price=None,
    metadata={},
)
ATTEMPT = Attempt(import_id="imp_1", step=StepName.ROUTE_NUMBER, number=1, lease=Lease(seconds=60))
BEFORE = Forward(url="https://pbx.example.com/voice", method="GET")
NOT_OURS = sorted(set(NumberStatus) - {NumberStatus.ACTIVE})


def plan(*, fallback: str | None = None, **spec: Any) -> Plan:
    credentials = Twilio.credentials_model.model_validate(
        {"account_sid": f"AC{'0' * 32}", "auth_token": SecretStr("planted")}
    )
    return Plan(
        spec=replace(SPEC, **spec),
        secrets=ImportSecrets(
            inbound_username="tlin1",
            inbound_password="planted-password",
            termination_username="tlout1",
            termination_password="planted-password-2",
            sip_username=None,
            sip_password=None,
            pin="",
            fingerprint="",
        ),
        settings=SETTINGS,
        provider=Twilio.connect(credentials, SETTINGS, ATTEMPT),
        tag=ImportTag(import_id="imp_1"),
        number_id=UUID(int=1),
        agent_name="agent",
        fallback_agent_name=fallback,
    )


def test_a_call_to_an_active_number_rings_at_livekit() -> None:
    one = plan()

    answer = first_answer(one, NumberStatus.ACTIVE, None)

    assert answer == Dial(
        address="+14155550100@sandbox.sip.livekit.example",
        transport="tcp",
        login=SipLogin(username="tlin1", password="planted-password"),
        ring_seconds=SETTINGS.ring_seconds,
        then=f"{one.urls.dialed}?tried=agent",
    )


def test_a_call_to_an_active_number_is_never_sent_back() -> None:
    assert isinstance(first_answer(plan(), NumberStatus.ACTIVE, BEFORE), Dial)


@pytest.mark.parametrize(
    ("transport", "word"),
    [(SipTransport.TLS, "tls"), (SipTransport.TCP, "tcp"), (SipTransport.AUTO, "tcp")],
)
def test_the_call_goes_over_the_transport_that_was_asked_for(
    transport: SipTransport, word: str
) -> None:
    answer = first_answer(plan(sip_transport=transport), NumberStatus.ACTIVE, None)

    assert isinstance(answer, Dial)
    assert answer.transport == word


@pytest.mark.parametrize("status", NumberStatus)
def test_without_inbound_nothing_rings(status: NumberStatus) -> None:
    assert first_answer(plan(supports_inbound=False), status, None) == HangUp()


@pytest.mark.parametrize("status", NOT_OURS)
def test_who_answered_before_answers_while_the_number_is_not_active(status: NumberStatus) -> None:
    assert first_answer(plan(), status, BEFORE) == BEFORE
    assert first_answer(plan(supports_inbound=False), status, BEFORE) == BEFORE


@pytest.mark.parametrize("status", NOT_OURS)
def test_a_url_of_ours_is_nobody_else(status: NumberStatus) -> None:
    ours = Forward(url=plan().urls.voice, method="POST")

    answer = first_answer(plan(), status, ours)

    assert answer == first_answer(plan(), status, None)
    assert not isinstance(answer, Forward)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (NumberStatus.PENDING, Dial),
        (NumberStatus.RELEASING, HangUp),
        (NumberStatus.RELEASED, HangUp),
    ],
)
def test_where_nobody_answered_before(status: NumberStatus, kind: type) -> None:
    assert isinstance(first_answer(plan(), status, None), kind)


@pytest.mark.parametrize("tried", [AGENT, FALLBACK, "", "nonsense"])
def test_after_a_call_that_was_answered_there_is_nothing(tried: str) -> None:
    one = plan(fallback="b", voicemail_message="Please leave a message.")

    assert next_answer(one, tried=tried, answered=True) == HangUp()


def test_the_fallback_agent_comes_first_and_once() -> None:
    one = plan(fallback="b", voicemail_message="Please leave a message.")

    answer = next_answer(one, tried=AGENT, answered=False)

    assert isinstance(answer, Dial)
    user, _, host = answer.address.partition("@")
    assert user not in ("+14155550100", "14155550100"), "it would ring at the same agent"
    assert host == "sandbox.sip.livekit.example"
    assert urlsplit(answer.then).query == "tried=fallback"
    assert answer.login == one.inbound_login
    for tried in (FALLBACK, "", "nonsense"):
        after = next_answer(one, tried=tried, answered=False)
        assert after == Voicemail(message="Please leave a message.", recording=one.urls.recording)


@pytest.mark.parametrize("message", [None, ""])
def test_without_fallback_and_message_the_call_ends(message: str | None) -> None:
    one = plan(voicemail_message=message)

    for tried in (AGENT, FALLBACK, "nonsense"):
        assert next_answer(one, tried=tried, answered=False) == HangUp()


def test_without_a_fallback_agent_the_message_comes_at_once() -> None:
    one = plan(voicemail_message="Please leave a message.")

    assert isinstance(next_answer(one, tried=AGENT, answered=False), Voicemail)
