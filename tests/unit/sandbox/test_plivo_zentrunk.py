from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.sandbox.test_plivo import (
    DIGITS,
    MA,
    OTHER_MA,
    OTHER_MA_TOKEN,
    SA,
    SA_TOKEN,
    TRUNK,
    URI,
    Api,
    seeded,
)

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Control

SECRET = "sandbox-sip-password-1"
NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.fixture
def api(control: Control) -> Api:
    return seeded(control)


def new_credential(api: Api, name: str = "caller") -> str:
    body = {"name": name, "username": "user", "password": SECRET}
    return str(api.create("Zentrunk/Credential/", **body)["credential_uuid"])


def new_outbound(api: Api, **settings: Any) -> str:
    body = {"name": "out", "trunk_direction": "outbound", **settings}
    return str(api.create("Zentrunk/Trunk/", **body)["trunk_id"])


def test_origination_uri_lives_from_create_to_delete(api: Api) -> None:
    answer = api.create(
        "Zentrunk/URI/",
        name="livekit",
        uri="project.sip.livekit.example.com;transport=tcp",
        authentication_needed=True,
        username="user",
        password=SECRET,
    )
    assert answer["message"] == "Origination URI created successfully."
    path = f"Zentrunk/URI/{answer['uri_uuid']}/"
    shown = api.get(path)
    assert shown["uri"] == "project.sip.livekit.example.com;transport=tcp"
    assert (shown["authentication_needed"], shown["username"]) == (True, "user")
    assert "password" not in shown
    assert api.update(path, uri="198.51.100.7:5060")["uri_uuid"] == answer["uri_uuid"]
    assert api.get(path)["uri"] == "198.51.100.7:5060"
    assert api.get(path)["username"] == "user"
    api.delete(path)
    assert api.refused("GET", path) == (404, "not found")
    assert api.refused("DELETE", path) == (404, "not found")


@pytest.mark.parametrize(
    "uri",
    [
        "sip:sip.example.com",
        "sips:sip.example.com",
        "localhost",
        "sip.example.com:99999",
        "sip.example.com:x",
        "sip.example.com/path",
        "sip.example.com;",
        "-a.example.com",
        "",
        7,
    ],
)
def test_origination_uri_is_a_host_without_scheme(api: Api, uri: object) -> None:
    assert api.refused("POST", "Zentrunk/URI/", uri=uri)[0] == 400


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("URI", {"name": "n"}),
        ("URI", {"uri": "a.example.com", "authentication_needed": True}),
        ("URI", {"uri": "a.example.com", "authentication_needed": True, "username": "user"}),
        ("Credential", {"name": "n", "username": "user"}),
        ("Credential", {"name": "n", "password": SECRET}),
        ("IPAccessControlList", {"name": "n"}),
    ],
)
def test_create_without_what_is_required_is_422(api: Api, path: str, body: dict[str, Any]) -> None:
    assert api.refused("POST", f"Zentrunk/{path}/", **body)[0] == 422
    assert [item["uri_uuid"] for item in api.all("Zentrunk/URI/")] == [URI]


def test_password_is_never_returned(api: Api) -> None:
    first = new_credential(api)
    body = {"username": "user", "Password": f"{SECRET}-2"}
    second = api.create("Zentrunk/Credential/", **body)["credential_uuid"]
    assert api.get(f"Zentrunk/Credential/{first}/").keys() == {
        "api_id",
        "credential_uuid",
        "name",
        "username",
    }
    held = api.state()["zentrunk"]["credentials"]
    assert held[first]["fingerprint"] != held[second]["fingerprint"]
    api.update(f"Zentrunk/Credential/{second}/", password=SECRET)
    held = api.state()["zentrunk"]["credentials"]
    assert held[first]["fingerprint"] == held[second]["fingerprint"]
    assert SECRET not in str(api.control.get("/state"))
    assert SECRET not in str(api.control.journal())


def test_access_list_is_replaced_as_a_whole(api: Api) -> None:
    path = "Zentrunk/IPAccessControlList/"
    uuid = api.create(path, name="office", ip_addresses=["198.51.100.1", "198.51.100.2"])[
        "ipacl_uuid"
    ]
    api.update(f"{path}{uuid}/", ip_addresses=["198.51.100.3"])
    shown = api.get(f"{path}{uuid}/")
    assert (shown["name"], shown["ip_addresses"]) == ("office", ["198.51.100.3"])
    for wrong in ([], ["198.51.100.0/24"], "198.51.100.1", [7]):
        assert api.refused("POST", path, ip_addresses=wrong)[0] == 400


