"""What only Twilio does."""

from __future__ import annotations

from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.contract.providers.case import ProviderCase
from tests.contract.providers.cases.twilio import (
    ACCOUNT,
    CASE,
    NUMBERS_KEY,
    STRANGER,
    SUBACCOUNT,
    TOKEN,
    sid,
)
from tests.contract.providers.world import PLAN, TAG, World
from worker.domain.errors import (
    InsufficientPermission,
    ProviderUnavailable,
    SipTrunkProvisionFailed,
    UndoFailed,
)
from worker.domain.values import ProviderTrunk, RoutingMode, SipLogin, TrunkPlan
from worker.providers import Provider
from worker.providers._twilio_trunks import trunk_domain
from worker.providers.twilio import Twilio

PARENT = {"account_sid": SUBACCOUNT, "auth_token": TOKEN, "parent_account_sid": ACCOUNT}


@pytest.fixture
def case() -> ProviderCase:
    return CASE


def prepare(provider: Provider, plan: TrunkPlan = PLAN) -> ProviderTrunk:
    return provider.prepare_trunk(TAG, plan, record=lambda _: None)


def test_a_domain_that_somebody_has_is_replaced_by_another(
    world: World, provider: Provider
) -> None:
    domain = trunk_domain(TAG.import_id)
    world.add({"accounts": [{"sid": STRANGER, "trunks": [{"domain_name": domain}]}]})

    trunk = prepare(provider)

    world.case.check_trunk(world.state(), TAG, PLAN, trunk)
    assert trunk.termination_address != domain
    assert prepare(provider) == trunk


def test_a_trunk_that_was_renamed_by_hand_is_found_by_its_domain(
    world: World, provider: Provider
) -> None:
    domain = trunk_domain(TAG.import_id)
    renamed = {"sid": sid("TK", 7), "friendly_name": "renamed", "domain_name": domain}
    world.add({"accounts": [{"sid": ACCOUNT, "trunks": [renamed]}]})

    assert prepare(provider).objects["trunk"] == sid("TK", 7)
    provider.remove_trunk(TAG, {})
    assert not world.made()


def test_a_trunk_without_a_domain_gets_one(world: World, provider: Provider) -> None:
    world.add({"accounts": [{"sid": ACCOUNT, "trunks": [{"friendly_name": TAG.name}]}]})

    trunk = prepare(provider)

    world.case.check_trunk(world.state(), TAG, PLAN, trunk)
    assert trunk.termination_address == trunk_domain(TAG.import_id)


def test_an_account_that_is_full_is_told_so(world: World, provider: Provider) -> None:
    world.add({"accounts": [{"sid": ACCOUNT, "limits": {"trunks": 1}}]})

    with pytest.raises(SipTrunkProvisionFailed, match="as many SIP trunks"):
        prepare(provider)

    provider.remove_trunk(TAG, {})
    assert not world.made()


def test_a_password_that_the_vendor_finds_weak_is_refused(world: World, provider: Provider) -> None:
    weak = TrunkPlan(
        origination_host=None,
        origination_login=None,
        termination=SipLogin(username="trunkline-1", password="planted"),
        secure=False,
    )

    with pytest.raises(SipTrunkProvisionFailed) as caught:
        prepare(provider, weak)

    assert "planted" not in str(caught.value)
    provider.remove_trunk(TAG, {})
    assert not world.made()


def test_a_parents_token_moves_a_subaccounts_number_but_makes_no_trunk(world: World) -> None:
    provider = world.provider(PARENT)

    with pytest.raises(InsufficientPermission, match="own credentials"):
        prepare(provider)
    provider.remove_trunk(TAG, {})
    assert not world.journal(), "its trunks would be the parent's"

    with pytest.raises(InsufficientPermission):
        provider.verify_credentials(RoutingMode.SIP_TRUNK)


def test_a_key_without_the_right_to_trunks_can_be_undone(world: World) -> None:
    provider = world.provider({"account_sid": ACCOUNT, **NUMBERS_KEY})

    with pytest.raises(InsufficientPermission):
        prepare(provider)
    provider.remove_trunk(TAG, {})

    # What is on record is never taken for absent.
    with pytest.raises(InsufficientPermission):
        provider.remove_trunk(TAG, {"trunk": sid("TK", 7)})


def test_a_credential_list_that_is_used_elsewhere_is_not_deleted(
    world: World, provider: Provider
) -> None:
    trunk = prepare(provider)
    settings = world.settings()
    requests.post(
        f"{settings.twilio_trunking_base_url}/v1/Trunks/{sid('TK', 1)}/CredentialLists",
        {"CredentialListSid": trunk.objects["credential_list"]},
        auth=(ACCOUNT, TOKEN),
        timeout=5,
    ).raise_for_status()

    with pytest.raises(UndoFailed, match="still uses them"):
        provider.remove_trunk(TAG, trunk.objects)

    assert set(world.made()) == {"credential_list", "credential", "mapping"}


