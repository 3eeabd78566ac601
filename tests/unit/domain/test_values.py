from __future__ import annotations

from uuid import uuid4

import pytest

from worker.domain.errors import InvalidPhoneNumber, InvalidRequest
from worker.domain.values import (
    E164,
    Routing,
    SipLogin,
    Target,
    format_id,
    parse_id,
    parse_pin,
    parse_sip_host,
    redact_url,
)


@pytest.mark.parametrize("text", ["+14155550100", "+12025550123", "+447446466847", "+15555550100"])
def test_e164_is_taken_as_it_is(text: str) -> None:
    assert E164.parse(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "14155550100",
        "+1 415 555 0100",
        "+14155550100\n",
        "\n+14155550100",
        "+1415555010٠",
        "+14155550100;ext=5",
        "+14155550100x5",
        "+04155550100",
        "+1",
        "+1415555",
        "+141555501001234567",
        "tel:+14155550100",
        "+",
    ],
)
def test_anything_else_is_no_phone_number(text: str) -> None:
    with pytest.raises(InvalidPhoneNumber):
        E164.parse(text)


def test_a_number_knows_its_country_and_whether_its_range_is_given_out() -> None:
    assert E164.parse("+447446466847").region == "GB"
    assert E164.parse("+14155550100").is_in_known_range
    assert not E164.parse("+15555550100").is_in_known_range


@pytest.mark.parametrize(
    "text",
    ["sip.example.com", "sip.example.com:5061", "203.0.113.5", "203.0.113.5:65535", "a.b-c.io"],
)
def test_a_sip_host_is_a_name_or_an_address_with_a_port(text: str) -> None:
    assert parse_sip_host(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "sip:sip.example.com",
        "SIPS:sip.example.com",
        "user@sip.example.com",
        "sip.example.com;transport=tcp",
        "sip.example.com:0",
        "sip.example.com:65536",
        "sip.example.com:٥",
        "sip.example.com:",
        "localhost",
        "999.0.113.5",
        "-a.example.com",
        "sip.example.com\n",
        "",
        "a" * 250 + ".example.com",
    ],
)
def test_anything_else_is_no_sip_host(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_sip_host(text)


@pytest.mark.parametrize("text", ["123", "12345678901", "12a4", "١٢٣٤", "1234\n", ""])
def test_a_pin_has_four_to_ten_digits(text: str) -> None:
    assert parse_pin("1234") == "1234"
    with pytest.raises(InvalidRequest):
        parse_pin(text)


def test_ids_come_back_and_nothing_else_is_one() -> None:
    value = uuid4()
    assert parse_id("imp", format_id("imp", value)) == value
    for text in ("", "imp", "imp_", f"num_{value.hex}", f"imp_{value}", f"imp_{value.hex}\n"):
        assert parse_id("imp", text) is None


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://a.example/x?token=planted", "https://a.example/x?…"),
        ("https://user:planted@a.example/x", "https://a.example/x"),
        ("https://a.example/x#planted", "https://a.example/x?…"),
        ("https://a.example?k=planted", "https://a.example?…"),
        ("TK123", "TK123"),
    ],
)
def test_a_url_is_shown_without_what_may_be_secret(url: str, shown: str) -> None:
    assert redact_url(url) == shown
    assert "planted" not in str(Target(kind="url", value=url))


def test_a_login_hides_its_password() -> None:
    assert "planted" not in repr(SipLogin(username="u", password="planted"))


def test_routing_survives_json() -> None:
    routing = Routing(parts={"voice": {"voice_url": "https://a.example"}, "sms": {"sms_url": ""}})
    assert Routing.from_json(routing.to_json()) == routing
