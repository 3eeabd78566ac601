from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from twilio.base.exceptions import TwilioRestException

from tests.unit.sandbox.conftest import AC, NUMBER, OTHER_AC, OTHER_TOKEN, PN

if TYPE_CHECKING:
    from collections.abc import Callable

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control

DOMAIN = "byon-1.pstn.twilio.com"
ORIGINATION = {
    "weight": 1,
    "priority": 1,
    "enabled": True,
    "friendly_name": "livekit",
    "sip_url": "sip:abc.sip.livekit.cloud;transport=tcp",
}


def refusal(call: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        call()
    return caught.value.status, caught.value.code


def test_whole_trunk_is_built_and_taken_down(control: Control, twilio: Client) -> None:
    trunks = twilio.trunking.v1.trunks
    trunk = trunks.create(friendly_name="t", domain_name=DOMAIN)
    assert (trunk.sid[:2], trunk.domain_name, trunk.auth_type) == ("TK", DOMAIN, "")
    url = trunks(trunk.sid).origination_urls.create(**ORIGINATION)
    lists = twilio.sip.credential_lists
    credentials = lists.create(friendly_name="list")
    mapped = trunks(trunk.sid).credentials_lists.create(credential_list_sid=credentials.sid)
    assert (mapped.sid, mapped.trunk_sid) == (credentials.sid, trunk.sid)
    assert trunks(trunk.sid).fetch().auth_type == "CREDENTIAL_LIST"
    attached = trunks(trunk.sid).phone_numbers.create(phone_number_sid=PN)
    assert (attached.phone_number, attached.trunk_sid) == (NUMBER, trunk.sid)
    shown = control.account()["trunks"][trunk.sid]
    assert shown["numbers"] == [NUMBER]
    assert shown["credential_list_sids"] == [credentials.sid]
    assert [item["sip_url"] for item in shown["origination_urls"]] == [ORIGINATION["sip_url"]]

    assert refusal(trunks(trunk.sid).delete) == (400, 21247)
    assert refusal(lists(credentials.sid).delete) == (400, 21241)
    assert trunks(trunk.sid).phone_numbers(PN).delete()
    assert twilio.incoming_phone_numbers(PN).fetch().trunk_sid is None
    assert trunks(trunk.sid).credentials_lists(credentials.sid).delete()
    assert lists(credentials.sid).delete()
    assert trunks(trunk.sid).origination_urls(url.sid).delete()
    assert trunks(trunk.sid).delete()
    assert refusal(trunks(trunk.sid).fetch) == (404, 20404)
    assert refusal(trunks(trunk.sid).delete) == (404, 20404)


def test_list_follows_absolute_links_to_this_host(
    control: Control, twilio: Client, server: str
) -> None:
    for number in range(7):
        twilio.trunking.v1.trunks.create(friendly_name=f"t{number}")
    found = twilio.trunking.v1.trunks.list(page_size=3)
    assert len({trunk.sid for trunk in found}) == 7
    page = twilio.trunking.v1.trunks.page(page_size=3)
    assert page.next_page_url.startswith(f"{server}/twilio-trunking/v1/Trunks?")
    assert len(control.journal(operation="twilio.trunks.list")) == 4


def test_update_changes_only_what_is_sent(twilio: Client) -> None:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t", secure=True)
    updated = twilio.trunking.v1.trunks(trunk.sid).update(transfer_mode="enable-all")
    assert (updated.friendly_name, updated.secure) == ("t", True)
    assert updated.transfer_mode == "enable-all"


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"friendly_name": "x" * 65}, 20002),
        ({"domain_name": "trunk.example.com"}, 21245),
        ({"domain_name": "pstn.twilio.com"}, 21245),
        ({"domain_name": "-x.pstn.twilio.com"}, 21245),
        ({"domain_name": "under_score.pstn.twilio.com"}, 21245),
        ({"domain_name": f"{'x' * 64}.pstn.twilio.com"}, 21245),
        ({"domain_name": "x.pstn.ashburn.twilio.com"}, 21252),
        ({"domain_name": "a.unowned.pstn.twilio.com"}, 21247),
        ({"transfer_mode": "sometimes"}, 20001),
        ({"disaster_recovery_url": "http://localhost/"}, 21402),
    ],
)
def test_trunk_rules(twilio: Client, fields: dict[str, Any], code: int) -> None:
    create = twilio.trunking.v1.trunks.create
    assert refusal(lambda: create(**fields)) == (400, code)
    assert twilio.trunking.v1.trunks.list() == []


def test_domain_is_unique_over_all_accounts(
    twilio: Client, twilio_client: Callable[..., Client]
) -> None:
    twilio.trunking.v1.trunks.create(domain_name=DOMAIN)
    again = twilio.trunking.v1.trunks.create
    elsewhere = twilio_client(OTHER_AC, OTHER_TOKEN).trunking.v1.trunks.create
    assert refusal(lambda: again(domain_name=DOMAIN)) == (400, 21245)
    assert refusal(lambda: elsewhere(domain_name=DOMAIN.upper())) == (400, 21248)


def test_domain_of_a_deleted_trunk_stays_taken(control: Control, twilio: Client) -> None:
    trunk = twilio.trunking.v1.trunks.create(domain_name=DOMAIN)
    twilio.trunking.v1.trunks(trunk.sid).delete()
    create = twilio.trunking.v1.trunks.create
    assert refusal(lambda: create(domain_name=DOMAIN)) == (400, 21248)
    assert control.get("/state")["twilio"]["reserved_domains"] == [DOMAIN]