def test_a_number_that_is_set_to_nothing_is_left_without_its_methods_cleared(
    world: World, provider: Provider
) -> None:
    before = world.number()

    provider.write_routing(
        world.case.number_id,
        {
            "voice_url": "",
            "voice_method": "",
            "voice_receive_mode": "",
            "voice_caller_id_lookup": "",
        },
    )

    assert world.number() == before


def test_a_trunk_and_an_application_are_never_sent_together(
    world: World, provider: Provider
) -> None:
    taken = {"trunk_sid": sid("TK", 1), "voice_application_sid": sid("AP", 1)}

    provider.write_routing(world.case.number_id, taken)

    [entry] = world.journal(write=True)
    assert entry["body"] == {"TrunkSid": sid("TK", 1)}


def test_an_application_is_restored_without_a_word_on_the_trunk(
    world: World, provider: Provider
) -> None:
    back = {"trunk_sid": "", "voice_application_sid": sid("AP", 1)}

    provider.write_routing(world.case.number_id, back)

    [entry] = world.journal(write=True)
    assert entry["body"] == {"VoiceApplicationSid": sid("AP", 1)}


@pytest.mark.parametrize("kind", ["trunks", "origination_urls", "credential_lists"])
def test_a_name_that_an_earlier_write_of_ours_has_just_taken_is_adopted(
    world: World, provider: Provider, kind: str
) -> None:
    world.fault("lost_status", match={"operation": f"twilio.{kind}.create"}, status=400)

    trunk = prepare(provider)

    world.case.check_trunk(world.state(), TAG, PLAN, trunk)


def test_objects_that_were_renamed_by_hand_are_removed_by_their_ids(
    world: World, provider: Provider
) -> None:
    made = prepare(provider).objects
    settings = world.settings()
    trunk = f"{settings.twilio_trunking_base_url}/v1/Trunks/{made['trunk']}"
    lists = f"{settings.twilio_api_base_url}/2010-04-01/Accounts/{ACCOUNT}/SIP/CredentialLists"
    renamings = (
        (trunk, "DomainName"),
        (trunk, "FriendlyName"),
        (f"{lists}/{made['credential_list']}.json", "FriendlyName"),
    )
    for url, name in renamings:
        form = {name: "renamed.pstn.twilio.com"}
        requests.post(url, form, auth=(ACCOUNT, TOKEN), timeout=5).raise_for_status()

    provider.remove_trunk(TAG, made)

    assert not world.made()


def test_a_stale_record_does_not_hide_what_has_our_name(world: World, provider: Provider) -> None:
    prepare(provider)

    provider.remove_trunk(TAG, {"trunk": sid("TK", 7), "credential_list": sid("CL", 7)})

    assert not world.made()


def test_parts_are_deleted_before_what_they_hang_on(world: World, provider: Provider) -> None:
    trunk = prepare(provider)
    before = len(world.journal(write=True))

    provider.remove_trunk(TAG, trunk.objects)

    assert [entry["operation"] for entry in world.journal(write=True)[before:]] == [
        "twilio.trunk_credential_lists.delete",
        "twilio.origination_urls.delete",
        "twilio.trunks.delete",
        "twilio.credential_lists.delete",
    ]


class Blanking(HTTPAdapter):
    """Passes requests on, but takes what was made out of the answer to one kind of them."""

    def __init__(self, ending: str) -> None:
        super().__init__()
        self._ending = ending

    def send(self, request: requests.PreparedRequest, **rest: Any) -> requests.Response:  # type: ignore[override]
        answer = super().send(request, **rest)
        if request.method == "POST" and request.path_url.endswith(self._ending):
            answer._content = b"{}"
        return answer


@pytest.mark.parametrize(
    "ending", ["/Trunks", "/OriginationUrls", "/CredentialLists.json", "/Credentials.json"]
)
def test_what_was_made_without_an_id_is_found_by_the_next_attempt(
    world: World, ending: str
) -> None:
    provider = world.provider()
    assert isinstance(provider, Twilio)
    provider._http.session.mount("http://", Blanking(ending))

    with pytest.raises(ProviderUnavailable) as caught:
        prepare(provider)
    assert caught.value.outcome_unknown

    trunk = prepare(world.provider(number=2))
    world.case.check_trunk(world.state(), TAG, PLAN, trunk)
    assert {len(ids) for ids in world.made().values()} == {1}
