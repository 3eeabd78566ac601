from __future__ import annotations

import time
from typing import Any

import pytest

from worker.batches import (
    LARGEST_ROW,
    MOST_COLUMNS,
    MOST_ROWS,
    BatchRequest,
    import_of,
    read_batch_csv,
    read_batch_json,
)
from worker.domain.errors import InvalidRequest

HEADER = "phone_number,provider,friendly_name\r\n"
ROW = "+14155550100,twilio,Desk\r\n"


def csv(text: str) -> BatchRequest:
    return read_batch_csv(text.encode())


def values(text: str) -> dict[str, Any]:
    (item,) = csv(text).items
    assert item.error is None, item.error
    return dict(item.values)


# CSV


def test_columns_become_fields_of_their_types() -> None:
    header = (
        "phone_number,provider,supports_outbound,smsEnabled,price,inbound.room_pattern,inbound.pin,"
        "sip.allowedAddresses,credentials.account_sid,credentials.authToken,metadata.Order No\n"
    )
    row = '+14155550100,twilio,FALSE,true,1.5,call-,0042,"192.0.2.1, 192.0.2.4/30",AC1,t,=1+1\n'

    found = values(header + row)

    assert found == {
        "phone_number": "+14155550100",
        "provider": "twilio",
        "supports_outbound": False,
        "sms_enabled": True,
        "price": "1.5",
        "inbound": {"room_pattern": "call-", "pin": "0042"},
        "sip": {"allowed_addresses": ["192.0.2.1", "192.0.2.4/30"]},
        "credentials": {"account_sid": "AC1", "auth_token": "t"},
        "metadata": {"Order No": "=1+1"},
    }


def test_an_empty_cell_is_a_field_that_is_not_given() -> None:
    assert values(HEADER + "+14155550100,twilio,\n").keys() == {"phone_number", "provider"}


@pytest.mark.parametrize("text", ["=SUM(A1:A9)", "@cmd", "-1+2", "+SUM(1)", "\t=1", "'quoted"])
def test_a_cell_that_looks_like_a_formula_stays_text(text: str) -> None:
    assert values(f"{HEADER}+14155550100,twilio,{text}\n")["friendly_name"] == text


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ('"a, b"', "a, b"),
        ('"a ""b"""', 'a "b"'),
        ('"a\r\nb"', "a\r\nb"),
        ('""', None),
        ("Zoë 北京", "Zoë 北京"),
        (" a ", " a "),
        ('a"b', 'a"b'),
    ],
)
def test_quoting_is_that_of_rfc_4180(cell: str, text: str | None) -> None:
    assert values(f"{HEADER}+14155550100,twilio,{cell}\r\n").get("friendly_name") == text


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_every_end_of_line_are_taken(end: str, mark: str) -> None:
    lines = ["phone_number,provider", "+14155550100,twilio", "", "+14155550101,twilio"]

    items = csv(mark + end.join(lines)).items

    assert [(item.line, item.values["phone_number"]) for item in items] == [
        (2, "+14155550100"),
        (4, "+14155550101"),
    ]


def test_a_row_is_named_by_the_line_that_it_begins_on() -> None:
    items = csv(HEADER + '+14155550100,twilio,"a\r\nb\r\nc"\r\n' + ROW).items

    assert [item.line for item in items] == [2, 5]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("+14155550100,twilio", "The row has 2 cells where the first line has 3"),
        ("+14155550100,twilio,a,b", "The row has 4 cells where the first line has 3"),
        ("+14155550100,twilio,a\0b", "friendly_name: It holds a NUL character."),
    ],
)
def test_a_row_that_cannot_be_read_fails_alone(row: str, message: str) -> None:
    good, bad, last = csv(f"{HEADER}{ROW}{row}\r\n{ROW}").items

    assert bad.line == 3
    assert bad.error is not None
    assert message in bad.error.message
    assert good.error is last.error is None


