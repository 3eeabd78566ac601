from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.sandbox.test_plivo import DEMO_APP, DIGITS, MA, SA, SUB_APP, Api, seeded

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Control

ANSWER = "https://a.example.com/answer"


@pytest.fixture
def api(control: Control) -> Api:
    return seeded(control)


def new_app(api: Api, name: str = "own", **settings: Any) -> str:
    document = api.create("Application/", app_name=name, answer_url=ANSWER, **settings)
    assert document["message"] == "created"
    return str(document["app_id"])


def test_application_lives_from_create_to_delete(api: Api) -> None:
    app = new_app(api, hangup_url="https://a.example.com/hangup", message_method="GET")
    shown = api.get(f"Application/{app}/")
    assert shown["hangup_url"] == "https://a.example.com/hangup"
    assert (shown["answer_method"], shown["message_method"]) == ("POST", "GET")
    assert (shown["fallback_answer_url"], shown["message_url"]) == ("", "")
    assert shown["sip_uri"] == f"sip:{app}@app.plivo.com"
    assert shown["resource_uri"] == f"/v1/Account/{MA}/Application/{app}/"
    api.delete(f"Application/{app}/")
    assert api.refused("GET", f"Application/{app}/") == (404, "not found")
    assert api.refused("DELETE", f"Application/{app}/") == (404, "not found")


def test_hangup_url_is_the_answer_url_unless_it_is_given(api: Api) -> None:
    assert api.get(f"Application/{new_app(api)}/")["hangup_url"] == ANSWER


@pytest.mark.parametrize(
    "body",
    [
        {"answer_url": ANSWER},
        {"app_name": "own"},
        {"app_name": "own app", "answer_url": ANSWER},
        {"app_name": "own.app", "answer_url": ANSWER},
        {"app_name": "", "answer_url": ANSWER},
        {"app_name": "own", "answer_url": ""},
        {"app_name": "own", "answer_url": "a.example.com"},
        {"app_name": "own", "answer_url": "http://localhost/"},
        {"app_name": "own", "answer_url": "http://127.0.0.1/"},
        {"app_name": "own", "answer_url": "http://[::1/"},
        {"app_name": "own", "answer_url": "https://a.example.com/a b"},
        {"app_name": "own", "answer_url": ANSWER, "answer_method": "PUT"},
        {"app_name": "own", "answer_url": ANSWER, "public_uri": "true"},
        {"app_name": "own", "answer_url": ANSWER, "subaccount": "SAXXXXXXXXXXXXXXXXX9"},
        {"app_name": "own", "answer_url": ANSWER, "subaccount": "somebody"},
        {"app_name": "own", "answer_url": ANSWER, "recording_url": ANSWER},
        {"app_name": "own", "answer_url": ANSWER, "message_url": 1},
        {"app_name": "sub", "answer_url": ANSWER},
    ],
)
def test_application_rules(api: Api, body: dict[str, Any]) -> None:
    status, _ = api.refused("POST", "Application/", **body)
    assert status == 400
    assert set(api.state()["applications"]) == {DEMO_APP, SUB_APP}


def test_application_is_found_by_name_among_longer_names(api: Api) -> None:
    new_app(api, "trunkline_1")
    new_app(api, "trunkline_12")
    found = api.all("Application/", app_name="trunkline_1")
    assert [item["app_name"] for item in found] == ["trunkline_12", "trunkline_1"]
    assert api.all("Application/", app_name="nothing") == []
    assert [item["app_id"] for item in api.all("Application/", subaccount=SA)] == [SUB_APP]


def test_update_resets_what_is_not_sent(api: Api) -> None:
    app = new_app(
        api,
        hangup_url="https://a.example.com/hangup",
        message_url="https://a.example.com/sms",
        answer_method="GET",
        default_number_app=True,
        log_incoming_messages=False,
        public_uri=True,
    )
    assert api.update(f"Application/{app}/", answer_url=ANSWER)["message"] == "changed"
    shown = api.get(f"Application/{app}/")
    assert (shown["app_name"], shown["hangup_url"], shown["message_url"]) == ("own", ANSWER, "")
    assert shown["answer_method"] == "POST"
    assert (shown["default_app"], shown["public_uri"]) == (False, False)
    assert shown["log_incoming_messages"] is True


def test_update_keeps_what_is_sent_and_whose_it_is(api: Api) -> None:
    settings = {"message_url": "https://a.example.com/sms", "fallback_method": "GET"}
    app = new_app(api, subaccount=SA, **settings)
    api.update(f"Application/{app}/", answer_url="https://b.example.com/", **settings)
    shown = api.get(f"Application/{app}/")
    assert shown["answer_url"] == "https://b.example.com/"
    assert {name: shown[name] for name in settings} == settings
    assert shown["sub_account"] == SA


@pytest.mark.parametrize("body", [{}, {"answer_url": ANSWER, "app_name": "renamed"}])
def test_update_needs_its_answer_url_and_takes_no_name(api: Api, body: dict[str, Any]) -> None:
    assert api.refused("POST", f"Application/{DEMO_APP}/", **body)[0] == 400


def test_there_is_one_default_application(api: Api) -> None:
    first = new_app(api, "first", default_number_app=True, default_endpoint_app=True)
    second = new_app(api, "second", default_number_app=True)
    assert api.get(f"Application/{first}/")["default_app"] is False
    assert api.get(f"Application/{first}/")["default_endpoint_app"] is True
    assert api.get(f"Application/{second}/")["default_app"] is True


def test_application_with_numbers_cannot_be_deleted(api: Api) -> None:
    status, message = api.refused("DELETE", f"Application/{DEMO_APP}/")
    assert status == 409
    assert DIGITS in message


def test_deleting_takes_the_endpoints_along_unless_told_not_to(api: Api) -> None:
    heir = new_app(api)
    api.update(f"Number/{DIGITS}/", app_id=heir)
    assert api.state()["endpoints"] == {"phone": DEMO_APP}
    api.delete(f"Application/{DEMO_APP}/")
    assert api.state()["endpoints"] == {}


@pytest.mark.parametrize("in_body", [True, False])
def test_endpoints_stay_without_application(api: Api, *, in_body: bool) -> None:
    api.update(f"Number/{DIGITS}/", app_id=new_app(api))
    options: dict[str, Any] = (
        {"json": {"cascade": False}} if in_body else {"params": "cascade=false"}
    )
    response = api.call("DELETE", f"Application/{DEMO_APP}/", **options)
    assert response.status_code == 204
    assert api.state()["endpoints"] == {"phone": ""}


def test_endpoints_go_to_another_application(api: Api) -> None:
    heir = new_app(api)
    api.update(f"Number/{DIGITS}/", app_id=heir)
    api.delete(f"Application/{DEMO_APP}/", cascade="false", new_endpoint_application=heir)
    assert api.state()["endpoints"] == {"phone": heir}


@pytest.mark.parametrize(
    "body",
    [
        {"cascade": "perhaps"},
        {"app_id": DEMO_APP},
        {"new_endpoint_application": "1"},
        {"force": True},
    ],
)
def test_refused_delete_deletes_nothing(api: Api, body: dict[str, Any]) -> None:
    app = new_app(api)
    assert api.refused("DELETE", f"Application/{app}/", **body)[0] == 400
    assert api.get(f"Application/{app}/")["app_id"] == app
