from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from twilio.base.exceptions import TwilioException, TwilioRestException

from tests.unit.sandbox.conftest import AC, DEMO_URL, NUMBER, OTHER_AC, PN

if TYPE_CHECKING:
    from collections.abc import Callable

    from twilio.rest import Client

    from tests.unit.sandbox.conftest import Control

VOICE = "https://voice.example.com/answer?secret=1"


def give_numbers(control: Control, *numbers: str, **fields: object) -> None:
    rows = [{"phone_number": number, **fields} for number in numbers]
    control.post("/seed", {"twilio": {"accounts": [{"sid": AC, "numbers": rows}]}})


def refusal(call: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        call()
    return caught.value.status, caught.value.code


def test_number_has_every_field_the_sdk_reads(twilio: Client) -> None:
    number = twilio.incoming_phone_numbers(PN).fetch()
    assert number.phone_number == NUMBER
    assert number.capabilities == {"voice": True, "sms": True, "mms": True, "fax": False}
    assert number.voice_url == DEMO_URL
    assert (number.trunk_sid, number.voice_application_sid) == (None, "")
    assert (number.status, number.origin, number.beta) == ("in-use", "twilio", False)
    assert number.date_created.year > 2020


def test_unknown_number_is_404(twilio: Client) -> None:
    assert refusal(twilio.incoming_phone_numbers("PN" + "9" * 32).fetch) == (404, 20404)


def test_filter_finds_parts_of_numbers(control: Control, twilio: Client) -> None:
    give_numbers(control, "+14155550101", "+441415555010")
    rows = twilio.incoming_phone_numbers.list(phone_number="1415555010")
    assert {row.phone_number for row in rows} == {NUMBER, "+14155550101", "+441415555010"}


def test_filter_takes_a_star_for_any_digit(control: Control, twilio: Client) -> None:
    give_numbers(control, "+14155559100", "+14165550100")
    rows = twilio.incoming_phone_numbers.list(phone_number="+1415555*100")
    assert {row.phone_number for row in rows} == {NUMBER, "+14155559100"}


def test_number_of_another_account_is_not_listed(control: Control, twilio: Client) -> None:
    seed = {"sid": OTHER_AC, "numbers": [{"phone_number": "+14155550177"}]}
    control.post("/seed", {"twilio": {"accounts": [seed]}})
    assert twilio.incoming_phone_numbers.list(phone_number="+14155550177") == []


def test_list_pages_through_the_vendors_own_links(control: Control, twilio: Client) -> None:
    give_numbers(control, *(f"+1415555{number}" for number in range(2000, 2024)))
    rows = twilio.incoming_phone_numbers.list(page_size=10)
    assert len({row.phone_number for row in rows}) == 25
    paths = [entry["path"] for entry in control.journal(operation="twilio.*.list")]
    assert len(paths) == 3
    assert "PageToken=PA" in paths[1]


def test_filter_stays_on_the_next_page(control: Control, twilio: Client) -> None:
    give_numbers(control, *(f"+1415555{number}" for number in range(2000, 2010)), "+442071838750")
    rows = twilio.incoming_phone_numbers.list(phone_number="+1415555", page_size=4)
    assert len(rows) == 11


@pytest.mark.parametrize(
    ("query", "code"),
    [
        ({"page_size": 1001}, 20007),
        ({"page_number": 1}, 21481),
        ({"page_token": "PAnothing"}, 21481),
    ],
)
def test_pages_that_cannot_be_are_refused(twilio: Client, query: dict[str, Any], code: int) -> None:
    with pytest.raises(TwilioException) as caught:
        twilio.incoming_phone_numbers.page(**query)
    assert caught.value.args[1].status_code == 400
    assert f'"code": {code}' in caught.value.args[1].text


def test_update_changes_only_what_is_sent(twilio: Client) -> None:
    number = twilio.incoming_phone_numbers(PN).update(
        voice_url=VOICE, voice_method="GET", sms_url="https://sms.example.com/"
    )
    assert (number.voice_url, number.voice_method) == (VOICE, "GET")
    number = twilio.incoming_phone_numbers(PN).update(status_callback="https://s.example.com/x")
    assert (number.voice_url, number.sms_url) == (VOICE, "https://sms.example.com/")


def test_empty_string_clears(twilio: Client) -> None:
    assert twilio.incoming_phone_numbers(PN).update(voice_url="").voice_url == ""


def test_trunk_deletes_the_application_and_the_other_way_round(twilio: Client) -> None:
    application = twilio.applications.create(friendly_name="a")
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    context = twilio.incoming_phone_numbers(PN)

    number = context.update(voice_application_sid=application.sid)
    assert (number.voice_application_sid, number.trunk_sid) == (application.sid, None)
    number = context.update(trunk_sid=trunk.sid)
    assert (number.voice_application_sid, number.trunk_sid) == ("", trunk.sid)
    number = context.update(voice_application_sid=application.sid)
    assert (number.voice_application_sid, number.trunk_sid) == (application.sid, None)
    assert number.voice_url == DEMO_URL


def test_clearing_one_target_leaves_the_other(twilio: Client) -> None:
    trunk = twilio.trunking.v1.trunks.create(friendly_name="t")
    number = twilio.incoming_phone_numbers(PN).update(trunk_sid=trunk.sid, voice_application_sid="")
    assert number.trunk_sid == trunk.sid
    assert twilio.incoming_phone_numbers(PN).update(trunk_sid="").trunk_sid is None


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"trunk_sid": "TK" + "9" * 32}, 21245),
        ({"voice_application_sid": "AP" + "9" * 32}, 22108),
        ({"sms_application_sid": "AP" + "9" * 32}, 22108),
        ({"trunk_sid": "nonsense"}, 20423),
        ({"voice_method": "PUT"}, 21403),
        ({"friendly_name": "x" * 65}, 20002),
        ({"account_sid": OTHER_AC}, 21474),
    ],
)
def test_wrong_values_are_refused(
    twilio: Client, control: Control, change: dict[str, str], code: int
) -> None:
    before = control.account()["numbers"]
    assert refusal(lambda: twilio.incoming_phone_numbers(PN).update(**change)) == (400, code)
    assert control.account()["numbers"] == before


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/voice",
        "http://intranet/voice",
        "http://demo-.example.com/",
        "http://under_score.example.com/",
        "https:///voice",
        "/voice",
        "voice.example.com/x",
        "ftp://voice.example.com/",
        "https://voice.example.com/a b",
        "https://voice.example.com:99999/",
        "http://127.0.0.1:8000/voice",
        "http://10.0.0.1/voice",
    ],
)
def test_urls_the_vendor_cannot_reach_are_refused(twilio: Client, url: str) -> None:
    context = twilio.incoming_phone_numbers(PN)
    assert refusal(lambda: context.update(voice_url=url)) == (400, 21402)
    assert refusal(lambda: context.update(status_callback=url)) == (400, 21502)


