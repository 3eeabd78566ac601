from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Control

MA = "MAXXXXXXXXXXXXXXXXX1"
MA_TOKEN = "sandbox-plivo-token-1"
OTHER_MA = "MAXXXXXXXXXXXXXXXXX2"
OTHER_MA_TOKEN = "sandbox-plivo-token-2"
SA = "SAXXXXXXXXXXXXXXXXX1"
SA_TOKEN = "sandbox-plivo-token-3"
DIGITS = "14155550100"
SUB_DIGITS = "14155550199"
DEMO_APP = "10000000000000001"
SUB_APP = "10000000000000002"
URI = "f19c4773-4ae6-4b75-92ea-9cf3ea4227d6"
TRUNK = "20000000000000001"

PLIVO_SEED: dict[str, Any] = {
    "accounts": [
        {
            "auth_id": MA,
            "auth_token": MA_TOKEN,
            "zentrunk": {
                "uris": [{"uri_uuid": URI, "uri": "sip.example.com"}],
                "trunks": [
                    {
                        "trunk_id": TRUNK,
                        "name": "seeded",
                        "trunk_direction": "inbound",
                        "primary_uri_uuid": URI,
                    }
                ],
            },
            "applications": [
                {
                    "app_id": DEMO_APP,
                    "app_name": "Demo Speak",
                    "answer_url": "https://demo.example.com/answer",
                    "endpoints": ["phone"],
                }
            ],
            "numbers": [{"number": DIGITS, "app_id": DEMO_APP}],
        },
        {"auth_id": OTHER_MA, "auth_token": OTHER_MA_TOKEN, "sip_trunking": False},
        {
            "auth_id": SA,
            "auth_token": SA_TOKEN,
            "main": MA,
            "applications": [
                {"app_id": SUB_APP, "app_name": "sub", "answer_url": "https://sub.example.com/"}
            ],
            "numbers": [{"number": SUB_DIGITS, "app_id": SUB_APP}],
        },
    ]
}


@dataclass
class Api:
    """Plivo over the wire, as one auth id sees it."""

    control: Control
    auth_id: str = MA
    token: str = MA_TOKEN

    def call(self, method: str, path: str = "", **options: Any) -> httpx.Response:
        return self.control.http.request(
            method,
            f"{self.control.url}/plivo/v1/Account/{self.auth_id}/{path}",
            auth=(self.auth_id, self.token),
            **options,
        )

    def get(self, path: str = "", **query: str | int | bool) -> dict[str, Any]:
        return self.done(self.call("GET", path, params=query), 200)

    def all(self, path: str, **query: str | int | bool) -> list[dict[str, Any]]:
        objects: list[dict[str, Any]] = self.get(path, **query)["objects"]
        return objects

    def create(self, path: str, **body: Any) -> dict[str, Any]:
        return self.done(self.call("POST", path, json=body), 201)

    def update(self, path: str, **body: Any) -> dict[str, Any]:
        return self.done(self.call("POST", path, json=body), 202)

    def delete(self, path: str, **query: str) -> None:
        response = self.call("DELETE", path, params=query)
        assert (response.status_code, response.content) == (204, b"")

    def refused(self, method: str, path: str, **body: Any) -> tuple[int, str]:
        """The status and the message of an error in the vendor's shape."""
        response = self.call(method, path, json=body or None)
        document = response.json()
        assert document.keys() == {"api_id", "error"}
        return response.status_code, str(document["error"])

    def number(self, digits: str = DIGITS) -> dict[str, Any]:
        return self.get(f"Number/{digits}/")

    def state(self) -> dict[str, Any]:
        account: dict[str, Any] = self.control.get("/state")["plivo"]["accounts"][MA]
        return account

    @staticmethod
    def done(response: httpx.Response, status: int) -> dict[str, Any]:
        assert response.status_code == status, response.text
        document: dict[str, Any] = response.json()
        assert document["api_id"]
        return document


def seeded(control: Control) -> Api:
    control.post("/seed", {"plivo": PLIVO_SEED})
    return Api(control)


@pytest.fixture
def api(control: Control) -> Api:
    return seeded(control)


@pytest.fixture
def sub(api: Api) -> Api:
    return Api(api.control, SA, SA_TOKEN)


def test_account_tells_its_credit(api: Api) -> None:
    account = api.get()
    assert (account["auth_id"], account["account_type"]) == (MA, "standard")
    assert account["cash_credits"] == "100.00000"
    assert account["resource_uri"] == f"/v1/Account/{MA}/"


def test_subaccount_credentials_are_good_but_tell_nothing_about_money(sub: Api) -> None:
    account = sub.get()
    assert account["auth_id"] == SA
    assert "cash_credits" not in account


