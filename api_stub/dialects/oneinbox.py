"""OneInbox: ``POST /v1/phone-numbers``.

https://docs.oneinbox.ai, "Register Phone Number". The request brings no account of the provider but
the SIP login of an outbound trunk, or ``credential_id``, a stored account:

- With ``credential_id`` it is a normal import from that account; ``provider_config`` is then the
  login for outbound calls. The document says nothing of what answered the number before, so that
  is not replaced.
- Without, nobody can ask the provider whose number it is: it is a number at a SIP carrier, owned as
  asserted, and nothing is changed at the provider. The carrier's trunk must send the calls to
  LiveKit; the backup agent and the voicemail are then the agent's to offer, which is told of them.

Of ``provider_config`` each field that is missing falls back to the environment, but the platform's
login is only ever used with the platform's own trunk address. The body of a 400 is not shown; it is
FastAPI's ``detail``, with the code that the document names.
"""

from __future__ import annotations

import re
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal
from uuid import UUID

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from api_stub.auth import Front, Starter
from api_stub.dialects._core import (
    Dialect,
    StillRunning,
    accepted,
    import_number,
    retry_after,
    reworded,
    timestamp,
)
from worker.domain.errors import (
    InvalidPhoneNumber,
    SipLoginIncomplete,
    SipTrunkProvisionFailed,
    TrunklineError,
)
from worker.domain.values import Ownership, ProviderName, format_id
from worker.service import ImportRequest, JobRecord, NumberRecord

#: Names of further keys that may hold a secret; metadata is shown, so they are not kept.
_SECRET: Final = re.compile(r"pass|pwd|secret|token|key|credential", re.IGNORECASE)
#: Our names of what a request calls otherwise.
_PLACES: Final = {"inbound": "inbound_routing", "sip": "provider_config"}
_WORDS: Final = {
    "sip.address": "provider_config.trunk_address",
    "sip.username": "provider_config.auth_username",
    "sip.password": "provider_config.auth_password",
}


class SipProviderConfig(BaseModel):
    """SIP digest credentials for outbound trunk auth.

    All fields are optional: what is left out comes from the environment
    (`{PROVIDER}_TRUNK_ADDRESS`, `{PROVIDER}_SIP_USERNAME`, `{PROVIDER}_SIP_PASSWORD`). 400
    SIP_TRUNK_PROVISION_FAILED if neither provides all three. Further keys are kept.
    """

    model_config = ConfigDict(extra="allow", hide_input_in_errors=True)

    trunk_address: Annotated[
        str | None,
        Field(max_length=255, description="SIP server FQDN, e.g. 'sip.telnyx.com'."),
    ] = None
    auth_username: Annotated[str | None, Field(max_length=255)] = None
    auth_password: Annotated[SecretStr | None, Field(max_length=255)] = None


class InboundRoutingFallback(BaseModel):
    """Backup agent dispatched when the primary inbound_routing.agent_id is unreachable."""

    agent_id: UUID | None = None


class InboundRouting(BaseModel):
    """Per-number routing override."""

    agent_id: UUID
    fallback: InboundRoutingFallback | None = None
    voicemail_message: str | None = None


class PhoneNumberCreate(BaseModel):
    """A number, and how calls from it are placed."""

    model_config = ConfigDict(
        hide_input_in_errors=True,
        json_schema_extra={
            "examples": [
                {
                    "phone_number": "+14155550100",
                    "friendly_name": "Front desk",
                    "provider": "telnyx",
                    "agent_id": "3f2b8c1e-0d4a-4c55-9a52-1f0c9b7e6d21",
                    "provider_config": {
                        "trunk_address": "sip.telnyx.com",
                        "auth_username": "your_username",
                        "auth_password": "your_password",
                    },
                }
            ]
        },
    )

    phone_number: Annotated[str, Field(pattern=r"^\+[1-9]\d{1,14}$")]
    friendly_name: str | None = None
    provider: Literal["twilio", "telnyx"]
    agent_id: UUID
    provider_config: SipProviderConfig = SipProviderConfig()
    inbound_routing: InboundRouting | None = None
    credential_id: UUID | None = None


