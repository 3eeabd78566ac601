"""Nixflex: ``POST /v1/phone-numbers``.

https://docs.nixflex.com/api-reference/phone-numbers/import, with the shape of errors and their
types from https://docs.nixflex.com/reference/errors. A number of the Twilio account whose
credentials come with it, bound to an agent; whatever it did before is replaced, SMS too.

The order of checks is the document's: formats, then the number in the Twilio account, then the
agent, then whether the number is taken. Our own refuses what it can without asking Twilio, so that
before the last two are said Twilio is asked whether it has something to say first.

``twilio_auth_failed`` is Twilio's 20003, to which it answers a SID and token that do not belong
together; ``twilio_invalid_credentials`` is every other reason why the pair cannot be used, such as
a suspended account, a token that is not the primary one, or one that is no token at all. An error
for which the document has no code keeps ours.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Final

import anyio.to_thread
from fastapi import Depends, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import (
    AfterValidator,
    AliasChoices,
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
)
from pydantic.alias_generators import to_camel, to_snake

from api_stub.auth import Front, identify, spend
from api_stub.dialects._core import (
    Dialect,
    StillRunning,
    accepted,
    import_number,
    retry_after,
    reworded,
)
from worker.domain.allowances import Allowance
from worker.domain.errors import (
    AccountSuspended,
    AgentNotFound,
    AgentNotOwned,
    CallbacksUnreachable,
    InsufficientPermission,
    InvalidCredentials,
    InvalidPhoneNumber,
    InvalidRequest,
    LiveKitUnavailable,
    NumberAlreadyImported,
    NumberBusy,
    NumberNotOwned,
    PermanentError,
    ProviderUnavailable,
    SignaturesUnverifiable,
    TransientError,
    TrunklineError,
    Unauthenticated,
    WebhookSetupFailed,
)
from worker.domain.values import E164, ProviderName
from worker.service import Caller, ImportRequest, NumberRecord, Permission, Service

_ERRORS_PAGE: Final = "https://docs.nixflex.com/reference/errors"
_OUR_AGENT: Final = re.compile(r"agent_([0-9a-f]{32})")
_SID: Final = re.compile(r"AC[a-f0-9]{32}")


class MissingField(InvalidRequest):
    """One of the four is missing or empty, or there is no JSON at all."""

    code = "missing_field"
    sentence = "Send a JSON object with phone_number, twilio_sid, twilio_token and agent_id."

    def __init__(self, detail: str = "", *, field: str | None = None) -> None:
        super().__init__(detail)
        self.field = field


class InvalidTwilioSid(InvalidRequest):
    """The SID is none."""

    code = "invalid_twilio_sid"
    sentence = "twilio_sid must be AC and 32 hexadecimal digits in lower case."


class KeySecretRequired(Unauthenticated):
    """The key came without its secret."""

    code = "key_secret_required"
    sentence = "Send the key with its secret: `Authorization: Bearer KEY_ID:KEY_SECRET`."


#: Our error → the contract's code and status; an error is looked up with the classes above it.
_CODES: Final[Mapping[type, tuple[str, int]]] = MappingProxyType(
    {
        MissingField: ("missing_field", 400),
        InvalidPhoneNumber: ("invalid_phone_format", 400),
        InvalidTwilioSid: ("invalid_twilio_sid", 400),
        AgentNotFound: ("agent_not_found", 404),
        AgentNotOwned: ("agent_not_owned", 403),
        NumberNotOwned: ("number_not_in_twilio", 404),
        InvalidCredentials: ("twilio_auth_failed", 401),
        AccountSuspended: ("twilio_invalid_credentials", 401),
        InsufficientPermission: ("twilio_invalid_credentials", 401),
        SignaturesUnverifiable: ("twilio_invalid_credentials", 401),
        # The formats are known to be right by then, so it is the token's.
        InvalidRequest: ("twilio_invalid_credentials", 401),
        NumberAlreadyImported: ("number_already_imported", 409),
        NumberBusy: ("number_already_imported", 409),
        KeySecretRequired: ("key_secret_required", 401),
        Unauthenticated: ("invalid_api_key", 401),
        ProviderUnavailable: (ProviderUnavailable.code, 502),
        LiveKitUnavailable: (LiveKitUnavailable.code, 502),
        CallbacksUnreachable: (CallbacksUnreachable.code, 502),
        WebhookSetupFailed: (WebhookSetupFailed.code, 502),
    }
)
#: Status → type of error; the document has no other status.
_TYPES: Final[Mapping[int, str]] = MappingProxyType(
    {
        400: "invalid_request",
        401: "authentication_error",
        403: "permission_error",
        404: "not_found",
        409: "conflict",
        429: "rate_limit_error",
        500: "server_error",
        502: "provider_error",
    }
)
#: Which field an error is about.
_FIELDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "invalid_phone_format": "phone_number",
        "invalid_twilio_sid": "twilio_sid",
        "agent_not_found": "agent_id",
        "agent_not_owned": "agent_id",
    }
)
_WORDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "credentials.auth_token": "twilio_token",
        "Bearer KEY` or `X-Api-Key: KEY`": "Bearer KEY_ID:KEY_SECRET`",
    }
)
#: What Twilio may have to say, and what the document checks after that.
_TWILIO: Final = (
    InvalidCredentials,
    AccountSuspended,
    InsufficientPermission,
    SignaturesUnverifiable,
    NumberNotOwned,
    # A token that cannot be one: it need not be asked.
    InvalidRequest,
)
_LATER: Final = (AgentNotFound, AgentNotOwned, NumberAlreadyImported, NumberBusy)


def _either_case(name: str) -> AliasChoices:
    return AliasChoices(name, to_camel(name))


def _not_blank(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().strip():
        raise ValueError("must not be empty")
    return value


class ImportPhoneNumberRequest(BaseModel):
    """A number of the customer's Twilio account, and the agent that answers it."""

    model_config = ConfigDict(
        alias_generator=AliasGenerator(validation_alias=_either_case),
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "phone_number": "+447446466847",
                    "twilio_sid": "ACxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx",
                    "twilio_token": "your_twilio_auth_token",
                    "agent_id": "agent_125207e452f8714a",
                }
            ]
        },
    )

    phone_number: str = Field(
        pattern=r"\S",
        description="E.164 format (`+44...`). Must already exist in your Twilio account",
    )
    twilio_sid: str = Field(
        pattern=r"\S",
        description="Customer's Twilio Account SID, format `AC` + 32 hex chars",
    )
    twilio_token: Annotated[SecretStr, AfterValidator(_not_blank)] = Field(
        description="Customer's Twilio Auth Token"
    )
    agent_id: str = Field(pattern=r"\S", description="Must be an agent you own")