@pytest.mark.parametrize(
    ("auth_id", "token"),
    [
        (MA, "wrong"),
        (MA, ""),
        (MA, OTHER_MA_TOKEN),
        (SA, MA_TOKEN),
        ("MAXXXXXXXXXXXXXXXXX9", MA_TOKEN),
    ],
)
def test_wrong_credentials_are_refused_in_plain_text(api: Api, auth_id: str, token: str) -> None:
    response = Api(api.control, auth_id, token).call("GET", "Number/")
    assert response.status_code == 401
    assert response.headers["Content-Type"].startswith("text/plain")


def test_path_of_another_account_is_refused(api: Api) -> None:
    for auth_id in (OTHER_MA, SA):
        url = f"{api.control.url}/plivo/v1/Account/{auth_id}/Number/"
        assert api.control.http.get(url, auth=(MA, MA_TOKEN)).status_code == 401


def test_disabled_subaccount_is_refused(api: Api, sub: Api) -> None:
    api.control.post(
        "/seed", {"plivo": {"accounts": [{"auth_id": SA, "main": MA, "enabled": False}]}}
    )
    assert sub.call("GET").status_code == 401


def test_number_is_found_by_its_digits(api: Api) -> None:
    number = api.number()
    assert number["number"] == DIGITS
    assert number["application"] == f"/v1/Account/{MA}/Application/{DEMO_APP}/"
    assert (number["voice_enabled"], number["sms_enabled"], number["active"]) == (True, True, True)
    assert (number["alias"], number["sub_account"]) == (None, None)


def test_number_with_plus_or_of_somebody_else_is_not_found(api: Api) -> None:
    assert api.refused("GET", f"Number/+{DIGITS}/") == (404, "not found")
    assert api.refused("GET", "Number/14155550177/") == (404, "not found")
    other = Api(api.control, OTHER_MA, OTHER_MA_TOKEN)
    assert other.refused("GET", f"Number/{DIGITS}/") == (404, "not found")


def test_numbers_are_listed_by_beginning(api: Api) -> None:
    assert {item["number"] for item in api.all("Number/")} == {DIGITS, SUB_DIGITS}
    assert [item["number"] for item in api.all("Number/", number_startswith=DIGITS)] == [DIGITS]
    assert api.all("Number/", number_startswith="4155550100") == []


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({"subaccount": SA}, [SUB_DIGITS]),
        ({"alias": "front desk"}, [DIGITS]),
        ({"services": "voice,sms"}, [SUB_DIGITS]),
        ({"type": "tollfree"}, [DIGITS]),
    ],
)
def test_numbers_are_filtered(api: Api, filters: dict[str, str], expected: list[str]) -> None:
    changes = {"alias": "front desk", "number_type": "tollfree", "sms_enabled": False}
    edit = {"vendor": "plivo", "account": MA, "number": DIGITS, "set": changes}
    api.control.post("/edit", edit)
    assert [item["number"] for item in api.all("Number/", **filters)] == expected


def test_list_comes_in_pages_of_at_most_twenty(api: Api) -> None:
    numbers = [{"number": f"1415555{index:04}"} for index in range(1000, 1043)]
    api.control.post("/seed", {"plivo": {"accounts": [{"auth_id": MA, "numbers": numbers}]}})
    first = api.get("Number/")
    assert first["meta"] == {
        "limit": 20,
        "offset": 0,
        "total_count": 45,
        "next": f"/v1/Account/{MA}/Number/?limit=20&offset=20",
        "previous": None,
    }
    last = api.get("Number/", limit=20, offset=40)
    assert (len(last["objects"]), last["meta"]["next"]) == (5, None)
    assert last["meta"]["previous"] == f"/v1/Account/{MA}/Number/?limit=20&offset=20"
    pages = [api.all("Number/", offset=offset) for offset in (0, 20, 40)]
    assert len({item["number"] for page in pages for item in page}) == 45


@pytest.mark.parametrize("query", ["limit=21", "limit=0", "limit=x", "offset=-1", "prefix=1"])
def test_list_refuses_what_it_does_not_know(api: Api, query: str) -> None:
    assert api.call("GET", f"Number/?{query}").status_code == 400


def test_number_goes_to_another_application(api: Api) -> None:
    app = api.create("Application/", app_name="own", answer_url="https://a.example.com/")["app_id"]
    answer = api.update(f"Number/{DIGITS}/", number=DIGITS, app_id=app, alias="ours")
    assert answer["message"] == "changed"
    number = api.number()
    assert number["application"] == f"/v1/Account/{MA}/Application/{app}/"
    assert number["alias"] == "ours"