class InboundRoutingFallbackOut(BaseModel):
    """Backup agent dispatched when the primary inbound_routing.agent_id is unreachable."""

    model_config = ConfigDict(title="InboundRoutingFallback")

    agent_id: str


class InboundRoutingOut(BaseModel):
    """Per-number routing override."""

    model_config = ConfigDict(title="InboundRouting")

    agent_id: str
    fallback: InboundRoutingFallbackOut | None = None
    voicemail_message: str | None = None


class PhoneNumberResponse(BaseModel):
    """A number as the contract knows it."""

    id: str
    phone_number: str
    friendly_name: str | None
    provider: str
    agent_id: str
    status: str
    inbound_trunk_id: str | None
    outbound_trunk_id: str | None
    dispatch_rule_id: str | None
    inbound_routing: InboundRoutingOut | None = None
    sms_capable: Annotated[bool | None, Field(description="null where nobody could be asked.")] = (
        None
    )
    created_at: datetime
    updated_at: datetime


class ValidationFault(BaseModel):
    """What is wrong with one field of a request; never its value."""

    model_config = ConfigDict(title="ValidationError")

    loc: list[str | int]
    msg: str
    type: str


class HTTPValidationError(BaseModel):
    """Everything in a request that does not fit the schema."""

    detail: list[ValidationFault]


class Refusal(BaseModel):
    """Why a request that fits the schema is refused."""

    code: Annotated[str, Field(examples=["SIP_TRUNK_PROVISION_FAILED"])]
    message: str


class HTTPError(BaseModel):
    """A refusal, where FastAPI puts it."""

    detail: Refusal


class OneInbox(Dialect):
    """The contract's words."""

    name: ClassVar[str] = "oneinbox"

    def refuse(self, error: TrunklineError) -> Response:
        """Says an error as the document's service would: its code in capitals."""
        if isinstance(error, InvalidPhoneNumber):
            # It fits the pattern, but no country has such a number.
            return _unfit(
                ValidationFault(loc=["body", "phone_number"], msg=error.message, type="value_error")
            )
        code, status = error.code, error.status
        if isinstance(error, SipTrunkProvisionFailed | SipLoginIncomplete):
            code, status = SipTrunkProvisionFailed.code, HTTPStatus.BAD_REQUEST
        refusal = Refusal(code=code.upper(), message=reworded(error.message, _WORDS))
        document = HTTPError(detail=refusal)
        return JSONResponse(document.model_dump(), status, headers=retry_after(error))

    def invalid(self, request: Request, error: RequestValidationError) -> Response:
        """Says 422 in FastAPI's shape, but without what was sent: it may be a password."""
        unreadable = getattr(request.state, "unreadable", None)
        if unreadable is not None:
            return _unfit(ValidationFault(loc=["body"], msg=unreadable, type="json_invalid"))
        return _unfit(
            *(
                ValidationFault(
                    loc=[_PLACES.get(part, part) for part in fault["loc"]],
                    msg=fault["msg"],
                    type=fault["type"],
                )
                for fault in error.errors()
            )
        )


def _unfit(*faults: ValidationFault) -> Response:
    document = HTTPValidationError(detail=list(faults))
    return JSONResponse(document.model_dump(), HTTPStatus.UNPROCESSABLE_ENTITY)


router = OneInbox().router()


