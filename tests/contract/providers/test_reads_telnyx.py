"""What Telnyx tells beforehand: the account's numbers, what else they do, who answers them now."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deploy.sandbox.vendor import fingerprint
from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.telnyx import (
    ACCOUNT,
    CALL_CONTROL,
    CASE,
    CREDENTIAL,
    FOREIGN,
    IP,
    KEY,
    NO_SMS,
    NUMBERS_KEY,
    OTHER,
    OWNED,
    PENDING,
    STRANGERS_KEY,
    TEXML,
)
from tests.contract.providers.world import World
from worker.domain.calls import Forward
from worker.domain.errors import (
    InsufficientPermission,
    InvalidRequest,
    NumberNotActive,
    ProviderUnavailable,
)
from worker.domain.values import E164, NOWHERE, ListedNumber, Target
from worker.providers import Provider


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def add_numbers(world: World, *numbers: Mapping[str, object]) -> None:
    world.add({"accounts": [{"id": ACCOUNT, "api_key": KEY, "numbers": list(numbers)}]})


def every_page(provider: Provider, limit: int) -> list[ListedNumber]:
    found: list[ListedNumber] = []
    following: str | None = None
    while True:
        page = provider.list_numbers(following, limit=limit)
        found += page.numbers
        assert len(page.numbers) <= limit
        following = page.following
        if following is None:
            return found


# --- list_numbers -----------------------------------------------------------------------------


def test_numbers_are_listed_with_who_answers_them(world: World, provider: Provider) -> None:
    world.edit({"connection_id": TEXML})
    add_numbers(world, {"phone_number": "+442079460123", "connection_id": CREDENTIAL})

    page = provider.list_numbers(None, limit=100)

    found = {number.phone_number: number for number in page.numbers}
    assert page.following is None
    assert set(found) == {OWNED, OTHER, PENDING, NO_SMS, "+442079460123"}
    owned = found[OWNED]
    assert owned.id == world.case.number_id
    assert (owned.country, owned.voice, owned.sms, owned.refusal) == ("US", True, True, None)
    assert owned.target == Target(kind="application", value=TEXML)
    assert found["+442079460123"].target == Target(kind="connection", value=CREDENTIAL)
    assert found["+442079460123"].country == "GB"
    assert found[OTHER].target == NOWHERE
    assert not found[NO_SMS].sms
    assert isinstance(found[PENDING].refusal, NumberNotActive)
    assert not world.journal(write=True)


@pytest.mark.parametrize("status", ["purchase-pending", "emergency-only", "ported-out", "deleted"])
def test_only_an_active_number_can_be_imported(
    world: World, provider: Provider, status: str
) -> None:
    world.edit({"status": status})

    found = {number.phone_number: number for number in every_page(provider, 100)}

    assert isinstance(found[OWNED].refusal, NumberNotActive)


@pytest.mark.parametrize("limit", [1, 3, 5, 100])
def test_every_number_is_on_one_page(world: World, provider: Provider, limit: int) -> None:
    add_numbers(world, *({"phone_number": f"+1415555{number}"} for number in range(2000, 2008)))

    found = [number.phone_number for number in every_page(provider, limit)]

    assert len(found) == len(set(found)) == 12


def test_an_account_without_numbers_has_one_empty_page(world: World) -> None:
    provider = world.provider({"api_key": STRANGERS_KEY})
    stranger = f"telnyx-{fingerprint(STRANGERS_KEY)}"
    world.change({"account": stranger, "phone_number": FOREIGN, "remove": True})

    assert provider.list_numbers(None, limit=100).numbers == ()
    assert provider.list_numbers(None, limit=100).following is None


def test_a_connection_is_looked_up_once(world: World, provider: Provider) -> None:
    numbers = ({"phone_number": f"+1415555{number}"} for number in range(2000, 2008))
    add_numbers(world, *({**number, "connection_id": IP} for number in numbers))

    provider.list_numbers(None, limit=100)

    operations = [entry["operation"] for entry in world.journal()]
    assert operations == [
        "telnyx.phone_numbers.list",
        "telnyx.phone_numbers.messaging.list",
        "telnyx.connections.retrieve",
    ]


@pytest.mark.parametrize(
    "following", ["", "0", "-1", "x", "01", "1.5", "²", "1\n", "9" * 400, "page=2"]
)
def test_a_page_that_nobody_named_is_refused(
    world: World, provider: Provider, following: str
) -> None:
    with pytest.raises(InvalidRequest):
        provider.list_numbers(following, limit=10)
    assert not world.journal()


def test_a_page_after_the_last_is_empty(provider: Provider) -> None:
    page = provider.list_numbers("99", limit=10)

    assert (page.numbers, page.following) == ((), None)


@pytest.mark.parametrize(
    "operation",
    [
        "telnyx.phone_numbers.list",
        "telnyx.phone_numbers.messaging.list",
        "telnyx.connections.retrieve",
    ],
)
def test_a_listing_that_could_not_be_read_is_none(
    world: World, provider: Provider, operation: str
) -> None:
    world.edit({"connection_id": IP})
    match = {"operation": operation}
    world.fault("status", match=match, status=503, times=2)
    assert provider.list_numbers(None, limit=100).numbers

    for action in ("garbage", "empty", "cut"):
        world.clear_faults()
        world.fault(action, match=match, times=None)
        with pytest.raises(ProviderUnavailable):
            provider.list_numbers(None, limit=100)


# --- advise -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({}, None),
        ({"emergency_status": "active"}, None),
        ({"emergency_status": "provisioning"}, "still registering"),
        ({"emergency_status": "deprovisioning"}, "removing"),
        ({"emergency_status": "provisioning-failed"}, "Correct the address"),
        ({"inbound_call_screening": "flag_calls"}, None),
        ({"inbound_call_screening": "reject_calls"}, "screening"),
        ({"call_recording_enabled": True}, "records"),
        ({"forwards_to": OTHER, "forwarding_type": "always"}, None),
        ({"translated_number": OTHER}, None),
    ],
)
def test_what_else_a_number_does_is_told(
    world: World, provider: Provider, settings: dict[str, object], word: str | None
) -> None:
    world.edit(settings)
    number = provider.find_number(E164(OWNED), None)

    told = provider.advise(number, sms=True)

    assert len(told) == (word is not None)
    assert word is None or word in told[0]
    assert not set(told) & set(number.warnings)
    assert not world.journal(write=True)


def test_what_may_not_be_looked_up_is_left_out(world: World, provider: Provider) -> None:
    world.edit({"call_recording_enabled": True})
    number = provider.find_number(E164(OWNED), None)

    world.fault("status", status=403, times=1)
    assert provider.advise(number, sms=False) == ()
    world.fault("status", status=503, times=None)
    with pytest.raises(ProviderUnavailable):
        provider.advise(number, sms=False)
    world.clear_faults()
    world.edit({"remove": True})
    assert provider.advise(number, sms=False) == ()


# --- answer_url -------------------------------------------------------------------------------


def test_a_texml_application_answers(world: World, provider: Provider) -> None:
    world.edit({"connection_id": TEXML})
    url = "https://old.example.com/voice?key=planted-in-url"
    routing = provider.read_routing(world.case.number_id)
    assert routing is not None

    assert provider.answer_url(routing.parts["voice"]) == Forward(url=url, method="POST")

    application = {"account": ACCOUNT, "kind": "texml_application", "id": TEXML}
    world.change({**application, "set": {"voice_method": "get"}})
    assert provider.answer_url(routing.parts["voice"]) == Forward(url=url, method="GET")
    world.change({**application, "remove": True})
    assert provider.answer_url(routing.parts["voice"]) is None


@pytest.mark.parametrize("connection", [None, CALL_CONTROL, CREDENTIAL, IP])
def test_nothing_else_does(world: World, provider: Provider, connection: str | None) -> None:
    world.edit({"connection_id": connection})
    routing = provider.read_routing(world.case.number_id)
    assert routing is not None
    before = len(world.journal())

    assert provider.answer_url(routing.parts["voice"]) is None
    assert provider.answer_url({}) is None
    assert len(world.journal()) == before


def test_who_answers_is_not_guessed(world: World, provider: Provider) -> None:
    fields = {"connection_id": TEXML, "connection_type": "texml_application"}
    world.fault("status", status=503, times=None)
    with pytest.raises(ProviderUnavailable):
        provider.answer_url(fields)
    world.clear_faults()

    narrow = world.provider({"api_key": NUMBERS_KEY})
    assert narrow.answer_url(fields) is not None
    world.fault("status", status=403, times=1)
    with pytest.raises(InsufficientPermission):
        provider.answer_url(fields)
