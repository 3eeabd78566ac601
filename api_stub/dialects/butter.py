"""Butter: ``POST /api/phone-numbers``.

https://docs.getbutter.ai/api-reference/phone-numbers/import. A number of a stored Twilio account
(an integration), or of a SIP carrier. Where the document is silent:

- Success is 201, as for whatever is created; refusals have the envelope with ``success: false``.
- 403, 404 and 409 mean what the document says they do and nothing else, so that no client takes a
  number that could not be imported for one that is there; 401 is the API key's. Whatever else lies
  with the request, the integration or the number is 400.
- The PIN has "4-10 characters" there. Callers type it on a telephone, so that they must be digits;
  others are refused with 400.
- A number whose calls already go elsewhere is refused: the document promises no replacement.
- null means "not given"; fields that the document does not name are ignored.
- The room name pattern is the beginning of the room's name: each call gets a room of its own.
- SIP fields count for a Twilio number, too: a PIN is never dropped, and a SIP server is where its
  outbound calls go.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal

from fastapi import Depends, Header, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr, StrictBool

from api_stub.auth import Front, Starter
from api_stub.dialects._core import (
    Dialect,
    StillRunning,
    accepted,
    import_number,
    retry_after,
    reworded,
)
from api_stub.problems import InvalidFields
from api_stub.schemas import FieldError
from worker.domain.errors import (
    CredentialNotFound,
    CredentialNotOwned,
    Forbidden,
    NumberAlreadyImported,
    PermanentError,
    TrunklineError,
    Unauthenticated,
)
from worker.domain.values import MediaEncryption, format_id
from worker.service import Caller, ImportRequest, NumberRecord

#: What keeps its own status; the document has each of them but 401.
_NAMED: Final = (
    Unauthenticated,
    Forbidden,
    CredentialNotFound,
    CredentialNotOwned,
    NumberAlreadyImported,
)
#: Our names → the contract's. In this order: a longer one stands before what it contains.
_WORDS: Final = {
    "sip.username and sip.password, or sip.allowed_addresses": "sip_username and sip_password",
    "sip.trunk_name": "sip_trunk_name",
    "sip.address": "sip_server_address",
    "sip.username": "sip_username",
    "sip.password": "sip_password",
    "sip.media_encryption": "media_encryption",
    "inbound.room_pattern": "inbound_room_name",
    "inbound.pin": "inbound_pin",
    "stored credential": "integration",
    "credential_id": "integration_id",
    "This credential": "This integration",
    "media_encryption require needs routing_mode sip_trunk": (
        "media_encryption require is for provider sip, or for POST /v1/imports with routing_mode "
        "sip_trunk"
    ),
    "Send replace_existing_routing: true to replace that": (
        "Clear that at the provider first, or send replace_existing_routing: true to "
        "POST /v1/imports to replace that"
    ),
}
_OUR_ID: Final = re.compile(r"intg_([0-9a-f]{32})")


class ImportPhoneNumberRequest(BaseModel):
    """A number of a stored Twilio account, or of a SIP carrier."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "phone_number": "+15551234567",
                    "provider": "twilio",
                    "supports_inbound": True,
                    "supports_outbound": True,
                    "integration_id": "intg_a1b2c3d4e5f6",
                },
                {
                    "phone_number": "+15559876543",
                    "provider": "sip",
                    "supports_inbound": True,
                    "supports_outbound": True,
                    "sip_trunk_name": "my-trunk",
                    "sip_server_address": "sip.example.com",
                    "sip_username": "user",
                    "sip_password": "pass",
                    "media_encryption": "require",
                },
            ]
        },
    )

    phone_number: str = Field(description="Phone number in E.164 format (e.g., +12345678900).")
    provider: Literal["twilio", "sip"] = Field(description="Provider type: twilio or sip.")
    supports_inbound: StrictBool | None = Field(
        default=False, description="Whether the number supports inbound calls."
    )
    supports_outbound: StrictBool | None = Field(
        default=False,
        description="Whether the number supports outbound calls. With neither the number is only "
        "recorded.",
    )
    integration_id: str | None = Field(
        default=None,
        description="Integration ID (required for Twilio provider). Must be a valid Twilio "
        "integration.",
    )
    sip_trunk_name: str | None = Field(default=None, description="Name for the SIP trunk.")
    sip_username: str | None = Field(default=None, description="SIP username for authentication.")
    sip_password: SecretStr | None = Field(
        default=None, description="SIP password for authentication."
    )
    sip_server_address: str | None = Field(
        default=None, description="SIP server address (required for outbound)."
    )
    inbound_room_name: str | None = Field(
        default=None, description="Room name pattern for inbound calls: how the name begins."
    )
    inbound_pin: SecretStr | None = Field(
        default=None,
        description="Optional PIN for inbound calls (4-10 characters). Digits: callers type it.",
    )
    media_encryption: MediaEncryption | None = Field(
        default=MediaEncryption.ALLOW,
        description="SIP media encryption mode: disable, allow, or require.",
    )


class PhoneNumber(BaseModel):
    """The number as the contract knows it."""

    phone_number_id: str
    phone_number: str
    provider: str
    status: str = Field(description="`free` until an agent is bound to it.")
    supports_inbound: bool
    supports_outbound: bool
    integration_id: str | None
    created_at: str
    updated_at: str