class PhoneNumber(BaseModel):
    """The number as the contract knows it."""

    phone_number: str
    agent_id: str
    twilio_number_sid: str | None
    inbound_enabled: bool
    outbound_enabled: bool


class ImportPhoneNumberResponse(BaseModel):
    """The contract's answer."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "phone_number": {
                        "phone_number": "+447446466847",
                        "agent_id": "agent_125207e452f8714a",
                        "twilio_number_sid": "PN451e0ddf654327e36baab58dfbcd30d6",
                        "inbound_enabled": True,
                        "outbound_enabled": True,
                    }
                }
            ]
        }
    )

    phone_number: PhoneNumber


class ErrorDetail(BaseModel):
    """What went wrong; a program reads ``code``."""

    type: str
    code: str
    message: str
    doc_url: str
    details: dict[str, Any]


class ErrorResponse(BaseModel):
    """The contract's refusal."""

    error: ErrorDetail


class Nixflex(Dialect):
    """The contract's words."""

    name: ClassVar[str] = "nixflex"

    def refuse(self, error: TrunklineError) -> Response:
        """Says an error with the contract's code, type and status."""
        named = next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), None)
        code, status = named or (error.code, error.status)
        if status not in _TYPES:
            status = 500 if status > 500 else 400  # noqa: PLR2004 -- HTTP
        field = _FIELDS.get(code) or getattr(error, "field", None)
        document = ErrorResponse(
            error=ErrorDetail(
                type=_TYPES[status],
                code=code,
                message=reworded(error.message, _WORDS),
                doc_url=f"{_ERRORS_PAGE}#{code}",
                details={} if field is None else {"field": field},
            )
        )
        return JSONResponse(document.model_dump(), status, headers=retry_after(error))

    def invalid(self, request: Request, error: RequestValidationError) -> Response:
        """Says the first thing that is wrong, in the document's order: a missing field is first."""
        del request  # what of it is unreadable, the document has no word for
        wrong = {to_snake(str(fault["loc"][-1])): fault for fault in error.errors()}
        empty = [name for name in wrong if _is_empty(wrong[name])]
        if not empty and "phone_number" in wrong:
            return self.refuse(InvalidPhoneNumber())
        if not empty and "twilio_sid" in wrong:
            return self.refuse(InvalidTwilioSid())
        field = (empty or list(wrong))[0]
        if field not in ImportPhoneNumberRequest.model_fields:
            return self.refuse(MissingField())
        return self.refuse(MissingField(f"{field} is required, as a string.", field=field))


