from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api_stub.problems import (
    InvalidFields,
    MethodNotAllowed,
    ServiceUnavailable,
    answer,
    document,
    name_fields,
    render,
)
from api_stub.schemas import FieldError
from worker.domain.errors import BY_CODE, InvalidCredentials, ProviderRateLimited, TrunklineError

EVERY: list[type[TrunklineError]] = [*BY_CODE.values(), MethodNotAllowed, ServiceUnavailable]


def body(error: TrunklineError, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(answer(error, **more).body))
    return found


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.code)
def test_every_error_has_a_document(error: type[TrunklineError]) -> None:
    response = answer(error())

    assert response.status_code == error.status
    assert response.media_type == "application/problem+json"
    assert json.loads(bytes(response.body)) == {
        "type": f"urn:trunkline:problem:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": error.status,
        "detail": error.sentence,
        "code": error.code,
    }


def test_the_errors_of_http_alone_have_codes_of_their_own() -> None:
    assert not {MethodNotAllowed.code, ServiceUnavailable.code} & BY_CODE.keys()


def test_a_detail_replaces_the_sentence() -> None:
    assert body(InvalidCredentials("The token is old."))["detail"] == "The token is old."


def test_a_problem_of_an_import_names_it_and_the_step() -> None:
    found = body(InvalidCredentials(), step="validate_credentials", import_id="imp_1")

    assert (found["step"], found["import_id"]) == ("validate_credentials", "imp_1")


@pytest.mark.parametrize("error", EVERY, ids=lambda error: error.code)
def test_a_401_says_how_to_authenticate(error: type[TrunklineError]) -> None:
    assert ("WWW-Authenticate" in answer(error()).headers) is (error.status == 401)


def test_a_known_wait_is_a_whole_number_of_seconds() -> None:
    assert answer(ProviderRateLimited(retry_after=1.2)).headers["Retry-After"] == "2"
    assert "Retry-After" not in answer(ProviderRateLimited()).headers


def test_headers_of_the_caller_are_kept() -> None:
    assert answer(InvalidCredentials(), headers={"Location": "/x"}).headers["Location"] == "/x"


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")

    trunk_name: str = Field(alias="trunkName")
    ports: list[int] = []


class Outer(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inner: Inner


def faults(value: Any) -> list[Any]:
    with pytest.raises(ValidationError) as caught:
        Outer.model_validate(value)
    return [{**fault, "loc": ("body", *fault["loc"])} for fault in caught.value.errors()]


def named(value: Any) -> list[tuple[str, str]]:
    return [(error.field, error.message) for error in name_fields(faults(value))]


def test_fields_are_named_in_snake_case_as_far_as_they_are_ours() -> None:
    assert named({"inner": {"trunkName": 1}}) == [
        ("inner.trunk_name", "Input should be a valid string")
    ]
    assert named({"inner": {"trunkName": "a", "otherName": 1}}) == [
        ("inner.otherName", "There is no such field.")
    ]
    assert named({}) == [("inner", "This field is required.")]
    assert named({"inner": []}) == [("inner", "Must be a JSON object.")]
    assert [field for field, _ in named({"inner": {"trunkName": "a", "ports": [1, "x"]}})] == [
        "inner.ports.1"
    ]


@pytest.mark.parametrize(
    "name", ["tl_abc_1234", "0123456789abcdef", "a b", "x" * 65, "größe", "a\nb", ""]
)
def test_a_name_that_may_be_a_secret_is_not_repeated(name: str) -> None:
    assert named({"inner": {"trunkName": "a"}, name: 1}) == [
        ("(name not shown)", "There is no such field.")
    ]


def test_a_body_that_is_no_object_is_told_how_to_be_one() -> None:
    fault = {"type": "missing", "loc": ("body",), "msg": "Field required", "input": None}

    [error] = name_fields([fault])

    assert error.field == "body"
    assert "Content-Type: application/json" in error.message


def test_credentials_are_named_from_where_they_were_given() -> None:
    fault = {"type": "value_error", "loc": ("auth_token",), "msg": "Value error, must not be empty"}
    whole = {"type": "value_error", "loc": (), "msg": "Value error, give auth_token"}

    assert [
        (error.field, error.message) for error in name_fields([fault, whole], inside="credentials")
    ] == [("credentials.auth_token", "must not be empty"), ("credentials", "give auth_token")]


def test_no_more_than_twenty_faults_are_named() -> None:
    fault = {"type": "missing", "loc": ("body", "a"), "msg": "Field required"}

    assert len(name_fields([fault] * 1000)) == 20


def test_invalid_fields_are_listed_and_summed_up() -> None:
    error = InvalidFields(
        FieldError(field="a", message="is missing"), FieldError(field="b", message="is odd")
    )

    found = render(error)

    assert (found.code, found.status) == ("invalid_request", 400)
    assert found.detail == "a: is missing; b: is odd"
    assert found.errors == list(error.fields)


def test_the_documentation_gives_an_example_of_every_problem() -> None:
    found = document(*EVERY)

    shown = {
        code
        for entry in found.values()
        for code in entry["content"]["application/problem+json"]["examples"]
    }
    assert shown == {error.code for error in EVERY}
    assert "default" in found
