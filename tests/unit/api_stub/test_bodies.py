from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_stub.bodies import CredentialBody, ImportBody, parse_json, read_credentials
from api_stub.problems import InvalidFields
from worker.domain.values import ProviderName

SID = "AC0123456789abcdef0123456789abcdef"

_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | _TEXT,
    lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner),
    max_leaves=20,
)


@given(_JSON)
def test_all_that_json_can_say_is_read(value: Any) -> None:
    assert parse_json(json.dumps(value).encode()) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode()) == value


@given(st.binary(max_size=200))
def test_whatever_else_comes_is_refused_without_repeating_it(body: bytes) -> None:
    why = ""
    try:
        parse_json(body)
    except ValueError as error:
        why = str(error)

    assert re.fullmatch(r"(The body is|A text|A number|An object) [a-zA-Z0-9 :,8.-]{1,90}|", why)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "The body is not JSON: something is wrong at line 1, column 1."),
        (b'{"a":\n x}', "The body is not JSON: something is wrong at line 2, column 2."),
        (b"\xff", "The body is not UTF-8."),
        (b"NaN", "The body is not JSON: NaN and Infinity are no numbers."),
        (b"[-Infinity]", "The body is not JSON: NaN and Infinity are no numbers."),
        (b"1e999", "A number in the body is too large."),
        (b"1" * 5000, "A number in the body has too many digits."),
        (rb'"\u0000"', "A text in the body holds a NUL character."),
        (rb'{"\u0000": 1}', "A text in the body holds a NUL character."),
        (rb'["\ud800"]', "A text in the body holds half a surrogate pair."),
        (b'{"a": 1, "a": 1}', "An object in the body names a field twice."),
        (b"[" * 33 + b"]" * 33, "The body is nested deeper than 32 levels."),
        (b"[" * 60_000, "The body is nested deeper than 32 levels."),
    ],
    ids=lambda value: repr(value[:20]),
)
def test_what_cannot_be_kept_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(why)}$"):
        parse_json(body)


def test_a_whole_surrogate_pair_and_some_depth_are_fine() -> None:
    assert parse_json(rb'"\ud83d\ude00"') == "\N{GRINNING FACE}"
    assert parse_json(b"[" * 32 + b"]" * 32)


def test_both_bodies_take_either_case_and_show_snake_case() -> None:
    snake = ImportBody.model_validate({"phone_number": "+1", "provider": "twilio"})
    camel = ImportBody.model_validate({"phoneNumber": "+1", "provider": "twilio"})

    assert snake == camel
    for model in (ImportBody, CredentialBody):
        assert not [
            name for name in model.model_json_schema()["properties"] if name.lower() != name
        ]


def test_credentials_are_read_in_either_case() -> None:
    snake = {"account_sid": SID, "auth_token": "obviously-fake"}
    camel = {"accountSid": SID, "authToken": "obviously-fake"}

    assert read_credentials(ProviderName.TWILIO, camel) == snake
    assert read_credentials(ProviderName.TWILIO, snake) == snake


@pytest.mark.parametrize(
    "name", ["AUTH_TOKEN", "AuthToken", "auth-token", "authtoken", "Auth_Token"]
)
def test_other_spellings_are_unknown_fields(name: str) -> None:
    with pytest.raises(InvalidFields) as caught:
        read_credentials(
            ProviderName.TWILIO,
            {"account_sid": SID, "auth_token": "obviously-fake", name: "obviously-fake"},
        )

    [field] = caught.value.fields
    assert (field.field, field.message) == (f"credentials.{name}", "There is no such field.")
    assert "obviously-fake" not in repr(caught.value)
    assert caught.value.__cause__ is None