def test_a_flag_is_true_or_false_and_nothing_else() -> None:
    (item,) = csv("phone_number,provider,sms_enabled\n+14155550100,twilio,yes\n").items

    assert item.error is not None
    assert item.error.message == "sms_enabled: Must be true or false."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "empty"),
        (b"\xef\xbb\xbf", "empty"),
        (HEADER.encode(), "no numbers"),
        (b"phone_number,provider\n+1\xff4155550100,twilio\n", "line 2"),
        ("phone_number,provider\n".encode("utf-16"), "not UTF-8"),
        (b"phone_number,friendly_name\n+14155550100,a\n", "no column provider"),
        (b"provider,friendly_name\ntwilio,a\n", "no column phone_number"),
        (b"phone_number,provider,colour\n", "Column 3, colour: There is no such field"),
        (b"phone_number,provider,sip\n", "Column 3, sip"),
        (b"phone_number,provider,sip.colour\n", "Column 3, sip.colour"),
        (b"phone_number,provider,provider.x\n", "Column 3, provider.x"),
        (b"phone_number,provider,metadata.\n", "Column 3, metadata."),
        (b"phone_number,provider,phoneNumber\n", "Column 3, phoneNumber: It is there twice"),
        (b"phone_number;provider\n", "separated by commas"),
        (b"phone_number,provider,\n", "Column 3"),
        (HEADER.encode() + b'+14155550100,twilio,"a\r\n' + ROW.encode(), "from line 2 on"),
        (HEADER.encode() + b'+14155550100,twilio,"a"b\r\n' + ROW.encode(), "from line 2 on"),
    ],
    ids=repr,
)
def test_a_file_that_means_nothing_is_refused_whole(body: bytes, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_batch_csv(body)


def test_defaults_stand_in_for_columns_and_cells_and_make_another_request() -> None:
    body = b"phone_number,friendly_name\n+14155550100,\n+14155550101,Desk\n"

    found = read_batch_csv(body, defaults={"provider": "twilio", "friendly_name": "All"})

    assert [item.values["friendly_name"] for item in found.items] == ["All", "Desk"]
    assert {item.values["provider"] for item in found.items} == {"twilio"}
    other = read_batch_csv(body, defaults={"provider": "telnyx", "friendly_name": "All"})
    assert found.fingerprint != other.fingerprint


def test_a_row_with_an_account_of_its_own_takes_nothing_of_the_default_one() -> None:
    body = b"phone_number,credential_id\n+14155550100,cred_1\n+14155550101,\n"
    account = {"account_sid": "AC1"}

    found = read_batch_csv(body, defaults={"provider": "twilio", "credentials": account})

    own, default = (item.values for item in found.items)
    assert "credentials" not in own
    assert (own["credential_id"], default["credentials"]) == ("cred_1", account)


def test_what_is_known_of_a_failure_is_not_read_but_makes_another_request() -> None:
    head = "error_batch,error_line,error_code,error_message,"

    assert values(f'{head}{HEADER}bat_1,2,number_in_use,"So, it is",{ROW}') == values(HEADER + ROW)
    first, second = (csv(f"{head}{HEADER}{batch},2,,,{ROW}") for batch in ("bat_1", "bat_2"))
    assert first.fingerprint != second.fingerprint


def test_a_file_without_its_first_line_does_not_show_what_is_in_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        csv("+14155550100,twilio,planted-token-1\n")

    assert "415" not in caught.value.message
    assert "planted" not in caught.value.message


def test_one_row_too_many_is_refused() -> None:
    assert len(csv(HEADER + ROW * MOST_ROWS).items) == MOST_ROWS
    with pytest.raises(InvalidRequest, match="at most 10000"):
        csv(HEADER + ROW * (MOST_ROWS + 1))
    with pytest.raises(InvalidRequest, match="at most 10000"):
        read_batch_json({"items": [{}] * (MOST_ROWS + 1)})


# JSON


def test_items_override_the_defaults_field_by_field() -> None:
    document = {
        "callbackUrl": "https://a.example/b",
        "defaults": {
            "provider": "twilio",
            "credentialId": "cred_1",
            "smsEnabled": True,
            "inbound": {"pin": "1234", "roomPattern": "a-"},
            "metadata": {"camelCase": 1},
        },
        "items": [
            {"phoneNumber": "+14155550100", "inbound": {"room_pattern": "b-"}},
            {"phone_number": "+14155550101", "callback_url": None, "metadata": {"b": 2}},
            {
                "phone_number": "+14155550102",
                "credentials": {"accountSid": "AC1", "authToken": "t"},
                "sms_enabled": False,
            },
        ],
    }

    first, second, third = (dict(item.values) for item in read_batch_json(document).items)

    assert first == {
        "phone_number": "+14155550100",
        "provider": "twilio",
        "credential_id": "cred_1",
        "sms_enabled": True,
        "inbound": {"pin": "1234", "room_pattern": "b-"},
        "metadata": {"camelCase": 1},
        "callback_url": "https://a.example/b",
    }
    assert second["callback_url"] is None
    assert second["metadata"] == {"b": 2}
    assert "credential_id" not in third, "an account is never mixed from two"
    assert third["credentials"] == {"account_sid": "AC1", "auth_token": "t"}
    assert third["sms_enabled"] is False


@pytest.mark.parametrize("item", [None, 7, "text", [], {"phone_number": "a", "phoneNumber": "b"}])
def test_an_item_that_is_none_fails_alone(item: Any) -> None:
    first, second = read_batch_json({"items": [item, {"phone_number": "+1"}]}).items

    assert (first.line, second.line) == (1, 2)
    assert first.error is not None
    assert second.error is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "items"),
        (None, "items"),
        ({}, "items: Must be a list"),
        ({"items": {}}, "items: Must be a list"),
        ({"items": []}, "no numbers"),
        ({"items": [{}], "defaults": []}, "defaults: Must be a JSON object"),
        ({"items": [{}], "colour": 1}, "colour: There is no such field"),
        ({"items": [{}], "defaults": {"colour": 1}}, "defaults.colour: There is no such field"),
        ({"items": [{}], "planted1": 1}, r"\(name not shown\): There is no such field"),
    ],
    ids=repr,
)
def test_a_document_that_is_no_batch_is_refused(document: Any, message: str) -> None:
    with pytest.raises(InvalidRequest, match=message):
        read_batch_json(document)