def test_inbound_trunk_needs_a_uri_that_exists(api: Api) -> None:
    body = {"name": "in", "trunk_direction": "inbound"}
    assert api.refused("POST", "Zentrunk/Trunk/", **body)[0] == 400
    missing = {**body, "primary_uri_uuid": NOBODY}
    assert api.refused("POST", "Zentrunk/Trunk/", **missing) == (404, "not found")
    fallback = {**body, "primary_uri_uuid": URI, "fallback_uri_uuid": NOBODY}
    assert api.refused("POST", "Zentrunk/Trunk/", **fallback) == (404, "not found")
    answer = api.create("Zentrunk/Trunk/", **body, primary_uri_uuid=URI)
    assert answer["message"] == "Trunk created successfully."
    shown = api.get(f"Zentrunk/Trunk/{answer['trunk_id']}/")
    assert (shown["primary_uri_uuid"], shown["fallback_uri_uuid"]) == (URI, None)
    assert (shown["trunk_status"], shown["secure"]) == ("enabled", False)


def test_outbound_trunk_needs_somebody_who_may_call(api: Api) -> None:
    body = {"name": "out", "trunk_direction": "outbound"}
    assert api.refused("POST", "Zentrunk/Trunk/", **body)[0] == 400
    assert api.refused("POST", "Zentrunk/Trunk/", **body, credential_uuid=NOBODY)[0] == 404
    assert api.refused("POST", "Zentrunk/Trunk/", **body, ipacl_uuid=NOBODY)[0] == 404
    trunk = new_outbound(api, credential_uuid=new_credential(api), secure=True)
    shown = api.get(f"Zentrunk/Trunk/{trunk}/")
    assert shown["trunk_domain"] == f"{trunk}.zt.plivo.com"
    assert shown["secure"] is True


@pytest.mark.parametrize(
    "body",
    [
        {"trunk_direction": "inbound", "primary_uri_uuid": URI},
        {"name": "n", "primary_uri_uuid": URI},
        {"name": "n", "trunk_direction": "both", "primary_uri_uuid": URI},
        {"name": "n", "trunk_direction": "inbound", "primary_uri_uuid": URI, "ipacl_uuid": URI},
        {"name": "n", "trunk_direction": "inbound", "primary_uri_uuid": URI, "secure": "yes"},
        {"name": "n", "trunk_direction": "inbound", "primary_uri_uuid": URI, "trunk_status": "on"},
        {"name": "n", "trunk_direction": "inbound", "primary_uri_uuid": URI, "domain": "d"},
    ],
)
def test_trunk_rules(api: Api, body: dict[str, Any]) -> None:
    assert api.refused("POST", "Zentrunk/Trunk/", **body)[0] == 400
    assert set(api.state()["zentrunk"]["trunks"]) == {TRUNK}


def test_outbound_trunk_takes_no_uri(api: Api) -> None:
    body = {"name": "n", "trunk_direction": "outbound", "primary_uri_uuid": URI}
    uuid = new_credential(api)
    assert api.refused("POST", "Zentrunk/Trunk/", **body, credential_uuid=uuid)[0] == 400


def test_trunk_is_updated_but_does_not_turn_around(api: Api) -> None:
    path = f"Zentrunk/Trunk/{TRUNK}/"
    api.update(path, name="renamed", trunk_status="disabled")
    shown = api.get(path)
    assert (shown["name"], shown["trunk_status"]) == ("renamed", "disabled")
    assert shown["primary_uri_uuid"] == URI
    assert api.refused("POST", path, trunk_direction="outbound")[0] == 400
    assert api.refused("POST", path, primary_uri_uuid=NOBODY)[0] == 404
    assert api.get(path)["trunk_direction"] == "inbound"


def test_trunks_are_filtered_but_not_by_name(api: Api) -> None:
    uuid = new_credential(api)
    trunk = new_outbound(api, credential_uuid=uuid, secure=True)
    for query in ({"trunk_direction": "outbound"}, {"secure": "True"}, {"credential_uuid": uuid}):
        found = api.all("Zentrunk/Trunk/", **query)
        assert [item["trunk_id"] for item in found] == [trunk]
    for kind in ("Trunk", "URI", "Credential", "IPAccessControlList"):
        assert api.call("GET", f"Zentrunk/{kind}/?name=out").status_code == 400