def _is_empty(fault: Mapping[str, Any]) -> bool:
    """Whether a field is not there, null, or a string of nothing."""
    value = fault["input"]
    return fault["type"] == "missing" or value is None or isinstance(value, str)


async def _holder(
    request: Request,
    service: Front,
    bearer: Annotated[
        HTTPAuthorizationCredentials | None,
        Security(
            HTTPBearer(scheme_name="KeyPair", description="`KEY_ID:KEY_SECRET`.", auto_error=False)
        ),
    ],
) -> Caller:
    """Returns who calls; of the key ``tl_ID_SECRET`` the id and the secret come apart."""
    if bearer is None:
        raise Unauthenticated
    key_id, _, secret = bearer.credentials.partition(":")
    if not secret:
        raise KeySecretRequired
    caller = await identify(request, service, f"tl_{key_id.removeprefix('tl_')}_{secret}")
    caller.require(Permission.CREATE_NUMBERS)
    await spend(request, service, caller, Allowance.IMPORTS)
    return caller


router = Nixflex().router()


@router.post(
    "/v1/phone-numbers",
    name="import_nixflex_phone_number",
    summary="Import phone number",
    status_code=HTTPStatus.CREATED,
    response_model=ImportPhoneNumberResponse,
    responses={
        202: {"model": ImportPhoneNumberResponse, "description": "The import goes on."},
        **{status: {"model": ErrorResponse} for status in _TYPES},
        "default": {"model": ErrorResponse, "description": "Why it was refused."},
    },
)
async def import_phone_number(
    *,
    request: Request,
    service: Front,
    caller: Annotated[Caller, Depends(_holder)],
    body: ImportPhoneNumberRequest,
) -> Response:
    """Imports an existing Twilio number under one of your agents; replaces all its webhooks."""
    E164.parse(body.phone_number)
    if _SID.fullmatch(body.twilio_sid) is None:
        raise InvalidTwilioSid
    wanted = ImportRequest(
        phone_number=body.phone_number,
        provider=ProviderName.TWILIO,
        credentials={
            "account_sid": body.twilio_sid,
            "auth_token": body.twilio_token.get_secret_value(),
        },
        agent_id=_agent_id(body.agent_id),
        replace_existing_routing=True,
        sms_enabled=True,
    )
    try:
        _, number = await import_number(request, service, caller, wanted)
    except StillRunning as still:
        return accepted(still.job, _document(body, None).model_dump())
    except _LATER as error:
        raise await _first(request, service, caller, wanted, error) from None
    return JSONResponse(_document(body, number).model_dump(), HTTPStatus.CREATED)


def _agent_id(text: str) -> str:
    """Returns an agent's id as the service knows it; what is none of ours as it is."""
    ours = _OUR_AGENT.fullmatch(text)
    return f"agt_{ours[1]}" if ours else text


async def _first(
    request: Request,
    service: Service,
    caller: Caller,
    wanted: ImportRequest,
    refusal: PermanentError,
) -> PermanentError:
    """Returns what the document says before a refusal: what Twilio has against the import."""
    look = partial(service.preflight, caller, wanted)
    try:
        found = await anyio.to_thread.run_sync(look, limiter=request.app.state.lookers)
    except TransientError:
        return refusal  # it holds, whatever Twilio would say
    said = (one.error for one in found.refusals if isinstance(one.error, _TWILIO))
    return next(said, refusal)


def _document(
    body: ImportPhoneNumberRequest, number: NumberRecord | None
) -> ImportPhoneNumberResponse:
    """The number; None while it is being imported: then nothing of it is enabled."""
    return ImportPhoneNumberResponse(
        phone_number=PhoneNumber(
            phone_number=body.phone_number,
            # As the client names it: it may be an id of its own.
            agent_id=body.agent_id,
            twilio_number_sid=None if number is None else number.provider_number_id,
            inbound_enabled=number is not None and number.supports_inbound,
            outbound_enabled=number is not None and number.supports_outbound,
        )
    )
