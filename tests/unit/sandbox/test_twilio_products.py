from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twilio.base.exceptions import TwilioRestException

from tests.unit.sandbox.conftest import AC, NUMBER, OTHER_AC, OTHER_TOKEN, PN

if TYPE_CHECKING:
    from collections.abc import Callable

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control

OTHER_NUMBER = "+14155550101"
BUNDLE = "BU" + "0" * 31 + "1"
SERVICE = "MG" + "0" * 31 + "1"
OTHER_SERVICE = "MG" + "0" * 31 + "2"
SK = "SK" + "0" * 31 + "1"
SECRET = "sandbox-key-secret-1"


def add(control: Control, **account: Any) -> None:
    control.post("/seed", {"twilio": {"accounts": [{"sid": AC, **account}]}})


def refusal(call: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        call()
    return caught.value.status, caught.value.code


def edit(control: Control, **document: object) -> None:
    control.post("/edit", {"vendor": "twilio", "account": AC, **document})


def refused_edit(control: Control, **document: object) -> str:
    body = {"vendor": "twilio", "account": AC, **document}
    answer = control.http.post("/edit", json=body)
    assert answer.status_code == 400
    return answer.text


def test_a_bundle_is_its_accounts_own(
    control: Control, twilio: Client, twilio_client: Callable[..., Client]
) -> None:
    add(control, bundles=[{"sid": BUNDLE, "status": "in-review"}])
    bundles = twilio.numbers.v2.regulatory_compliance.bundles

    assert bundles(BUNDLE).fetch().status == "in-review"
    assert refusal(bundles("BU" + "9" * 32).fetch) == (404, 20404)
    other = twilio_client(OTHER_AC, OTHER_TOKEN).numbers.v2.regulatory_compliance.bundles
    assert refusal(other(BUNDLE).fetch) == (404, 20404)


def test_services_are_paged_and_know_their_numbers(control: Control, twilio: Client) -> None:
    crowd = [{"sid": f"MG{number:032d}"} for number in range(10, 17)]
    own = {"sid": SERVICE, "numbers": [NUMBER], "use_inbound_webhook_on_number": True}
    add(control, messaging_services=[own, *crowd])
    services = twilio.messaging.v1.services

    assert len(services.list(page_size=3)) == 8
    assert len(control.journal(operation="twilio.messaging_services.list")) == 3
    found = services(SERVICE).fetch()
    assert (found.use_inbound_webhook_on_number, found.inbound_request_url) == (True, None)
    [sender] = services(SERVICE).phone_numbers.list()
    assert (sender.sid, sender.phone_number) == (PN, NUMBER)
    assert sender.capabilities == ["Voice", "SMS", "MMS"]
    assert services(SERVICE).phone_numbers(PN).fetch().service_sid == SERVICE
    assert refusal(services(crowd[0]["sid"]).phone_numbers(PN).fetch) == (404, 20404)
    assert refusal(services(OTHER_SERVICE).fetch) == (404, 20404)


def test_a_number_is_in_one_service_at_most(control: Control) -> None:
    add(control, messaging_services=[{"sid": SERVICE, "numbers": [NUMBER]}])
    again = {"sid": OTHER_SERVICE, "numbers": [NUMBER]}
    body = {"twilio": {"accounts": [{"sid": AC, "messaging_services": [again]}]}}

    assert control.http.post("/seed", json=body).status_code == 400
    add(control, messaging_services=[{"sid": SERVICE}, again])


def test_a_number_has_a_region(control: Control, twilio: Client) -> None:
    routes = twilio.routes.v2.phone_numbers

    assert routes(NUMBER).fetch().voice_region == "us1"
    edit(control, phone_number=NUMBER, set={"voice_region": "ie1"})
    assert (routes(NUMBER).fetch().voice_region, routes(NUMBER).fetch().phone_number) == (
        "ie1",
        NUMBER,
    )
    assert refusal(routes(OTHER_NUMBER).fetch) == (404, 20404)


@pytest.mark.parametrize("kind", ["standard", "restricted"])
def test_a_key_reads_products_by_its_rights(
    control: Control, twilio_client: Callable[..., Client], kind: str
) -> None:
    add(control, api_keys=[{"sid": SK, "secret": SECRET, "kind": kind}])
    route = twilio_client(SK, SECRET, AC).routes.v2.phone_numbers(NUMBER)

    if kind == "standard":
        assert route.fetch().voice_region == "us1"
    else:
        assert refusal(route.fetch) == (401, 70051)


def test_whom_the_primary_token_is_shown_to_can_be_set(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    add(control, secondary_auth_token="sandbox-token-1b", shows_token_to_secondary=True)

    account = twilio_client(AC, "sandbox-token-1b").api.v2010.accounts(AC).fetch()

    assert account.auth_token == "sandbox-token-1"


def build(twilio: Client) -> dict[str, str]:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t", domain_name="t.pstn.twilio.com")
    urls = twilio.trunking.v1.trunks(trunk.sid).origination_urls
    origination = urls.create(
        weight=1, priority=1, enabled=True, friendly_name="t", sip_url="sip:a.example.com"
    )
    lists = twilio.sip.credential_lists
    mapped = lists.create(friendly_name="t")
    login = lists(mapped.sid).credentials.create("user", "Planted-Password-1")
    twilio.trunking.v1.trunks(trunk.sid).credentials_lists.create(mapped.sid)
    application = twilio.applications.create(friendly_name="t")
    return {
        "trunk": trunk.sid,
        "origination": origination.sid,
        "credential_list": mapped.sid,
        "credential": login.sid,
        "application": application.sid,
        "mapping": f"{trunk.sid}/{mapped.sid}",
    }


def test_everything_can_be_changed_by_hand(control: Control, twilio: Client) -> None:
    made = build(twilio)
    requests = len(control.journal())

    edit(control, kind="trunk", id=made["trunk"], set={"secure": True, "friendly_name": "x"})
    edit(control, kind="origination", id=made["origination"], set={"enabled": False})
    edit(control, kind="credential_list", id=made["credential_list"], set={"friendly_name": "x"})
    edit(control, kind="credential", id=made["credential"], set={"password": "Changed-Password-2"})
    edit(control, kind="application", id=made["application"], set={"voice_method": "GET"})

    account = control.account()
    trunk = account["trunks"][made["trunk"]]
    assert (trunk["secure"], trunk["friendly_name"]) == (True, "x")
    assert trunk["domain_name"] == "t.pstn.twilio.com"
    assert [url["enabled"] for url in trunk["origination_urls"]] == [False]
    assert account["credential_lists"][made["credential_list"]]["friendly_name"] == "x"
    assert account["applications"][made["application"]]["voice_method"] == "GET"
    assert len(control.journal()) == requests, "nobody asked over the wire"


def test_everything_can_be_removed_by_hand_in_the_vendors_order(
    control: Control, twilio: Client
) -> None:
    made = build(twilio)

    assert "still mapped" in refused_edit(
        control, kind="credential_list", id=made["credential_list"], remove=True
    )
    edit(control, phone_number=NUMBER, set={"trunk_sid": made["trunk"]})
    assert "still has" in refused_edit(control, kind="trunk", id=made["trunk"], remove=True)
    edit(control, phone_number=NUMBER, set={"trunk_sid": ""})
    for kind in ("origination", "credential", "mapping", "credential_list", "trunk", "application"):
        edit(control, kind=kind, id=made[kind], remove=True)

    account = control.account()
    assert not account["trunks"]
    assert not account["credential_lists"]
    assert not account["applications"]


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ({"kind": "trunk", "id": "TK1"}, "either sets something or removes"),
        (
            {"kind": "trunk", "id": "TK1", "remove": True, "set": {"secure": True}},
            "either sets something or removes",
        ),
        ({"kind": "trunk", "id": "TK1", "remove": True}, "not found"),
        ({"kind": "origination", "id": "OU1", "remove": True}, "not found"),
        ({"kind": "credential", "id": "CR1", "remove": True}, "not found"),
        ({"kind": "mapping", "id": "TK1/CL1", "remove": True}, "not found"),
        ({"kind": "mapping", "id": "TK1/CL1", "set": {"a": 1}}, "only removed"),
        ({"kind": "number", "id": "PN1", "remove": True}, "kind"),
        ({"kind": "trunk", "id": "TK1", "remove": True, "account": "AC1"}, "no account"),
    ],
)
def test_an_edit_that_makes_no_sense_is_refused(
    control: Control, document: dict[str, object], says: str
) -> None:
    assert says in refused_edit(control, **document)


def test_by_hand_the_vendors_rules_hold_too(control: Control, twilio: Client) -> None:
    made = build(twilio)

    assert "sip:" in refused_edit(
        control, kind="origination", id=made["origination"], set={"sip_url": "sips:a.example.com"}
    )
    assert "Unknown parameters" in refused_edit(
        control, kind="trunk", id=made["trunk"], set={"secured": True}
    )