def test_names_repeat_so_that_a_repeated_create_makes_two(api: Api) -> None:
    first, second = new_credential(api, "same"), new_credential(api, "same")
    found = api.all("Zentrunk/Credential/")
    assert [item["credential_uuid"] for item in found] == [second, first]


def test_lists_come_in_pages(api: Api) -> None:
    for number in range(3):
        new_credential(api, f"c{number}")
    page = api.get("Zentrunk/Credential/", limit=2)
    assert len(page["objects"]) == 2
    assert page["meta"]["total_count"] == 3
    assert page["meta"]["next"] == f"v1/Account/{MA}/Zentrunk/Credential/?limit=2&offset=2"
    assert len(api.all("Zentrunk/Credential/", limit=2, offset=2)) == 1
    assert api.call("GET", "Zentrunk/Credential/?limit=21").status_code == 400


def test_deleting_what_a_trunk_uses_breaks_it(api: Api) -> None:
    uuid = new_credential(api)
    trunk = new_outbound(api, credential_uuid=uuid)
    api.delete(f"Zentrunk/Credential/{uuid}/")
    api.delete(f"Zentrunk/URI/{URI}/")
    trunks = api.state()["zentrunk"]["trunks"]
    assert (trunks[trunk]["broken"], trunks[TRUNK]["broken"]) == (True, True)
    assert api.refused("POST", f"Number/{DIGITS}/", app_id=TRUNK)[0] == 400
    api.update(f"Zentrunk/Trunk/{TRUNK}/", name="still there")


def test_deleting_an_access_list_in_use_breaks_its_trunk(api: Api) -> None:
    path = "Zentrunk/IPAccessControlList/"
    uuid = api.create(path, ip_addresses=["198.51.100.1"])["ipacl_uuid"]
    trunk = new_outbound(api, ipacl_uuid=uuid)
    assert api.state()["zentrunk"]["trunks"][trunk]["broken"] is False
    api.delete(f"{path}{uuid}/")
    assert api.state()["zentrunk"]["trunks"][trunk]["broken"] is True


def test_number_does_not_go_to_an_outbound_trunk(api: Api) -> None:
    trunk = new_outbound(api, credential_uuid=new_credential(api))
    assert api.refused("POST", f"Number/{DIGITS}/", app_id=trunk)[0] == 400


def test_trunk_with_numbers_cannot_be_deleted(api: Api) -> None:
    api.update(f"Number/{DIGITS}/", app_id=TRUNK)
    assert api.refused("DELETE", f"Zentrunk/Trunk/{TRUNK}/")[0] == 409
    api.control.post(
        "/edit", {"vendor": "plivo", "account": MA, "number": DIGITS, "set": {"app_id": None}}
    )
    api.delete(f"Zentrunk/Trunk/{TRUNK}/")
    assert api.all("Zentrunk/Trunk/") == []


@pytest.mark.parametrize(("auth_id", "token"), [(OTHER_MA, OTHER_MA_TOKEN), (SA, SA_TOKEN)])
@pytest.mark.parametrize("kind", ["Trunk", "URI", "Credential", "IPAccessControlList"])
def test_account_without_sip_trunking_is_forbidden(
    api: Api, kind: str, auth_id: str, token: str
) -> None:
    other = Api(api.control, auth_id, token)
    for method in ("GET", "POST"):
        assert other.refused(method, f"Zentrunk/{kind}/")[0] == 403
    assert other.get()["auth_id"] == auth_id


def test_journal_names_the_kinds(api: Api) -> None:
    new_outbound(api, credential_uuid=new_credential(api))
    api.all("Zentrunk/IPAccessControlList/")
    entries = api.control.journal(vendor="plivo")
    assert [(entry["operation"], entry["write"]) for entry in entries] == [
        ("plivo.zentrunk_credentials.create", True),
        ("plivo.zentrunk_trunks.create", True),
        ("plivo.zentrunk_ip_access_control_lists.list", False),
    ]
    assert entries[0]["body"]["password"] == "***"
