from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twilio.base.exceptions import TwilioRestException

from tests.unit.sandbox.conftest import AC

if TYPE_CHECKING:
    from collections.abc import Callable

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control

STRONG = "Sandbox-Password-1"


def refusal(call: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        call()
    return caught.value.status, caught.value.code


def limit(control: Control, **limits: int) -> None:
    control.post("/seed", {"twilio": {"accounts": [{"sid": AC, "limits": limits}]}})


def test_application_lives_from_create_to_delete(twilio: Client) -> None:
    application = twilio.applications.create(
        friendly_name="app", voice_url="https://a.example.com/v", sms_method="GET"
    )
    assert application.sid.startswith("AP")
    updated = twilio.applications(application.sid).update(voice_url="https://b.example.com/")
    assert (updated.friendly_name, updated.sms_method) == ("app", "GET")
    assert twilio.applications(application.sid).fetch().voice_url == "https://b.example.com/"
    assert twilio.applications(application.sid).delete()
    assert refusal(twilio.applications(application.sid).fetch) == (404, 20404)
    assert refusal(twilio.applications(application.sid).delete) == (404, 20404)


def test_application_is_found_by_its_whole_name(twilio: Client) -> None:
    twilio.applications.create(friendly_name="app")
    twilio.applications.create(friendly_name="app 2")
    assert [item.friendly_name for item in twilio.applications.list(friendly_name="app")] == ["app"]


def test_application_names_are_not_unique(twilio: Client) -> None:
    twilio.applications.create(friendly_name="app")
    twilio.applications.create(friendly_name="app")
    assert len(twilio.applications.list(friendly_name="app")) == 2


def test_application_url_is_checked(twilio: Client) -> None:
    create = twilio.applications.create
    assert refusal(lambda: create(voice_url="http://localhost/")) == (400, 21402)
    assert twilio.applications.list() == []


def test_application_limit(control: Control, twilio: Client) -> None:
    limit(control, applications=1)
    twilio.applications.create(friendly_name="app")
    assert refusal(lambda: twilio.applications.create(friendly_name="b")) == (400, 21301)


def test_credential_list_lives_from_create_to_delete(twilio: Client) -> None:
    created = twilio.sip.credential_lists.create(friendly_name="list")
    context = twilio.sip.credential_lists(created.sid)
    assert context.update(friendly_name="renamed").friendly_name == "renamed"
    assert [item.sid for item in twilio.sip.credential_lists.list()] == [created.sid]
    assert context.fetch().friendly_name == "renamed"
    assert context.delete()
    assert refusal(context.fetch) == (404, 20404)


def test_credential_list_name_is_unique_in_the_account(twilio: Client) -> None:
    create = twilio.sip.credential_lists.create
    create(friendly_name="list")
    assert refusal(lambda: create(friendly_name="list")) == (400, 21240)
    assert refusal(lambda: create(friendly_name="")) == (400, 21240)


def test_credential_list_limit(control: Control, twilio: Client) -> None:
    limit(control, credential_lists=1)
    twilio.sip.credential_lists.create(friendly_name="a")
    create = twilio.sip.credential_lists.create
    assert refusal(lambda: create(friendly_name="b")) == (400, 21239)


def test_credential_never_shows_its_password(control: Control, twilio: Client) -> None:
    parent = twilio.sip.credential_lists.create(friendly_name="list")
    credentials = twilio.sip.credential_lists(parent.sid).credentials
    created = credentials.create(username="user", password=STRONG)
    assert (created.username, created.credential_list_sid) == ("user", parent.sid)
    assert [item.username for item in credentials.list()] == ["user"]
    shown = control.account()["credential_lists"][parent.sid]["credentials"][0]
    assert shown["password"] == "***"
    assert STRONG not in str(control.get("/state"))
    assert STRONG not in str(control.journal())


@pytest.mark.parametrize(
    ("username", "password"),
    [
        ("", STRONG),
        ("u" * 33, STRONG),
        ("user", "Sand-1"),
        ("user", "sandbox-password-1"),
        ("user", "SANDBOX-PASSWORD-1"),
        ("user", "Sandbox-Password"),
        ("taken", STRONG),
    ],
)
def test_credential_rules(twilio: Client, username: str, password: str) -> None:
    parent = twilio.sip.credential_lists.create(friendly_name="list")
    credentials = twilio.sip.credential_lists(parent.sid).credentials
    credentials.create(username="taken", password=STRONG)
    create = credentials.create
    assert refusal(lambda: create(username=username, password=password)) == (400, 21243)


def test_credential_password_can_be_changed_and_credential_deleted(
    control: Control, twilio: Client
) -> None:
    parent = twilio.sip.credential_lists.create(friendly_name="list")
    credentials = twilio.sip.credential_lists(parent.sid).credentials
    created = credentials.create(username="user", password=STRONG)
    before = control.account()["credential_lists"][parent.sid]["credentials"][0]["fingerprint"]
    credentials(created.sid).update(password=STRONG + "2")
    after = control.account()["credential_lists"][parent.sid]["credentials"][0]["fingerprint"]
    assert before != after
    assert credentials(created.sid).delete()
    assert refusal(credentials(created.sid).fetch) == (404, 20404)


def test_deleting_a_list_takes_its_credentials_along(twilio: Client) -> None:
    parent = twilio.sip.credential_lists.create(friendly_name="list")
    credentials = twilio.sip.credential_lists(parent.sid).credentials
    credentials.create(username="user", password=STRONG)
    assert twilio.sip.credential_lists(parent.sid).delete()
    assert refusal(lambda: credentials.create(username="b", password=STRONG)) == (404, 20404)
