"""What a preflight shows of a Twilio account: its numbers, who answers them, and what is amiss."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.twilio import (
    ACCOUNT,
    CASE,
    FAX,
    NO_SMS,
    NUMBERS_KEY,
    OWNED,
    PENDING,
    SMS_ONLY,
    STANDARD_KEY,
    SUBACCOUNT,
    SUBACCOUNT_NUMBER,
    TOKEN,
    TRUNK,
    VOICE_APP,
    sid,
)
from tests.contract.providers.world import World
from worker.domain.calls import Forward
from worker.domain.errors import (
    InsufficientPermission,
    InvalidRequest,
    NumberNotActive,
    NumberNotVoiceCapable,
    ProviderRateLimited,
    ProviderUnavailable,
)
from worker.domain.values import E164, NOWHERE, ListedNumber, Target
from worker.providers import Provider

BUNDLE = sid("BU", 1)
SERVICE = sid("MG", 1)
PARENT = {"account_sid": SUBACCOUNT, "auth_token": TOKEN, "parent_account_sid": ACCOUNT}
KEY = {"account_sid": ACCOUNT, **STANDARD_KEY}
OLD = "https://old.example.com/voice?key=planted-in-url"


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def listing(provider: Provider, limit: int) -> list[ListedNumber]:
    found: list[ListedNumber] = []
    following: str | None = None
    for _ in range(100):
        page = provider.list_numbers(following, limit=limit)
        assert len(page.numbers) <= limit
        found += page.numbers
        following = page.following
        if following is None:
            return found
    raise AssertionError("the pages have no end")


# --- list -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 7, 66, 67, 100])
@pytest.mark.parametrize("login", [None, KEY], ids=["token", "key"])
def test_all_pages_together_are_the_account(
    world: World, limit: int, login: Mapping[str, str] | None
) -> None:
    provider = world.provider(login)

    found = listing(provider, limit)

    state: Any = world.state()
    assert sorted(number.phone_number for number in found) == sorted(
        state["accounts"][ACCOUNT]["numbers"]
    )
    assert len({number.id for number in found}) == len(found)
    assert len(world.journal()) == -(-len(found) // limit)
    assert not world.journal(write=True)


def test_numbers_are_shown_as_an_import_would_find_them(world: World, provider: Provider) -> None:
    world.edit({"voice_url": OLD})

    shown = {number.phone_number: number for number in listing(provider, 100)}

    assert shown[OWNED] == ListedNumber(
        id=sid("PN", 1),
        phone_number=OWNED,
        country="US",
        voice=True,
        sms=True,
        target=Target(kind="url", value=OLD),
    )
    assert not shown[NO_SMS].sms
    refusals = {number: type(shown[number].refusal) for number in (SMS_ONLY, FAX, PENDING)}
    assert refusals == {
        SMS_ONLY: NumberNotVoiceCapable,
        FAX: NumberNotVoiceCapable,
        PENDING: NumberNotActive,
    }
    assert not shown[SMS_ONLY].voice
    for number, listed in shown.items():
        if listed.refusal is not None:
            with pytest.raises(type(listed.refusal)) as caught:
                provider.find_number(E164(number), None)
            assert str(caught.value) == str(listed.refusal)


def test_who_answers_is_what_wins(world: World, provider: Provider) -> None:
    world.edit({"voice_url": OLD, "trunk_sid": TRUNK})

    shown = {number.phone_number: number.target for number in listing(provider, 100)}

    assert shown[OWNED] == Target(kind="trunk", value=TRUNK)
    assert shown[NO_SMS] == NOWHERE


def test_a_number_of_no_country_is_shown_without_one(provider: Provider) -> None:
    # The crowd's numbers are longer than any of their country.
    crowd = [found for found in listing(provider, 100) if len(found.phone_number) > len(OWNED)]

    assert crowd
    assert {found.country for found in crowd} == {None}


@pytest.mark.parametrize(
    "following", ["", "1", "x.PA1", "1.", "1.PA" + "0" * 300, "1.PA 1", "-1.PA1", "1.PAunknown"]
)
def test_a_page_that_was_never_named_is_refused(provider: Provider, following: str) -> None:
    with pytest.raises(InvalidRequest, match="first one"):
        provider.list_numbers(following, limit=10)


def test_a_page_after_a_number_that_has_left_is_refused(world: World, provider: Provider) -> None:
    page = provider.list_numbers(None, limit=2)
    left = {"account": ACCOUNT, "phone_number": page.numbers[-1].phone_number, "remove": True}
    world.change(left)

    with pytest.raises(InvalidRequest):
        provider.list_numbers(page.following, limit=2)


def test_a_parents_token_lists_the_subaccounts_numbers(world: World) -> None:
    found = listing(world.provider(PARENT), 10)

    assert [number.phone_number for number in found] == [SUBACCOUNT_NUMBER]


# --- advise -----------------------------------------------------------------------------------


def advise(provider: Provider, *, sms: bool = True) -> tuple[str, ...]:
    return provider.advise(provider.find_number(E164(OWNED), None), sms=sms)


@pytest.fixture
def quiet(world: World) -> World:
    """The number with nothing amiss."""
    world.edit({"emergency_address_status": "registered"})
    return world


@pytest.mark.parametrize("login", [None, KEY], ids=["token", "key"])
def test_a_number_with_nothing_amiss_needs_no_word(
    quiet: World, login: Mapping[str, str] | None
) -> None:
    assert advise(quiet.provider(login)) == ()
    assert not quiet.journal(write=True)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"emergency_address_status": "unregistered"}, "no emergency address"),
        ({"emergency_address_status": "pending-registration"}, "still registering"),
        ({"emergency_address_status": "registration-failure"}, "could not register"),
        ({"address_requirements": "local"}, "asks for an address"),
        ({"voice_region": "ie1"}, "region ie1"),
    ],
)
@pytest.mark.parametrize("login", [None, KEY], ids=["token", "key"])
def test_what_is_amiss_with_the_number_is_told(
    quiet: World, login: Mapping[str, str] | None, settings: dict[str, object], says: str
) -> None:
    quiet.edit(settings)

    [sentence] = advise(quiet.provider(login))

    assert says in sentence


def test_an_address_that_is_asked_for_and_given_needs_no_word(quiet: World) -> None:
    quiet.edit({"address_requirements": "any", "address_sid": sid("AD", 1)})

    assert advise(quiet.provider()) == ()


@pytest.mark.parametrize(
    ("status", "says"),
    [
        ("draft", "not been submitted"),
        ("pending-review", "awaiting review"),
        ("in-review", "under review"),
        ("twilio-rejected", "rejected"),
        ("provisionally-approved", "for the time being"),
        ("twilio-approved", None),
    ],
)
@pytest.mark.parametrize("login", [None, KEY], ids=["token", "key"])
def test_a_bundle_that_is_not_approved_is_told(
    quiet: World, login: Mapping[str, str] | None, status: str, says: str | None
) -> None:
    quiet.add({"accounts": [{"sid": ACCOUNT, "bundles": [{"sid": BUNDLE, "status": status}]}]})
    quiet.edit({"bundle_sid": BUNDLE})

    found = advise(quiet.provider(login))

    assert len(found) == (0 if says is None else 1)
    assert all(says is not None and says in sentence for sentence in found)


def _services(world: World, *services: Mapping[str, object]) -> None:
    world.add({"accounts": [{"sid": ACCOUNT, "messaging_services": services}]})


@pytest.mark.parametrize("login", [None, KEY], ids=["token", "key"])
def test_a_messaging_service_that_takes_the_sms_is_told_where_sms_is_wanted(
    quiet: World, login: Mapping[str, str] | None
) -> None:
    _services(quiet, {"sid": sid("MG", 2)}, {"sid": SERVICE, "numbers": [OWNED]})
    provider = quiet.provider(login)

    [sentence] = advise(provider)

    assert SERVICE in sentence
    before = len(quiet.journal())
    assert advise(provider, sms=False) == ()
    asked = {entry["operation"] for entry in quiet.journal()[before:]}
    assert not any("messaging" in operation for operation in asked)


@pytest.mark.parametrize(
    "service",
    [
        {"sid": SERVICE, "numbers": [OWNED], "use_inbound_webhook_on_number": True},
        {"sid": SERVICE, "numbers": [NO_SMS]},
        {"sid": SERVICE},
    ],
)
def test_a_messaging_service_that_changes_nothing_needs_no_word(
    quiet: World, service: dict[str, object]
) -> None:
    _services(quiet, service)

    assert advise(quiet.provider()) == ()


def test_an_account_with_very_many_services_is_not_asked_through(quiet: World) -> None:
    # The newest are listed first: the one that holds the number comes last.
    crowd = [{"sid": sid("MG", 100 + number)} for number in range(30)]
    _services(quiet, {"sid": SERVICE, "numbers": [OWNED]}, *crowd)

    [sentence] = advise(quiet.provider())

    assert "too many" in sentence
    asked = [e for e in quiet.journal() if e["operation"] == "twilio.messaging_senders.fetch"]
    assert len(asked) == 20


def test_what_a_key_may_not_look_up_is_left_out(world: World) -> None:
    world.edit({"voice_region": "ie1", "bundle_sid": BUNDLE})
    _services(world, {"sid": SERVICE, "numbers": [OWNED]})
    world.add({"accounts": [{"sid": ACCOUNT, "bundles": [{"sid": BUNDLE, "status": "draft"}]}]})

    [sentence] = advise(world.provider({"account_sid": ACCOUNT, **NUMBERS_KEY}))

    assert "emergency" in sentence


@pytest.mark.parametrize(
    "operation",
    ["incoming_phone_numbers.fetch", "bundles.fetch", "routes.fetch", "messaging_services.list"],
)
@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_what_is_refused_is_left_out(quiet: World, operation: str, status: int) -> None:
    quiet.edit({"bundle_sid": BUNDLE})
    quiet.fault("status", match={"operation": f"twilio.{operation}"}, status=status, times=9)

    assert advise(quiet.provider()) == ()


@pytest.mark.parametrize(
    "operation",
    [
        "incoming_phone_numbers.fetch",
        "bundles.fetch",
        "routes.fetch",
        "messaging_services.list",
        "messaging_senders.fetch",
    ],
)
@pytest.mark.parametrize(
    ("status", "expected"), [(503, ProviderUnavailable), (429, ProviderRateLimited)]
)
def test_what_may_pass_is_raised(
    quiet: World, operation: str, status: int, expected: type[Exception]
) -> None:
    quiet.edit({"bundle_sid": BUNDLE})
    _services(quiet, {"sid": SERVICE, "numbers": [OWNED]})
    number = quiet.provider().find_number(E164(OWNED), None)
    quiet.fault("status", match={"operation": f"twilio.{operation}"}, status=status, times=9)

    with pytest.raises(expected):
        quiet.provider().advise(number, sms=True)


def test_a_short_fault_is_got_over(quiet: World) -> None:
    quiet.edit({"voice_region": "au1"})
    quiet.fault("cut", match={"operation": "twilio.routes.fetch"})

    [sentence] = advise(quiet.provider())

    assert "au1" in sentence


def test_a_parents_token_asks_only_where_it_is_the_subaccounts(world: World) -> None:
    provider = world.provider(PARENT)
    number = provider.find_number(E164(SUBACCOUNT_NUMBER), None)
    before = len(world.journal())

    [sentence] = provider.advise(number, sms=True)

    assert "emergency" in sentence
    assert [entry["operation"] for entry in world.journal()[before:]] == [
        "twilio.incoming_phone_numbers.fetch"
    ]


# --- who answers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "expected", "calls"),
    [
        ({"voice_url": OLD, "voice_method": "GET"}, Forward(url=OLD, method="GET"), 0),
        ({"voice_url": OLD}, Forward(url=OLD, method="POST"), 0),
        ({"voice_url": OLD, "trunk_sid": TRUNK}, None, 0),
        ({"voice_url": "https://demo.twilio.com/welcome/voice/"}, None, 0),
        ({}, None, 0),
        ({"voice_application_sid": VOICE_APP, "voice_url": OLD}, None, 1),
        (
            {"voice_application_sid": sid("AP", 3), "voice_url": OLD},
            Forward(url="https://app.example.com/voice", method="GET"),
            1,
        ),
        ({"voice_application_sid": sid("AP", 4)}, None, 1),
        ({"voice_application_sid": sid("AP", 99), "voice_url": OLD}, None, 1),
    ],
)
@pytest.mark.parametrize("login", [None, KEY], ids=["token", "key"])
def test_the_url_that_answers(
    world: World,
    login: Mapping[str, str] | None,
    fields: dict[str, str],
    expected: Forward | None,
    calls: int,
) -> None:
    answering = {"voice_url": "https://app.example.com/voice", "voice_method": "GET"}
    demo = {"sid": sid("AP", 4), "voice_url": "http://demo.twilio.com/docs/voice.xml"}
    applications = [{"sid": sid("AP", 3), **answering}, demo]
    world.add({"accounts": [{"sid": ACCOUNT, "applications": applications}]})

    assert world.provider(login).answer_url(fields) == expected
    assert len(world.journal()) == calls


def test_an_application_that_cannot_be_looked_up_is_not_gone(world: World) -> None:
    fields = {"voice_application_sid": VOICE_APP}

    with pytest.raises(InsufficientPermission):
        world.provider({"account_sid": ACCOUNT, **NUMBERS_KEY}).answer_url(fields)
    world.fault("status", status=503, times=3)
    with pytest.raises(ProviderUnavailable):
        world.provider().answer_url(fields)
