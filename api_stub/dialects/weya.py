"""Weya: ``POST /api/call/add-phone``.

Weya's document, "Add Phone Number": inline credentials of Plivo, Twilio or Telnyx. What it leaves
open, and what is done here:

- It takes a number that the account owns and says that its webhooks "are automatically configured",
  with no word for "replace" and no error for a number that is in use: so what answered before is
  replaced. It is kept, and put back when the number is released.
- A Telnyx account comes without the public key that its webhooks are verified with, so none are set
  and no call status is reported: calls go through a SIP connection instead, which needs none.
  ``accSId`` is Telnyx's own there ("automatically configured"): it is kept in the metadata.
- An error's body is not shown; it has the envelope of the success, with ``data: null``. Whatever
  the document names no status for is 400 if it is the client's to mend, else 500.
"""

from __future__ import annotations

import re
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from api_stub.auth import Front, Starter
from api_stub.dialects._core import (
    Dialect,
    StillRunning,
    accepted,
    import_number,
    object_id,
    retry_after,
    reworded,
    timestamp,
)
from worker.domain.errors import (
    Forbidden,
    InvalidRequest,
    RateLimited,
    TransientError,
    TrunklineError,
    Unauthenticated,
    UserNotFound,
)
from worker.domain.values import ProviderName, RoutingMode
from worker.service import ImportRequest

_EXAMPLE_USER: Final = "64e5f12345abcdef12345678"
#: 24 digits are the platform's own ids, the others ours.
_USER_ID: Final = re.compile(
    r"(?P<own>[0-9a-f]{24})|usr_[0-9a-f]{32}"
    r"|(?P<uuid>[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12})",
    re.IGNORECASE,
)
_APPLICATION_ID: Final = re.compile(r"[0-9]{1,32}")
#: These keep their status, and an unknown user; see the module's words on the others.
_OWN_STATUS: Final = (Unauthenticated, Forbidden, UserNotFound, RateLimited)
_WORDS: Final = {
    "credentials.account_sid": "accSId",
    "credentials.auth_id": "accSId",
    "credentials.auth_token": "authToken",
    "credentials.api_key": "authToken",
    "user_id": "userId",
}


class Integration(StrEnum):
    """Who holds the number."""

    #: By Auth ID and Auth Token.
    PLIVO = "plivo"
    #: By Account SID and Auth Token.
    TWILIO = "twilio"
    #: By API key.
    TELNYX = "telnyx"


class AddPhoneRequest(BaseModel):
    """A number and the account that holds it."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "userId": _EXAMPLE_USER,
                    "phoneNumber": "12125551234",
                    "integration": "twilio",
                    "authToken": "your_auth_token",
                    "accSId": "your_account_sid",
                }
            ]
        },
    )

    user_id: Annotated[
        str,
        Field(
            alias="userId",
            description="ID of the user who will own this phone number.",
            examples=[_EXAMPLE_USER],
        ),
    ]
    phone_number: Annotated[
        str,
        Field(
            alias="phoneNumber",
            description="Phone number with country code (e.g., “12125551234”). The + prefix is "
            "optional. Must be owned by your integration account.",
        ),
    ]
    integration: Annotated[
        Integration, Field(description="Integration provider for this phone number.")
    ]
    auth_token: Annotated[
        SecretStr,
        Field(
            alias="authToken",
            description="For Plivo, this is the Auth Token. For Twilio, this is the Auth Token. "
            "For Telnyx, this is the API Key.",
        ),
    ]
    acc_sid: Annotated[
        str | None,
        Field(
            alias="accSId",
            description="For Plivo, this is the Auth ID. For Twilio, this is the Account SID. For "
            "Telnyx, this is the App ID (automatically configured).",
        ),
    ] = None


class PhoneRecord(BaseModel):
    """Phone number record that was created."""

    id: Annotated[
        str,
        Field(
            serialization_alias="_id", description="Unique identifier for the phone number record."
        ),
    ]
    user_id: Annotated[str, Field(serialization_alias="userId")]
    phone_number: Annotated[
        str,
        Field(
            serialization_alias="phoneNumber",
            description="Phone number that was added (with country code), written as it came.",
        ),
    ]
    integration: Annotated[
        Integration, Field(description="Integration provider used for this number.")
    ]
    created_at: Annotated[str, Field(serialization_alias="createdAt")]


class AddPhoneResponse(BaseModel):
    """The contract's envelope."""

    message: str
    status: bool
    code: int
    error_message: Annotated[str, Field(serialization_alias="errorMessage")]
    data: PhoneRecord | None