def test_number_goes_to_an_inbound_trunk(api: Api) -> None:
    api.update(f"Number/{DIGITS}/", app_id=TRUNK)
    assert api.number()["application"] == f"/v1/Account/{MA}/Zentrunk/Trunk/{TRUNK}/"
    assert api.state()["zentrunk"]["trunks"][TRUNK]["numbers"] == [DIGITS]


def test_update_without_app_id_takes_the_default_application(api: Api) -> None:
    app = api.create(
        "Application/",
        app_name="default",
        answer_url="https://a.example.com/",
        default_number_app=True,
    )["app_id"]
    api.update(f"Number/{DIGITS}/", alias="only this")
    assert api.number()["application"] == f"/v1/Account/{MA}/Application/{app}/"


def test_update_without_app_id_and_default_loses_the_application(api: Api) -> None:
    api.update(f"Number/{DIGITS}/", alias="only this")
    assert api.number()["application"] is None


@pytest.mark.parametrize(
    "body",
    [
        {"app_id": ""},
        {"app_id": None},
        {"app_id": "99999999999999999"},
        {"app_id": int(DEMO_APP)},
        {"app_id": DEMO_APP, "voice_url": "https://a.example.com/"},
        {"app_id": DEMO_APP, "number": SUB_DIGITS},
        {"app_id": SUB_APP},
        {"app_id": DEMO_APP, "subaccount": "SAXXXXXXXXXXXXXXXXX9"},
        {"app_id": DEMO_APP, "cnam_lookup": "perhaps"},
    ],
)
def test_refused_number_update_changes_nothing(api: Api, body: dict[str, Any]) -> None:
    before = api.number()
    status, _ = api.refused("POST", f"Number/{DIGITS}/", **body)
    assert status == 400
    assert {**api.number(), "api_id": ""} == {**before, "api_id": ""}


def test_main_account_gives_a_number_to_a_subaccount(api: Api, sub: Api) -> None:
    api.update(f"Number/{DIGITS}/", app_id=SUB_APP, subaccount=SA)
    assert api.number()["sub_account"] == SA
    assert sub.number()["application"] == f"/v1/Account/{SA}/Application/{SUB_APP}/"


def test_subaccount_has_only_what_is_its_own(sub: Api) -> None:
    assert [item["number"] for item in sub.all("Number/")] == [SUB_DIGITS]
    assert [item["app_id"] for item in sub.all("Application/")] == [SUB_APP]
    assert sub.refused("GET", f"Number/{DIGITS}/") == (404, "not found")
    assert sub.refused("GET", f"Application/{DEMO_APP}/") == (404, "not found")
    assert sub.refused("POST", f"Number/{SUB_DIGITS}/", app_id=DEMO_APP)[0] == 400
    status, _ = sub.refused("POST", f"Number/{SUB_DIGITS}/", app_id=SUB_APP, subaccount=SA)
    assert status == 403


def test_subaccount_makes_applications_of_its_own(api: Api, sub: Api) -> None:
    app = sub.create("Application/", app_name="mine", answer_url="https://a.example.com/")["app_id"]
    sub.update(f"Number/{SUB_DIGITS}/", app_id=app)
    assert api.get(f"Application/{app}/")["sub_account"] == SA


def test_delete_releases_the_number_for_good(api: Api) -> None:
    api.delete(f"Number/{DIGITS}/")
    assert api.refused("GET", f"Number/{DIGITS}/") == (404, "not found")
    assert api.state()["released_numbers"] == [DIGITS]


def test_nothing_is_for_sale(api: Api) -> None:
    assert api.refused("POST", "PhoneNumber/14155550123/") == (404, "not found")


def test_number_is_changed_and_removed_by_hand(api: Api) -> None:
    def edit(**changes: object) -> None:
        api.control.post("/edit", {"vendor": "plivo", "account": MA, **changes})

    edit(number=DIGITS, set={"app_id": TRUNK, "alias": "desk", "active": False})
    number = api.number()
    assert number["application"].endswith(f"/Zentrunk/Trunk/{TRUNK}/")
    assert (number["alias"], number["active"]) == ("desk", False)
    edit(phone_number=f"+{DIGITS}", set={"app_id": None})
    assert api.number()["application"] is None
    edit(number=DIGITS, remove=True)
    assert api.refused("GET", f"Number/{DIGITS}/") == (404, "not found")
    assert api.state()["released_numbers"] == []


