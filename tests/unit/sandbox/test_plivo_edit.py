"""Changes by hand of what an import makes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.unit.sandbox.test_plivo import DEMO_APP, DIGITS, MA, PLIVO_SEED, TRUNK, URI, Api

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Control


@pytest.fixture
def api(control: Control) -> Api:
    control.post("/reset", {"plivo": PLIVO_SEED})
    return Api(control)


def edit(api: Api, **document: object) -> None:
    api.control.post("/edit", {"vendor": "plivo", "account": MA, **document})


def refusal(api: Api, **document: object) -> str:
    response = api.control.http.post("/edit", json={"vendor": "plivo", "account": MA, **document})
    assert response.status_code == 400
    return str(response.json()["error"])


def test_an_edit_of_an_application_keeps_what_is_not_given(api: Api) -> None:
    api.update(f"Application/{DEMO_APP}/", answer_url="https://a.example.com/", public_uri=True)
    before = api.get(f"Application/{DEMO_APP}/")

    edit(api, kind="application", id=DEMO_APP, set={"answer_method": "GET", "enabled": False})

    after = api.get(f"Application/{DEMO_APP}/")
    assert after == {
        **before,
        "api_id": after["api_id"],
        "answer_method": "GET",
        "enabled": False,
    }


def test_no_update_by_api_enables_an_application(api: Api) -> None:
    edit(api, kind="application", id=DEMO_APP, set={"enabled": False})

    api.update(f"Application/{DEMO_APP}/", answer_url="https://a.example.com/")

    assert api.get(f"Application/{DEMO_APP}/")["enabled"] is False
    status, text = api.refused("POST", f"Application/{DEMO_APP}/", enabled=True)
    assert (status, "enabled" in text) == (400, True)


def test_an_edit_of_zentrunk_keeps_what_is_not_given(api: Api) -> None:
    edit(api, kind="trunk", id=TRUNK, set={"trunk_status": "disabled"})
    edit(api, kind="uri", id=URI, set={"uri": "elsewhere.example.com"})

    trunk = api.get(f"Zentrunk/Trunk/{TRUNK}/")
    assert (trunk["trunk_status"], trunk["name"]) == ("disabled", "seeded")
    assert trunk["primary_uri_uuid"] == URI
    assert api.get(f"Zentrunk/URI/{URI}/")["uri"] == "elsewhere.example.com"


def test_a_credential_can_be_changed_and_removed(api: Api) -> None:
    body = {"name": "n", "username": "u", "password": "sandbox-password"}
    made = api.create("Zentrunk/Credential/", **body)["credential_uuid"]

    edit(api, kind="credential", id=made, set={"username": "v"})
    assert api.get(f"Zentrunk/Credential/{made}/")["username"] == "v"

    edit(api, kind="credential", id=made, remove=True)
    assert api.refused("GET", f"Zentrunk/Credential/{made}/")[0] == 404


@pytest.mark.parametrize(
    ("kind", "target", "path"),
    [("application", DEMO_APP, "Application"), ("trunk", TRUNK, "Zentrunk/Trunk")],
)
def test_what_a_number_uses_can_be_removed_by_hand(
    api: Api, kind: str, target: str, path: str
) -> None:
    api.update(f"Number/{DIGITS}/", app_id=target)
    assert api.refused("DELETE", f"{path}/{target}/")[0] == 409

    edit(api, kind=kind, id=target, remove=True)

    assert api.refused("GET", f"{path}/{target}/")[0] == 404
    assert api.number()["application"] is None
    assert target not in api.state()["endpoints"].values()


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"kind": "application", "id": TRUNK, "remove": True}, "has no application"),
        ({"kind": "trunk", "id": DEMO_APP, "remove": True}, "has no trunk"),
        ({"kind": "uri", "id": URI, "set": {"uri": "sip:wrong"}}, "FQDN"),
        ({"kind": "trunk", "id": TRUNK, "set": {"primary_uri_uuid": "none"}}, "not found"),
        ({"kind": "trunk", "id": TRUNK, "set": {"trunk_status": "off"}}, "trunk_status"),
        ({"kind": "application", "id": DEMO_APP, "set": {"enabled": "no"}}, "enabled"),
        ({"kind": "application", "id": DEMO_APP, "set": {"colour": 1}}, "colour"),
        ({"kind": "endpoint", "id": "1"}, "kind"),
        ({"kind": "uri", "id": URI, "set": {}, "more": 1}, "more"),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    api: Api, document: dict[str, object], words: str
) -> None:
    before = api.state()

    assert words in refusal(api, **document)
    assert api.state() == before