def test_trunk_with_subdomains_cannot_go(twilio: Client) -> None:
    trunks = twilio.trunking.v1.trunks
    parent = trunks.create(domain_name=DOMAIN)
    child = trunks.create(domain_name=f"child.{DOMAIN}")
    assert refusal(trunks(parent.sid).delete) == (400, 21247)
    assert refusal(lambda: trunks(parent.sid).update(domain_name="")) == (400, 21247)
    trunks(child.sid).delete()
    assert trunks(parent.sid).delete()


def test_trunk_limit(control: Control, twilio: Client) -> None:
    control.post("/seed", {"twilio": {"accounts": [{"sid": AC, "limits": {"trunks": 2}}]}})
    create = twilio.trunking.v1.trunks.create
    create(friendly_name="1")
    create(friendly_name="2")
    assert refusal(lambda: create(friendly_name="3")) == (400, 21244)


def test_trial_account_has_one_trunk(control: Control, twilio: Client) -> None:
    control.post("/seed", {"twilio": {"accounts": [{"sid": AC, "type": "Trial"}]}})
    create = twilio.trunking.v1.trunks.create
    create(friendly_name="1")
    assert refusal(lambda: create(friendly_name="2")) == (400, 21244)


@pytest.mark.parametrize(
    "change",
    [
        {"weight": 0},
        {"weight": 65536},
        {"priority": 65536},
        {"weight": "x"},
        {"sip_url": "sips:abc.sip.livekit.cloud"},
        {"sip_url": "abc.sip.livekit.cloud"},
        {"sip_url": "sip:"},
        {"sip_url": ""},
        {"friendly_name": ""},
    ],
)
def test_origination_url_rules(twilio: Client, change: dict[str, Any]) -> None:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    urls = twilio.trunking.v1.trunks(trunk.sid).origination_urls
    assert refusal(lambda: urls.create(**{**ORIGINATION, **change})) == (400, 20001)
    assert urls.list() == []


def test_origination_url_can_be_changed(twilio: Client) -> None:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    urls = twilio.trunking.v1.trunks(trunk.sid).origination_urls
    url = urls.create(**{**ORIGINATION, "priority": 0, "weight": 65535})
    assert (url.priority, url.weight, url.enabled) == (0, 65535, True)
    updated = urls(url.sid).update(enabled=False)
    assert (updated.enabled, updated.weight) == (False, 65535)
    assert [item.sid for item in urls.list()] == [url.sid]
    assert urls(url.sid).fetch().sip_url == ORIGINATION["sip_url"]


def test_origination_url_fields_are_all_required(control: Control, twilio: Client) -> None:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    response = control.http.post(
        f"{control.url}/twilio-trunking/v1/Trunks/{trunk.sid}/OriginationUrls",
        auth=(AC, "sandbox-token-1"),
        data={"SipUrl": "sip:a.example.com", "Weight": "1", "Priority": "1", "Enabled": "true"},
    )
    assert response.json()["message"] == "Missing required parameter FriendlyName in the post body"


def test_mapping_refuses_unknown_and_mapped_lists(twilio: Client) -> None:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    mapping = twilio.trunking.v1.trunks(trunk.sid).credentials_lists
    item = twilio.sip.credential_lists.create(friendly_name="list")
    missing = "CL" + "9" * 32
    assert refusal(lambda: mapping.create(credential_list_sid=missing)) == (404, 20404)
    mapping.create(credential_list_sid=item.sid)
    assert refusal(lambda: mapping.create(credential_list_sid=item.sid)) == (400, 21245)
    assert [entry.sid for entry in mapping.list()] == [item.sid]
    assert mapping(item.sid).delete()
    assert refusal(mapping(item.sid).delete) == (404, 20404)


def test_attaching_a_number_removes_its_application(twilio: Client) -> None:
    application = twilio.applications.create(friendly_name="a")
    twilio.incoming_phone_numbers(PN).update(voice_application_sid=application.sid)
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    numbers = twilio.trunking.v1.trunks(trunk.sid).phone_numbers
    numbers.create(phone_number_sid=PN)
    number = twilio.incoming_phone_numbers(PN).fetch()
    assert (number.trunk_sid, number.voice_application_sid) == (trunk.sid, "")
    assert [item.sid for item in numbers.list()] == [PN]
    assert numbers(PN).fetch().phone_number == NUMBER


def test_attached_number_is_not_attached_again(twilio: Client) -> None:
    first = twilio.trunking.v1.trunks.create(friendly_name="1")
    second = twilio.trunking.v1.trunks.create(friendly_name="2")
    trunks = twilio.trunking.v1.trunks
    trunks(first.sid).phone_numbers.create(phone_number_sid=PN)
    for sid in (first.sid, second.sid):
        create = partial(trunks(sid).phone_numbers.create, phone_number_sid=PN)
        assert refusal(create) == (400, 21245)
    assert refusal(trunks(second.sid).phone_numbers(PN).delete) == (404, 20404)
    # The number's own update replaces the trunk without asking.
    assert twilio.incoming_phone_numbers(PN).update(trunk_sid=second.sid).trunk_sid == second.sid


def test_number_without_voice_is_not_attached(control: Control, twilio: Client) -> None:
    edit = {"vendor": "twilio", "account": AC, "phone_number": NUMBER}
    control.post("/edit", {**edit, "set": {"capabilities": {"voice": False, "sms": True}}})
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    attach = twilio.trunking.v1.trunks(trunk.sid).phone_numbers.create
    update = twilio.incoming_phone_numbers(PN).update
    assert refusal(lambda: attach(phone_number_sid=PN)) == (400, 21245)
    assert refusal(lambda: update(trunk_sid=trunk.sid)) == (400, 21245)


def test_unknown_number_is_not_attached(twilio: Client) -> None:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    create = twilio.trunking.v1.trunks(trunk.sid).phone_numbers.create
    assert refusal(lambda: create(phone_number_sid="PN" + "9" * 32)) == (404, 20404)
