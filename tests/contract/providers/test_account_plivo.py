"""What a Plivo account shows beside the number of an import: the others, advice, who answers."""

from __future__ import annotations

import pytest

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.plivo import (
    ACCOUNT,
    APP,
    CASE,
    INACTIVE,
    NO_SMS,
    OTHER_APP,
    SMS_ONLY,
    TRUNK,
    UNROUTED,
    account_of,
)
from tests.contract.providers.world import World
from worker.domain.calls import Forward
from worker.domain.errors import (
    InvalidRequest,
    NumberNotActive,
    NumberNotVoiceCapable,
    ProviderUnavailable,
)
from worker.domain.values import E164, NOWHERE, ListedNumber, NumberListing, Target
from worker.providers import Provider


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def listed(provider: Provider, limit: int) -> list[ListedNumber]:
    found: list[ListedNumber] = []
    following: str | None = None
    for _ in range(100):
        page = provider.list_numbers(following, limit=limit)
        assert len(page.numbers) <= min(limit, 20)
        found += page.numbers
        following = page.following
        if following is None:
            return found
    raise AssertionError("the listing has no end")


@pytest.mark.parametrize("limit", [1, 7, 20, 100])
def test_every_number_is_listed_once(world: World, provider: Provider, limit: int) -> None:
    found = listed(provider, limit)

    seeded = account_of(world.state())["numbers"]
    assert sorted(number.id for number in found) == sorted(seeded)
    assert not world.journal(write=True)
    assert len(world.journal()) == -(-len(seeded) // min(limit, 20)), "no page was asked for twice"


def test_a_listing_says_who_answers_and_what_cannot_be_imported(provider: Provider) -> None:
    found = {number.phone_number: number for number in listed(provider, 20)}

    number = found[CASE.number]
    assert (number.id, number.country) == (CASE.number_id, "US")
    assert (number.voice, number.sms, number.refusal) == (True, True, None)
    assert number.target == Target(kind="application", value=APP)
    assert found[UNROUTED].target == NOWHERE
    assert isinstance(found[SMS_ONLY].refusal, NumberNotVoiceCapable)
    assert isinstance(found[INACTIVE].refusal, NumberNotActive)
    assert not found[NO_SMS].sms


def test_a_short_code_is_listed_as_it_is(world: World, provider: Provider) -> None:
    world.add({"accounts": [{"auth_id": ACCOUNT, "numbers": [{"number": "262966"}]}]})

    (number,) = (number for number in listed(provider, 20) if number.id == "262966")

    assert (number.phone_number, number.country) == ("262966", None)


@pytest.mark.parametrize("following", ["", "-1", "1&app_id=2", "x", "1" * 10, "１"])
def test_a_page_that_nobody_named_is_refused(
    world: World, provider: Provider, following: str
) -> None:
    with pytest.raises(InvalidRequest, match="first page"):
        provider.list_numbers(following, limit=20)
    assert not world.journal()


def test_a_page_behind_the_last_is_empty(provider: Provider) -> None:
    assert provider.list_numbers("999999999", limit=20) == NumberListing(numbers=(), following=None)


@pytest.mark.parametrize(
    ("settings", "sms", "words"),
    [
        ({}, True, ()),
        ({"compliance_status": "accepted"}, True, ()),
        ({"compliance_status": "rejected"}, False, ("`rejected`",)),
        ({"compliance_status": "<b>planted</b>"}, False, ()),
        ({"tendlc_registration_status": "COMPLETED"}, True, ()),
        ({"tendlc_registration_status": "UNREGISTERED"}, True, ("10DLC",)),
        ({"tendlc_registration_status": "PROCESSING"}, True, ("10DLC",)),
        ({"tendlc_registration_status": "UNREGISTERED"}, False, ()),
        ({"toll_free_sms_verification": "verified"}, True, ()),
        ({"toll_free_sms_verification": "unverified"}, True, ("toll-free",)),
        ({"toll_free_sms_verification": "unverified"}, False, ()),
        (
            {"compliance_status": "submitted", "tendlc_registration_status": "PROCESSING"},
            True,
            ("`submitted`", "10DLC"),
        ),
    ],
)
def test_advice_tells_what_plivo_waits_for(
    world: World,
    provider: Provider,
    settings: dict[str, str],
    words: tuple[str, ...],
    *,
    sms: bool,
) -> None:
    world.edit(settings)
    number = provider.find_number(E164(CASE.number), None)

    said = provider.advise(number, sms=sms)

    assert len(said) == len(words)
    for sentence, word in zip(said, words, strict=True):
        assert word in sentence
    assert not world.journal(write=True)


def test_advice_that_may_not_be_looked_up_is_left_out(world: World, provider: Provider) -> None:
    world.edit({"compliance_status": "rejected"})
    number = provider.find_number(E164(CASE.number), None)

    world.fault("status", status=403)
    assert provider.advise(number, sms=True) == ()
    world.fault("status", status=500, times=None)
    with pytest.raises(ProviderUnavailable):
        provider.advise(number, sms=True)
    world.clear_faults()
    world.edit({"remove": True})
    assert provider.advise(number, sms=True) == ()


def test_the_application_of_a_number_answers(world: World, provider: Provider) -> None:
    seeded = account_of(world.state())["applications"][APP]

    found = provider.answer_url({"app_id": APP})

    assert found == Forward(url=seeded["answer_url"], method="POST")
    assert [entry["operation"] for entry in world.journal()] == ["plivo.applications.fetch"]
    world.change(
        {"account": ACCOUNT, "kind": "application", "id": APP, "set": {"answer_method": "GET"}}
    )
    assert provider.answer_url({"app_id": APP}) == Forward(url=seeded["answer_url"], method="GET")


@pytest.mark.parametrize("app_id", [TRUNK, OTHER_APP, "99999999999999999", ""])
def test_a_trunk_no_url_and_nothing_answer_by_no_url(provider: Provider, app_id: str) -> None:
    assert provider.answer_url({"app_id": app_id}) is None


def test_could_not_look_up_is_not_no_url(world: World, provider: Provider) -> None:
    world.fault("status", status=500, times=None)

    with pytest.raises(ProviderUnavailable):
        provider.answer_url({"app_id": APP})