def test_fallback_needs_a_primary(twilio: Client) -> None:
    context = twilio.incoming_phone_numbers(PN)
    context.update(voice_fallback_url=VOICE)
    assert refusal(lambda: context.update(voice_url="")) == (400, 21405)
    assert refusal(lambda: context.update(sms_fallback_url=VOICE)) == (400, 21406)
    assert context.update(voice_url="", voice_fallback_url="").voice_fallback_url == ""


def test_number_without_sms_takes_no_sms_url(control: Control, twilio: Client) -> None:
    give_numbers(control, "+14155550111", capabilities={"sms": False})
    (row,) = twilio.incoming_phone_numbers.list(phone_number="+14155550111")
    context = twilio.incoming_phone_numbers(row.sid)
    assert refusal(lambda: context.update(sms_url="https://s.example.com/")) == (400, 21407)
    assert context.update(sms_url="").sms_url == ""


def test_misspelt_parameter_is_refused(control: Control) -> None:
    url = f"{control.url}/twilio/2010-04-01/Accounts/{AC}/IncomingPhoneNumbers/{PN}.json"
    response = control.http.post(url, auth=(AC, "sandbox-token-1"), data={"VoiceURL": VOICE})
    assert (response.status_code, response.json()["code"]) == (400, 20001)


def test_error_body_is_the_vendors(twilio: Client) -> None:
    with pytest.raises(TwilioRestException) as caught:
        twilio.incoming_phone_numbers(PN).update(voice_url="http://localhost/")
    assert "VoiceUrl is not a valid URL: http://localhost/" in caught.value.msg


def test_delete_gives_the_number_away(control: Control, twilio: Client) -> None:
    assert twilio.incoming_phone_numbers(PN).delete()
    account = control.account()
    assert (account["numbers"], account["released_numbers"]) == ({}, [NUMBER])
    assert refusal(twilio.incoming_phone_numbers(PN).fetch) == (404, 20404)
    assert [entry["operation"] for entry in control.journal(operation="*.delete")] == [
        "twilio.incoming_phone_numbers.delete"
    ]


def test_numbers_are_not_for_sale(twilio: Client) -> None:
    buy = twilio.incoming_phone_numbers.create
    assert refusal(lambda: buy(phone_number=NUMBER)) == (400, 21422)


def test_deleted_application_disappears_from_its_numbers(twilio: Client) -> None:
    application = twilio.applications.create(friendly_name="a")
    twilio.incoming_phone_numbers(PN).update(
        voice_application_sid=application.sid, sms_application_sid=application.sid
    )
    assert twilio.applications(application.sid).delete()
    number = twilio.incoming_phone_numbers(PN).fetch()
    assert (number.voice_application_sid, number.sms_application_sid) == ("", "")