@router.post(
    "/v1/phone-numbers",
    summary="Register Phone Number",
    status_code=HTTPStatus.CREATED,
    response_model=PhoneNumberResponse,
    responses={
        201: {"description": "Successful Response"},
        202: {"model": PhoneNumberResponse, "description": "The import goes on."},
        400: {"model": HTTPError, "description": "SIP_TRUNK_PROVISION_FAILED"},
        422: {"model": HTTPValidationError, "description": "Validation Error"},
        "default": {"model": HTTPError, "description": "Why it was refused."},
    },
)
async def register_phone_number(
    *, request: Request, service: Front, caller: Starter, body: PhoneNumberCreate
) -> Response:
    """Imports a number of a stored account, or one that is asserted at Twilio or Telnyx."""
    wanted = _import_of(body)
    if "agent_id" in wanted.metadata:
        await run_in_threadpool(service.require_agent, caller, _agent(body.agent_id))
    try:
        _, number = await import_number(request, service, caller, wanted)
    except StillRunning as still:
        return accepted(still.job, _document(body, still.job))
    return JSONResponse(_document(body, number), HTTPStatus.CREATED)


def _import_of(body: PhoneNumberCreate) -> ImportRequest:
    config, routing = body.provider_config, body.inbound_routing
    asserted = body.credential_id is None
    fallback = routing and routing.fallback and routing.fallback.agent_id
    password = config.auth_password and config.auth_password.get_secret_value()
    metadata: dict[str, Any] = {}
    if config.model_extra:
        metadata["provider_config"] = _shown(config.model_extra, password or "")
    if routing is not None and routing.agent_id != body.agent_id:
        # The other agent has no part in inbound calls; that is why it is kept here.
        metadata["agent_id"] = str(body.agent_id)
    return ImportRequest.model_validate(
        {
            "phone_number": body.phone_number,
            "provider": ProviderName.SIP if asserted else body.provider,
            "credential_id": body.credential_id and format_id("cred", body.credential_id),
            "friendly_name": body.friendly_name,
            # The routing is an override: it says who answers.
            "agent_id": _agent(body.agent_id if routing is None else routing.agent_id),
            "sip": {
                "carrier": body.provider if asserted else None,
                "address": config.trunk_address or None,
                "username": config.auth_username or None,
                "password": password or None,
            },
            "inbound": {
                "fallback_agent_id": fallback and _agent(fallback),
                "voicemail_message": routing and routing.voicemail_message,
            },
            "metadata": metadata,
        }
    )


def _agent(agent_id: UUID) -> str:
    return format_id("agt", agent_id)


def _shown(value: Any, password: str) -> Any:  # noqa: ANN401 -- whatever JSON holds
    """Returns what of further keys may be shown: no secret, and not the password again."""
    if isinstance(value, dict):
        return {
            name: _shown(one, password)
            for name, one in value.items()
            if not _SECRET.search(name) and not (password and password in name)
        }
    if isinstance(value, list):
        return [_shown(one, password) for one in value]
    if isinstance(value, str) and password and password in value:
        return None
    return value


def _document(body: PhoneNumberCreate, made: NumberRecord | JobRecord) -> dict[str, Any]:
    number = made if isinstance(made, NumberRecord) else None
    asked = number is not None and number.ownership == Ownership.PROVEN
    document = PhoneNumberResponse(
        id=str(made.id if isinstance(made, NumberRecord) else made.phone_number_id),
        phone_number=made.e164,
        friendly_name=body.friendly_name,
        provider=body.provider,
        agent_id=str(body.agent_id),
        status="pending" if number is None else number.status.value,
        inbound_trunk_id=number and number.inbound_trunk_id,
        outbound_trunk_id=number and number.outbound_trunk_id,
        dispatch_rule_id=number and number.dispatch_rule_id,
        inbound_routing=_routing(body.inbound_routing),
        sms_capable=number.sms_capable if number is not None and asked else None,
        created_at=made.created_at,
        updated_at=made.updated_at,
    )
    times = {name: timestamp(getattr(made, name)) for name in ("created_at", "updated_at")}
    return {**document.model_dump(mode="json"), **times}


def _routing(routing: InboundRouting | None) -> InboundRoutingOut | None:
    if routing is None:
        return None
    backup = routing.fallback and routing.fallback.agent_id
    return InboundRoutingOut(
        agent_id=str(routing.agent_id),
        fallback=None if backup is None else InboundRoutingFallbackOut(agent_id=str(backup)),
        voicemail_message=routing.voicemail_message,
    )
