from __future__ import annotations

import pytest

from tests.unit.providers.examples import settings
from worker.domain.job import Attempt, Lease, StepName
from worker.domain.values import (
    E164,
    NOWHERE,
    CallbackUrls,
    ImportTag,
    Ownership,
    RoutingMode,
    TrunkPlan,
)
from worker.providers.sip import Sip, SipCredentials

URLS = CallbackUrls(
    voice="https://a.example",
    dialed="https://a.example",
    status="https://a.example",
    sms="https://a.example",
    recording="https://a.example",
)
TAG = ImportTag(import_id="imp_1")


@pytest.fixture
def carrier() -> Sip:
    attempt = Attempt(
        import_id="imp_1", step=StepName.CHECK_OWNERSHIP, number=1, lease=Lease(seconds=0)
    )
    return Sip.connect(SipCredentials(), settings(), attempt)


def test_ownership_is_asserted_and_there_is_one_mode(carrier: Sip) -> None:
    assert carrier.ownership is Ownership.ASSERTED
    assert carrier.modes == {RoutingMode.SIP_TRUNK}
    found = carrier.find_number(E164("+447446466847"), None)
    assert (found.id, found.country, found.voice, found.sms) == ("+447446466847", "GB", True, False)


def test_nothing_is_planned_written_or_left_at_the_carrier(carrier: Sip) -> None:
    assert carrier.plan_voice(RoutingMode.SIP_TRUNK, URLS, {}) == {}
    assert carrier.plan_webhooks(URLS, {}, sms=True) == {}
    assert carrier.target("voice", {}) == NOWHERE
    plan = TrunkPlan(origination_host="x", origination_login=None, termination=None, secure=False)
    recorded: list[object] = []
    assert carrier.prepare_trunk(TAG, plan, record=recorded.append).objects == {}
    assert recorded == []
    with pytest.raises(AssertionError):
        carrier.write_routing("+1", {"voice_url": "x"})


def test_a_carrier_takes_no_credentials() -> None:
    with pytest.raises(ValueError, match="Extra inputs"):
        SipCredentials(password="planted")  # type: ignore[call-arg]
