from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from twilio.base.exceptions import TwilioException, TwilioRestException

from tests.unit.sandbox.conftest import AC, NUMBER, OTHER_AC, OTHER_TOKEN, PN, TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control

SK = "SK" + "0" * 31 + "1"
SECRET = "sandbox-key-secret-1"
SUB_AC = "AC" + "0" * 31 + "3"
SUB_TOKEN = "sandbox-token-3"


def give_key(control: Control, **key: object) -> None:
    control.post(
        "/seed",
        {"twilio": {"accounts": [{"sid": AC, "api_keys": [{"sid": SK, "secret": SECRET, **key}]}]}},
    )


def give_subaccount(control: Control, **fields: object) -> None:
    account = {
        "sid": SUB_AC,
        "auth_token": SUB_TOKEN,
        "owner_account_sid": AC,
        "numbers": [{"phone_number": "+14155550199"}],
        **fields,
    }
    control.post("/seed", {"twilio": {"accounts": [account]}})


def refusal(call: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        call()
    return caught.value.status, caught.value.code


def test_account_is_shown_with_its_token_to_the_primary_token(twilio: Client) -> None:
    account = twilio.api.v2010.accounts(AC).fetch()
    assert (account.sid, account.status, account.type) == (AC, "active", "Full")
    assert account.owner_account_sid == AC
    assert account.auth_token == TOKEN


def test_secondary_token_works_but_is_not_shown_the_primary_one(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    control.post(
        "/seed",
        {"twilio": {"accounts": [{"sid": AC, "secondary_auth_token": "sandbox-token-1b"}]}},
    )
    account = twilio_client(AC, "sandbox-token-1b").api.v2010.accounts(AC).fetch()
    assert account.status == "active"
    assert account.auth_token is None


@pytest.mark.parametrize(
    ("user", "secret"),
    [
        (AC, "wrong"),
        (AC, TOKEN + " "),
        (OTHER_AC, TOKEN),
        ("AC" + "9" * 32, TOKEN),
        (SK, "unknown-key"),
    ],
)
def test_wrong_credentials_are_20003(
    twilio_client: Callable[..., Client], user: str, secret: str
) -> None:
    client = twilio_client(user, secret, AC)
    assert refusal(client.api.v2010.accounts(AC).fetch) == (401, 20003)


def test_list_refuses_with_the_response_in_the_exception(
    twilio_client: Callable[..., Client],
) -> None:
    with pytest.raises(TwilioException) as caught:
        twilio_client(AC, "wrong").incoming_phone_numbers.list(limit=1)
    assert not isinstance(caught.value, TwilioRestException)
    response = caught.value.args[1]
    assert response.status_code == 401
    assert '"code": 20003' in response.text


def test_other_account_is_out_of_reach(twilio_client: Callable[..., Client]) -> None:
    client = twilio_client(OTHER_AC, OTHER_TOKEN, AC)
    assert refusal(client.incoming_phone_numbers(PN).fetch) == (401, 20003)


def test_standard_key_reads_numbers_but_not_the_account(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_key(control)
    client = twilio_client(SK, SECRET, AC)
    assert [row.phone_number for row in client.incoming_phone_numbers.list(limit=1)] == [NUMBER]
    assert refusal(client.api.v2010.accounts(AC).fetch) == (401, 20003)


def test_main_key_reads_the_account_without_its_token(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_key(control, kind="main")
    account = twilio_client(SK, SECRET, AC).api.v2010.accounts(AC).fetch()
    assert account.status == "active"
    assert account.auth_token is None


def test_restricted_key_does_only_what_it_is_permitted(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_key(control, kind="restricted", permissions=["twilio.incoming_phone_numbers.fetch"])
    client = twilio_client(SK, SECRET, AC)
    assert client.incoming_phone_numbers(PN).fetch().phone_number == NUMBER
    assert refusal(lambda: client.incoming_phone_numbers(PN).update(sms_url="")) == (401, 70051)
    assert refusal(client.balance.fetch) == (401, 70051)


def test_restricted_key_has_no_access_to_trunking_whatever_it_is_permitted(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_key(control, kind="restricted", permissions=["*"])
    client = twilio_client(SK, SECRET, AC)
    assert refusal(lambda: client.trunking.v1.trunks.create(friendly_name="t")) == (401, 70051)


def test_standard_key_owns_the_trunks_of_its_account(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_key(control)
    trunk = twilio_client(SK, SECRET, AC).trunking.v1.trunks.create(friendly_name="t")
    assert trunk.account_sid == AC


def test_key_without_account_sid_is_told_that_the_sid_is_invalid(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_key(control)
    client = twilio_client(SK, SECRET)
    assert refusal(client.incoming_phone_numbers(PN).fetch) == (400, 90002)


def test_parent_token_reaches_v2010_resources_of_a_subaccount(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_subaccount(control)
    client = twilio_client(AC, TOKEN, SUB_AC)
    rows = client.incoming_phone_numbers.list()
    assert [row.account_sid for row in rows] == [SUB_AC]
    assert client.api.v2010.accounts(SUB_AC).fetch().owner_account_sid == AC


def test_parent_key_does_not_reach_a_subaccount(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_subaccount(control)
    give_key(control, kind="main")
    client = twilio_client(SK, SECRET, SUB_AC)
    assert refusal(client.api.v2010.accounts(SUB_AC).fetch) == (401, 20003)


def test_subaccount_does_not_reach_its_parent(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_subaccount(control)
    client = twilio_client(SUB_AC, SUB_TOKEN, AC)
    assert refusal(client.api.v2010.accounts(AC).fetch) == (401, 20003)


def test_parent_token_sees_only_its_own_trunks(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_subaccount(control)
    trunk = twilio_client(SUB_AC, SUB_TOKEN).trunking.v1.trunks.create(friendly_name="sub")
    parent = twilio_client(AC, TOKEN, SUB_AC)
    assert parent.trunking.v1.trunks.list() == []
    assert refusal(parent.trunking.v1.trunks(trunk.sid).fetch) == (404, 20404)


def test_subaccount_has_no_balance(control: Control, twilio_client: Callable[..., Client]) -> None:
    give_subaccount(control)
    assert twilio_client().balance.fetch().currency == "USD"
    assert refusal(twilio_client(SUB_AC, SUB_TOKEN).balance.fetch) == (404, 20404)


def test_suspended_account_shows_only_its_status(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    control.post("/seed", {"twilio": {"accounts": [{"sid": AC, "status": "suspended"}]}})
    client = twilio_client()
    assert client.api.v2010.accounts(AC).fetch().status == "suspended"
    assert refusal(client.incoming_phone_numbers(PN).fetch) == (401, 20005)
    assert refusal(lambda: client.trunking.v1.trunks.create(friendly_name="t")) == (401, 20005)


def test_subaccount_is_suspended_with_its_parent(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_subaccount(control)
    control.post("/seed", {"twilio": {"accounts": [{"sid": AC, "status": "suspended"}]}})
    client = twilio_client(SUB_AC, SUB_TOKEN)
    assert refusal(lambda: client.applications.create(friendly_name="a")) == (401, 20005)


def test_credentials_of_a_closed_account_are_dead(
    control: Control, twilio_client: Callable[..., Client]
) -> None:
    give_subaccount(control, status="closed")
    client = twilio_client(SUB_AC, SUB_TOKEN)
    assert refusal(client.api.v2010.accounts(SUB_AC).fetch) == (401, 20003)
    assert twilio_client().api.v2010.accounts(SUB_AC).fetch().status == "closed"


def test_unknown_path_is_404_and_known_path_with_wrong_method_405(control: Control) -> None:
    base = f"{control.url}/twilio/2010-04-01/Accounts/{AC}"
    unknown = control.http.get(f"{base}/Nothing.json", auth=(AC, TOKEN))
    wrong_method = control.http.put(f"{base}.json", auth=(AC, TOKEN))
    assert (unknown.status_code, unknown.json()["code"]) == (404, 20404)
    assert (wrong_method.status_code, wrong_method.json()["code"]) == (405, 20004)


def test_body_that_is_not_a_form_is_refused(control: Control) -> None:
    url = f"{control.url}/twilio/2010-04-01/Accounts/{AC}/IncomingPhoneNumbers/{PN}.json"
    response = control.http.post(url, auth=(AC, TOKEN), json={"VoiceUrl": "https://a.example.com"})
    assert response.status_code == 415
