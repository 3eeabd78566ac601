"""What the API takes: strict JSON, and the bodies that it may hold.

Python's parser takes more than JSON is, and Postgres less: NaN, a number beyond every float, half a
surrogate pair, a NUL, a name given twice. They are refused here, once, before they can become an
error of the database.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Coroutine, Mapping
from typing import Annotated, Any, Final, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import AfterValidator, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel, to_snake
from starlette.datastructures import Headers

from api_stub.problems import InvalidFields, name_fields
from api_stub.schemas import FieldError
from worker.domain.values import ProviderName, require_one_line
from worker.providers import PROVIDERS
from worker.service import ImportRequest, Input, NumberChange

#: What people call things, and read in tables and logs.
Label = Annotated[str, Field(max_length=100), AfterValidator(require_one_line)]
#: Deeper than any sensible metadata, shallower than what recursive code can stand.
_DEEPEST: Final = 32

_ACCOUNT_SID: Final = "AC00000000000000000000000000000000"
_TOKEN: Final = "0" * 32


class StrictRoute(APIRoute):
    """A route whose body is strict JSON."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns FastAPI's handler, given a request that reads strictly."""
        handle = super().get_route_handler()

        async def strictly(request: Request) -> Response:
            return await handle(_StrictRequest(request.scope, request.receive))

        return strictly


class _StrictRequest(Request):
    async def json(self) -> Any:  # noqa: ANN401 -- whatever JSON holds
        try:
            require_plain(self.headers)
            return parse_json(await self.body())
        except _NotJson as error:
            # Not raised, or it would come before the key is looked at: FastAPI reads the body
            # first. A missing body is refused after that, and then this says why.
            self.state.unreadable = str(error)
            return None


def require_plain(headers: Headers) -> None:
    """Refuses a compressed body: a thousand bytes of it may be a million.

    Raises:
        ValueError: says so.
    """
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise _NotJson("Send the body as it is, without a Content-Encoding.")


class _NotJson(ValueError):
    """Its message says why, without a word of the body."""


def parse_json(body: bytes) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """Parses what RFC 8259 calls JSON, and what Postgres can store of it.

    Raises:
        ValueError: says why, without a word of the body.
    """
    try:
        value = json.loads(body.decode(), parse_constant=_no_constant, object_pairs_hook=_object)
    except UnicodeDecodeError:
        raise _NotJson("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _NotJson(
            f"The body is not JSON: something is wrong at line {error.lineno}, "
            f"column {error.colno}."
        ) from None
    except RecursionError:
        raise _NotJson(f"The body is nested deeper than {_DEEPEST} levels.") from None
    except _NotJson:
        raise
    except ValueError:
        raise _NotJson("A number in the body has too many digits.") from None
    _check(value)
    return value


def _no_constant(_name: str) -> NoReturn:
    raise _NotJson("The body is not JSON: NaN and Infinity are no numbers.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _NotJson("An object in the body names a field twice.")
    return found


def _check(root: Any) -> None:  # noqa: ANN401 -- whatever JSON holds
    waiting = [(root, 1)]
    while waiting:
        value, depth = waiting.pop()
        if depth > _DEEPEST:
            raise _NotJson(f"The body is nested deeper than {_DEEPEST} levels.")
        if isinstance(value, str):
            _check_text(value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise _NotJson("A number in the body is too large.")
        elif isinstance(value, dict):
            waiting += [(one, depth + 1) for pair in value.items() for one in pair]
        elif isinstance(value, list):
            waiting += [(one, depth + 1) for one in value]


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _NotJson("A text in the body holds a NUL character.")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _NotJson("A text in the body holds half a surrogate pair.") from None


_CREDENTIALS: Final = "Their fields depend on the provider. " + " ".join(
    f"`{name}`: {', '.join(provider.credentials_model.model_fields)}."
    for name, provider in PROVIDERS.items()
)


class ImportBody(ImportRequest):
    """One import; either `credential_id` or `credentials`."""

    model_config = ConfigDict(
        title="ImportRequest",
        json_schema_extra={
            "examples": [
                {
                    "phone_number": "+14155550100",
                    "provider": "twilio",
                    "credentials": {"account_sid": _ACCOUNT_SID, "auth_token": _TOKEN},
                    "friendly_name": "Front desk",
                }
            ]
        },
    )

    credentials: dict[str, Any] | None = Field(
        default=None, description=f"Inline credentials. {_CREDENTIALS}"
    )


class NumberBody(NumberChange):
    """What of a number is to change: what is left out stays, null clears."""

    model_config = ConfigDict(
        title="NumberChange",
        json_schema_extra={
            "examples": [
                {
                    "agent_id": "agt_01890a5d000070008000000000000004",
                    "inbound": {"voicemail_message": "Please leave a message after the tone."},
                }
            ]
        },
    )


class CredentialBody(Input):
    """A provider account to be stored."""

    model_config = ConfigDict(
        title="CredentialRequest",
        json_schema_extra={
            "examples": [
                {
                    "provider": "twilio",
                    "label": "Main account",
                    "credentials": {"account_sid": _ACCOUNT_SID, "auth_token": _TOKEN},
                }
            ]
        },
    )

    provider: ProviderName
    credentials: dict[str, Any] = Field(description=_CREDENTIALS)
    label: Label = ""


class CredentialChange(Input):
    """What of a provider account is to change: what is left out stays."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"credentials": {"account_sid": _ACCOUNT_SID, "auth_token": _TOKEN}}]
        },
    )

    credentials: dict[str, Any] | None = Field(
        default=None, description=f"All of them, also those that stay. {_CREDENTIALS}"
    )
    label: Label | None = None
    overlap_seconds: int = Field(
        default=3600,
        strict=True,
        ge=0,
        le=86400,
        description="How long webhooks signed with the replaced secret are still answered; 0 if it "
        "has leaked.",
    )


def _snake(name: str) -> str:
    snake = to_snake(name)
    return snake if to_camel(snake) == name else name


def read_credentials(provider: ProviderName, given: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a provider's credentials in snake_case, known to be well-formed.

    Raises:
        InvalidFields: names each wrong field, never its value.
    """
    values = {_snake(name): value for name, value in given.items()}
    if len(values) != len(given):
        message = "Give each field once, in snake_case or in camelCase."
        raise InvalidFields(FieldError(field="credentials", message=message))
    try:
        PROVIDERS[provider].credentials_model.model_validate(values)
    except ValidationError as error:
        # From None: its repr may hold a credential.
        raise InvalidFields(*name_fields(error.errors(), inside="credentials")) from None
    return values