def test_the_fingerprint_is_of_what_is_said_not_of_how() -> None:
    one = read_batch_json({"items": [{"phone_number": "+1", "sip": {"trunk_name": "a"}}]})
    same = read_batch_json({"items": [{"sip": {"trunkName": "a"}, "phoneNumber": "+1"}]})
    by_default = read_batch_json(
        {"defaults": {"sip": {"trunk_name": "a"}}, "items": [{"phone_number": "+1"}]}
    )
    another = read_batch_json({"items": [{"phone_number": "+1", "sip": {"trunk_name": "b"}}]})

    assert one.fingerprint == same.fingerprint == by_default.fingerprint
    assert one.fingerprint != another.fingerprint
    assert csv(HEADER + ROW).fingerprint != csv(HEADER + ROW + ROW).fingerprint


# One import


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"provider": "acme"}, "provider: "),
        ({"provider": None}, "provider: "),
        ({"colour": 1}, "colour: There is no such field."),
        ({"planted1": 1}, "(name not shown): There is no such field."),
        ({"sip": {"planted1": 1}}, "sip.(name not shown): There is no such field."),
        ({"credentials": {"planted1": "x"}}, "credentials.(name not shown)"),
        ({"credentials": {"account_sid": "AC1"}}, "credentials"),
        ({"price": "inf"}, "price: "),
        ({"price": "nan"}, "price: "),
        ({"metadata": None}, "metadata: Must be a JSON object."),
    ],
    ids=repr,
)
def test_a_wrong_field_is_named_and_its_value_is_not(change: Any, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        import_of({"phone_number": "+14155550100", "provider": "twilio", **change})

    assert message in caught.value.message
    assert "planted" not in caught.value.message


def test_a_missing_field_is_named() -> None:
    with pytest.raises(InvalidRequest, match="provider: This field is required"):
        import_of({"phone_number": "+14155550100"})


def test_nothing_of_a_row_shows_in_a_repr() -> None:
    request = csv("phone_number,provider,credentials.auth_token\n+14155550100,twilio,planted\n")

    assert "planted" not in repr(request)
    assert request.fingerprint not in repr(request)


# More than anybody means


def test_columns_beyond_all_sense_are_refused_before_they_are_compared() -> None:
    columns = ",".join(f"metadata.{place}" for place in range(300_000))
    begun = time.process_time()

    with pytest.raises(InvalidRequest, match=f"at most {MOST_COLUMNS} columns"):
        csv(f"phone_number,provider,{columns}\n")

    # Each with all that came before it took 25 s for 20,000.
    assert time.process_time() - begun < 2


def test_as_many_columns_as_are_allowed_are_read() -> None:
    extra = MOST_COLUMNS - 2
    header = ",".join(f"metadata.{place}" for place in range(extra))

    found = values(f"phone_number,provider,{header}\n+14155550100,twilio{',x' * extra}\n")

    assert len(found["metadata"]) == extra


def test_a_row_is_no_larger_than_a_single_import_may_be() -> None:
    cell = "x" * (LARGEST_ROW // 2)
    header = "phone_number,provider,metadata.a,metadata.b\n"
    good = "+14155550101,twilio,a,b\n"
    item = {"phone_number": "+14155550100", "metadata": {"a": cell, "b": cell}}

    by_csv = csv(f"{header}+14155550100,twilio,{cell},{cell}\n{good}").items
    by_json = read_batch_json({"items": [item, {"phone_number": "+14155550101"}]}).items

    for items in (by_csv, by_json):
        assert items[0].error is not None
        assert "64 KiB" in items[0].error.message
        assert items[1].error is None


def test_defaults_are_not_multiplied_without_end() -> None:
    def read(filler: int, rows: int) -> BatchRequest:
        items = [{"phone_number": f"+1415555{place:04}"} for place in range(rows)]
        return read_batch_json({"defaults": {"metadata": {"a": "x" * filler}}, "items": items})

    # 60 KiB that are sent once would be stored ten thousand times.
    with pytest.raises(InvalidRequest, match="defaults: Too large for so many items"):
        read(60_000, 5_000)

    assert all(item.error is None for item in read(4_000, 5_000).items)
    assert all(item.error is None for item in read(60_000, 100).items)


def test_a_row_with_a_thousand_faults_tells_of_some() -> None:
    faults = {f"{'x' * (place // 26 + 1)}{chr(97 + place % 26)}": 1 for place in range(1000)}

    with pytest.raises(InvalidRequest) as caught:
        import_of({"phone_number": "+14155550100", "provider": "twilio", **faults})

    assert caught.value.message.count("There is no such field.") == 20