@pytest.mark.parametrize(
    "account",
    [
        {"auth_id": "MAXXXXXXXXXXXXXXXXX8"},
        {"auth_id": "ACXXXXXXXXXXXXXXXXX8", "auth_token": "t"},
        {"auth_id": "SAXXXXXXXXXXXXXXXXX8", "auth_token": "t"},
        {"auth_id": "SAXXXXXXXXXXXXXXXXX8", "auth_token": "t", "main": "MAXXXXXXXXXXXXXXXXX8"},
        {"auth_id": MA, "numbers": [{"number": DIGITS}]},
        {"auth_id": MA, "numbers": [{"number": "+14155550111"}]},
        {"auth_id": MA, "numbers": [{"number": "14155550111", "app_id": "1"}]},
        {"auth_id": MA, "default_app": "1"},
        {"auth_id": MA, "zentrunk": {"trunks": [{"name": "n", "trunk_direction": "inbound"}]}},
        {"auth_id": MA, "colour": "red"},
    ],
)
def test_seed_that_cannot_be_is_refused(api: Api, account: dict[str, Any]) -> None:
    response = api.control.http.post("/seed", json={"plivo": {"accounts": [account]}})
    assert response.status_code == 400


def test_edit_of_what_is_not_there_is_refused(api: Api) -> None:
    for change in ({"number": "14155550111"}, {"number": DIGITS, "set": {"app_id": "1"}}):
        body = {"vendor": "plivo", "account": MA, **change}
        assert api.control.http.post("/edit", json=body).status_code == 400


def test_seeded_default_application_is_the_default(api: Api) -> None:
    api.control.post("/seed", {"plivo": {"accounts": [{"auth_id": MA, "default_app": DEMO_APP}]}})
    assert api.get(f"Application/{DEMO_APP}/")["default_app"] is True


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'{"alias": "a"', "application/json"),
        (b"[]", "application/json"),
        (b"alias=a", "application/x-www-form-urlencoded"),
        (b'{"alias": "a"}', "text/plain"),
    ],
)
def test_body_that_is_not_a_json_object_is_refused(
    api: Api, content: bytes, content_type: str
) -> None:
    headers = {"Content-Type": content_type}
    response = api.call("POST", f"Number/{DIGITS}/", content=content, headers=headers)
    assert response.status_code == 400
    assert api.state()["numbers"][DIGITS]["app_id"] == DEMO_APP


def test_unknown_path_is_404_and_known_path_with_wrong_method_405(api: Api) -> None:
    assert api.refused("GET", "Nothing/") == (404, "not found")
    assert api.refused("GET", f"Number/{DIGITS}") == (404, "not found")
    assert api.refused("PUT", f"Number/{DIGITS}/", alias="a")[0] == 405


def test_journal_names_operation_account_and_write(api: Api, sub: Api) -> None:
    api.number()
    sub.update(f"Number/{SUB_DIGITS}/", app_id=SUB_APP)
    api.refused("PUT", "Number/")
    read, write, unknown = api.control.journal(vendor="plivo")
    assert (read["operation"], read["account"], read["write"]) == (
        "plivo.numbers.fetch",
        MA,
        False,
    )
    assert (write["operation"], write["account"], write["write"]) == (
        "plivo.numbers.update",
        SA,
        True,
    )
    assert write["body"] == {"app_id": SUB_APP}
    assert (unknown["operation"], unknown["account"], unknown["write"]) == (
        "plivo.unknown",
        MA,
        True,
    )


def test_fault_answers_in_the_vendors_shape(api: Api) -> None:
    match = {"operation": "plivo.numbers.update", "account": MA}
    api.control.fault(match=match, action="status", status=429, retry_after=3)
    api.control.fault(match=match, action="status", status=400, code=7, message="scripted")
    api.control.fault(match=match, action="status", status=502, body="<html>Bad Gateway")
    api.control.fault(match=match, action="status", status=599)
    api.control.fault(match=match, action="lost_status", status=500)
    responses = [api.call("POST", f"Number/{DIGITS}/", json={"app_id": TRUNK}) for _ in range(5)]
    assert [item.status_code for item in responses] == [429, 400, 502, 599, 500]
    assert responses[0].headers["Retry-After"] == "3"
    assert responses[0].json()["error"] == "Too Many Requests"
    assert responses[1].json()["error"] == "7 scripted"
    assert responses[2].text == "<html>Bad Gateway"
    assert api.state()["numbers"][DIGITS]["app_id"] == TRUNK


def test_garbage_is_not_json(api: Api) -> None:
    api.control.fault(match={"vendor": "plivo"}, action="garbage")
    response = api.call("GET")
    assert response.status_code == 200
    assert response.text.startswith("<html>")


def test_state_holds_no_token(api: Api) -> None:
    text = str(api.control.get("/state")) + str(api.control.journal())
    assert MA_TOKEN not in text
    assert SA_TOKEN not in text