class ImportPhoneNumberResponse(BaseModel):
    """The contract's envelope."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "success": True,
                    "message": "Phone number imported successfully with twilio",
                    "data": {
                        "phone_number_id": "phon_a1b2c3d4e5f6",
                        "phone_number": "+15551234567",
                        "provider": "twilio",
                        "status": "free",
                        "supports_inbound": True,
                        "supports_outbound": True,
                        "integration_id": "intg_a1b2c3d4e5f6",
                        "created_at": "2024-01-15T10:30:00Z",
                        "updated_at": "2024-01-15T10:30:00Z",
                    },
                }
            ]
        }
    )

    success: bool
    message: str
    data: PhoneNumber | None = None


class Butter(Dialect):
    """The contract's words."""

    name: ClassVar[str] = "butter"

    def refuse(self, error: TrunklineError) -> Response:
        """Says an error in the envelope, under one of the contract's statuses."""
        status = error.status
        ours = status >= HTTPStatus.INTERNAL_SERVER_ERROR
        if isinstance(error, PermanentError) and not isinstance(error, _NAMED) and not ours:
            status = HTTPStatus.BAD_REQUEST
        document = ImportPhoneNumberResponse(success=False, message=reworded(error.message, _WORDS))
        return JSONResponse(
            document.model_dump(exclude_none=True), status, headers=retry_after(error)
        )


async def _member(
    caller: Starter,
    organization_id: Annotated[
        str, Header(alias="X-Organization-Id", description="The organization ID.")
    ],
) -> Caller:
    """Returns who calls, who must say of which organisation."""
    if organization_id != format_id("org", caller.organization_id):
        raise Forbidden("X-Organization-Id is not the organization of this API key.")
    return caller


router = Butter().router()


@router.post(
    "/api/phone-numbers",
    name="import_butter_phone_number",
    summary="Import phone number",
    status_code=HTTPStatus.CREATED,
    response_model=ImportPhoneNumberResponse,
    responses={
        202: {"model": ImportPhoneNumberResponse, "description": "The import goes on."},
        400: {
            "model": ImportPhoneNumberResponse,
            "description": "Missing required fields or invalid provider.",
        },
        403: {
            "model": ImportPhoneNumberResponse,
            "description": "Integration belongs to different organization.",
        },
        404: {
            "model": ImportPhoneNumberResponse,
            "description": "Integration not found (for Twilio).",
        },
        409: {
            "model": ImportPhoneNumberResponse,
            "description": "Phone number already exists in the system.",
        },
        "default": {"model": ImportPhoneNumberResponse, "description": "Why it was refused."},
    },
)
async def import_phone_number(
    *,
    request: Request,
    service: Front,
    caller: Annotated[Caller, Depends(_member)],
    body: ImportPhoneNumberRequest,
) -> Response:
    """Imports a phone number from a provider (Twilio or LiveKit SIP)."""
    if body.provider == "twilio" and not body.integration_id:
        message = "This field is required for provider twilio."
        raise InvalidFields(FieldError(field="integration_id", message=message))
    try:
        _, number = await import_number(request, service, caller, _wanted(body))
    except StillRunning as still:
        return accepted(still.job, {"success": True, "message": "The number is being imported."})
    document = ImportPhoneNumberResponse(
        success=True,
        message=f"Phone number imported successfully with {body.provider}",
        data=_data(number, body),
    )
    return JSONResponse(document.model_dump(), HTTPStatus.CREATED)


def _wanted(body: ImportPhoneNumberRequest) -> ImportRequest:
    sip = {
        "trunk_name": body.sip_trunk_name,
        "address": body.sip_server_address,
        "username": body.sip_username,
        "password": body.sip_password,
        "media_encryption": body.media_encryption,
    }
    inbound = {"room_pattern": body.inbound_room_name, "pin": body.inbound_pin}
    return ImportRequest.model_validate(
        {
            "phone_number": body.phone_number,
            "provider": body.provider,
            "credential_id": _credential_id(body.integration_id),
            "supports_inbound": bool(body.supports_inbound),
            "supports_outbound": bool(body.supports_outbound),
            "sip": _given(sip),
            "inbound": _given(inbound),
        }
    )


def _credential_id(text: str | None) -> str | None:
    """Returns an integration's id as the service knows it; what is none of ours as it is."""
    ours = _OUR_ID.fullmatch(text or "")
    return f"cred_{ours[1]}" if ours else text or None


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _data(number: NumberRecord, body: ImportPhoneNumberRequest) -> PhoneNumber:
    return PhoneNumber(
        phone_number_id=format_id("phon", number.id),
        phone_number=number.e164,
        provider=number.provider,
        # What the document calls a number with an agent it does not say; here none is bound yet.
        status="free" if number.agent_id is None else "bound",
        supports_inbound=number.supports_inbound,
        supports_outbound=number.supports_outbound,
        # As the client names it: it may be an id of its own.
        integration_id=body.integration_id or None,
        created_at=_timestamp(number.created_at),
        updated_at=_timestamp(number.updated_at),
    )


def _timestamp(value: datetime) -> str:
    """Returns RFC 3339 in UTC with whole seconds and a Z."""
    return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