class Weya(Dialect):
    """The contract's words."""

    name: ClassVar[str] = "weya"

    def refuse(self, error: TrunklineError) -> Response:
        """Says an error in the envelope, under one of the contract's statuses."""
        status = HTTPStatus.BAD_REQUEST
        if isinstance(error, _OWN_STATUS):
            status = HTTPStatus(error.status)
        elif isinstance(error, TransientError) or error.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            status = HTTPStatus.INTERNAL_SERVER_ERROR
        document = _envelope(status, "Failed to add phone number", reworded(error.message, _WORDS))
        return JSONResponse(document, status, headers=retry_after(error))

    def invalid(self, request: Request, error: RequestValidationError) -> Response:
        """Names the wrong fields as the contract does."""
        if getattr(request.state, "unreadable", None) is not None:
            return super().invalid(request, error)
        found = (
            f"{'.'.join(map(str, fault['loc'][1:])) or 'body'}: {fault['msg']}"
            for fault in error.errors()
        )
        return self.refuse(InvalidRequest("; ".join(found)))


router = Weya().router()


@router.post(
    "/api/call/add-phone",
    summary="Add Phone Number",
    status_code=HTTPStatus.CREATED,
    response_model=AddPhoneResponse,
    responses={
        201: {"description": "Phone number added successfully"},
        202: {"model": AddPhoneResponse, "description": "The import goes on."},
        400: {
            "model": AddPhoneResponse,
            "description": "Invalid User ID format, phone number already exists for this user, or "
            "invalid credentials for the integration provider.",
        },
        404: {
            "model": AddPhoneResponse,
            "description": "User not found with the provided userId.",
        },
        500: {
            "model": AddPhoneResponse,
            "description": "Failed to set up integration webhooks or other server errors.",
        },
        "default": {"model": AddPhoneResponse, "description": "Why it was refused."},
    },
)
async def add_phone(
    *, request: Request, service: Front, caller: Starter, body: AddPhoneRequest
) -> Response:
    """Imports a number of the Plivo, Twilio or Telnyx account that the request brings."""
    wanted = _import_of(body)
    try:
        _, number = await import_number(request, service, caller, wanted)
    except StillRunning as still:
        document = _envelope(HTTPStatus.ACCEPTED, "The phone number is being added")
        return accepted(still.job, document)
    data = PhoneRecord(
        id=object_id(number.id),
        user_id=body.user_id,
        phone_number=body.phone_number,
        integration=body.integration,
        created_at=timestamp(number.created_at),
    )
    document = _envelope(HTTPStatus.CREATED, "Phone number added successfully", data=data)
    return JSONResponse(document, HTTPStatus.CREATED)


def _envelope(
    status: HTTPStatus, message: str, error: str = "", *, data: PhoneRecord | None = None
) -> dict[str, Any]:
    document = AddPhoneResponse(
        message=message, status=not error, code=status, error_message=error, data=data
    )
    return document.model_dump(mode="json", by_alias=True)


def _import_of(body: AddPhoneRequest) -> ImportRequest:
    """Returns the import that a request means.

    Raises:
        InvalidRequest: the user's id is none, or the account's is missing.
    """
    is_telnyx = body.integration is Integration.TELNYX
    return ImportRequest(
        phone_number=f"+{body.phone_number.removeprefix('+')}",
        provider=ProviderName(body.integration),
        credentials=_credentials(body),
        user_id=_user_id(body.user_id),
        routing_mode=RoutingMode.SIP_TRUNK if is_telnyx else RoutingMode.WEBHOOK,
        replace_existing_routing=True,
        # Telnyx's ids of applications are numbers; anything else may be a secret in the wrong
        # field, and metadata is shown.
        metadata={"accSId": body.acc_sid}
        if is_telnyx and body.acc_sid and _APPLICATION_ID.fullmatch(body.acc_sid)
        else {},
    )


def _credentials(body: AddPhoneRequest) -> dict[str, Any]:
    token = body.auth_token.get_secret_value()
    if body.integration is Integration.TELNYX:
        return {"api_key": token}
    if body.acc_sid is None:
        raise InvalidRequest("accSId: Field required")
    account = "auth_id" if body.integration is Integration.PLIVO else "account_sid"
    return {account: body.acc_sid, "auth_token": token}


def _user_id(text: str) -> str:
    found = _USER_ID.fullmatch(text)
    if found is None:
        raise InvalidRequest("Invalid User ID format")
    uuid = found["uuid"]
    return text if uuid is None else f"usr_{uuid.replace('-', '').lower()}"
