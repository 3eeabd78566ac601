"""Which number a webhook request is about, as far as it tells."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import urlencode

import pytest

from worker.domain.calls import CallbackRequest
from worker.domain.errors import InvalidRequest
from worker.providers import PROVIDERS
from worker.providers._core import Webhooks, concerned

OURS, THEIRS = "+14155550100", "+12025550123"
WEBHOOKS: Mapping[str, Webhooks] = {
    name: provider.webhooks for name, provider in PROVIDERS.items() if provider.webhooks is not None
}


def posted(content_type: str, body: bytes) -> CallbackRequest:
    return CallbackRequest(
        method="POST",
        url="https://voice.example.com/",
        headers={"content-type": content_type},
        body=body,
    )


def form(**fields: str) -> CallbackRequest:
    return posted("application/x-www-form-urlencoded", urlencode(fields).encode())


def message(**payload: object) -> CallbackRequest:
    return posted("application/json", json.dumps({"data": {"payload": payload}}).encode())


@pytest.mark.parametrize(
    ("text", "digits"),
    [
        ("+14155550100", "14155550100"),
        ("14155550100", "14155550100"),
        (" 14155550100", "14155550100"),
        ("0014155550100", "0014155550100"),
        ("sip:+14155550100@sip.example.com;transport=tls", "14155550100"),
        ("14155550100@sip.example.com", "14155550100"),
        ("whatsapp:+14155550100", "14155550100"),
        ("4155550100", "4155550100"),
        ("72645", None),
        ("sip:reception@sip.example.com", None),
        ("anonymous", None),
        ("+1 415 555 0100", None),
        ("١٤١٥٥٥٥٠١٠٠", None),
        ("1" * 16, None),
        ("", None),
        (None, None),
        (14155550100, None),
    ],
)
def test_a_number_is_read_however_it_is_written(text: object, digits: str | None) -> None:
    found = concerned("inbound", senders=(), receivers=(text,))

    assert found == (None if digits is None else frozenset({digits}))


@pytest.mark.parametrize("name", WEBHOOKS)
def test_the_direction_says_whose_call_it_is(name: str) -> None:
    webhooks = WEBHOOKS[name]
    both = {"From": THEIRS, "To": OURS}

    assert webhooks.numbers(form(**both, Direction="inbound")) == frozenset({OURS[1:]})
    outbound = "outbound" if name == "plivo" else "outbound-api"
    assert webhooks.numbers(form(**both, Direction=outbound)) == frozenset({THEIRS[1:]})
    assert webhooks.numbers(form(**both)) == frozenset({OURS[1:], THEIRS[1:]})


@pytest.mark.parametrize("name", WEBHOOKS)
def test_who_withholds_the_caller_hides_not_the_called(name: str) -> None:
    for direction in ({}, {"Direction": "inbound"}):
        found = WEBHOOKS[name].numbers(form(From="anonymous", To=OURS, **direction))
        assert found == frozenset({OURS[1:]})


@pytest.mark.parametrize("name", WEBHOOKS)
@pytest.mark.parametrize("fields", [{}, {"From": OURS}, {"RecordingSid": "1"}, {"To": "client:a"}])
def test_what_names_no_called_number_tells_nothing(name: str, fields: dict[str, str]) -> None:
    assert WEBHOOKS[name].numbers(form(**fields)) is None
    assert WEBHOOKS[name].numbers(posted("application/json", b"{")) is None


@pytest.mark.parametrize("name", WEBHOOKS)
def test_too_many_fields_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequest):
        WEBHOOKS[name].numbers(form(**{f"f{place}": "" for place in range(501)}))


def test_a_message_at_telnyx_names_all_its_receivers() -> None:
    telnyx = WEBHOOKS["telnyx"]
    parties = {"from": {"phone_number": THEIRS}, "to": [{"phone_number": OURS}]}
    copied = {**parties, "cc": [{"phone_number": "+13125550199"}]}

    assert telnyx.numbers(message(**parties, direction="inbound")) == frozenset({OURS[1:]})
    assert telnyx.numbers(message(**parties, direction="outbound")) == frozenset({THEIRS[1:]})
    assert telnyx.numbers(message(**copied, direction="inbound")) == frozenset(
        {OURS[1:], "13125550199"}
    )
    assert telnyx.numbers(message()) is None
    unreadable: tuple[object, ...] = (None, [7], {}, [{"phone_number": 7}])
    for broken in unreadable:
        assert telnyx.numbers(message(to=broken)) is None
