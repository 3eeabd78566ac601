"""Ravan: ``POST /api/v1/phone-numbers/add-twilio``.

https://docs.ravan.ai, "Add Twilio Number". The number is in the organisation's stored Twilio
account. The document names one answer, 200; refusals have its envelope with ``success: false``,
under the status that fits. Prices in answers are integers in hundredths of the currency unit
(cents), because the document types them int32 while it takes ``price`` as a number. ``region`` is
the country's, like ``iso_country``: the document does not say of what.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final

from fastapi import Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api_stub.auth import Front, Starter
from api_stub.dialects._core import (
    Dialect,
    StillRunning,
    accepted,
    import_number,
    retry_after,
    timestamp,
)
from worker.domain.errors import TrunklineError
from worker.domain.values import ProviderName, format_id
from worker.service import ImportRequest, JobRecord, NumberRecord

_CENTS: Final = 100


class AddTwilioNumberRequest(BaseModel):
    """A number of the organisation's own Twilio account."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "phone_number": "+14157774444",
                    "number_sid": "PN00000000000000000000000000000000",
                    "friendly_name": "Support",
                    "price": 1.15,
                }
            ]
        }
    )

    phone_number: str = Field(description="Phone number in E.164 format")
    number_sid: str = Field(description="Twilio number SID")
    friendly_name: Annotated[str | None, Field(description="Friendly name")] = None
    price: Annotated[float | None, Field(description="Monthly price", ge=0)] = None


class PurchasedNumber(BaseModel):
    """The number as the contract knows it; prices are in cents."""

    id: str
    telephony_id: str
    subscription_id: str
    inbound_trunk_id: str
    outbound_trunk_id: str
    number: str
    friendly_name: str
    per_minute_price_inbound: int
    per_minute_price_outbound: int
    price: int
    region: str
    iso_country: str
    is_active: bool
    created_at: str
    updated_at: str


class AddTwilioNumberResponse(BaseModel):
    """The contract's envelope."""

    success: bool
    message: str
    data: PurchasedNumber | None = None


class Ravan(Dialect):
    """The contract's words."""

    name: ClassVar[str] = "ravan"

    def refuse(self, error: TrunklineError) -> Response:
        """Says an error in the envelope, under its own status."""
        document = AddTwilioNumberResponse(success=False, message=error.message)
        return JSONResponse(
            document.model_dump(exclude_none=True), error.status, headers=retry_after(error)
        )


router = Ravan().router()


@router.post(
    "/api/v1/phone-numbers/add-twilio",
    summary="Add Twilio Number",
    response_model=AddTwilioNumberResponse,
    responses={
        202: {"model": AddTwilioNumberResponse, "description": "The import goes on."},
        "default": {"model": AddTwilioNumberResponse, "description": "Why it was refused."},
    },
)
async def add_twilio_number(
    *, request: Request, service: Front, caller: Starter, body: AddTwilioNumberRequest
) -> Response:
    """Imports a number of the organisation's stored Twilio account."""
    account = await run_in_threadpool(service.stored_account, caller, ProviderName.TWILIO)
    wanted = ImportRequest(
        phone_number=body.phone_number,
        provider=ProviderName.TWILIO,
        credential_id=account,
        number_sid=body.number_sid,
        friendly_name=body.friendly_name,
        price=body.price,
    )
    try:
        job, number = await import_number(request, service, caller, wanted)
    except StillRunning as still:
        return accepted(still.job, {"success": True, "message": "The number is being added."})
    document = AddTwilioNumberResponse(
        success=True,
        message="Phone number added successfully",
        data=_data(job, number, service.prices_per_minute),
    )
    return JSONResponse(document.model_dump(), HTTPStatus.OK)


def _data(job: JobRecord, number: NumberRecord, prices: tuple[int, int]) -> PurchasedNumber:
    price: Any = number.details.get("price") or 0
    inbound, outbound = prices
    return PurchasedNumber(
        id=format_id("num", number.id),
        telephony_id=format_id("cred", number.credential_id),
        subscription_id=format_id("org", job.organization_id),
        inbound_trunk_id=number.inbound_trunk_id or "",
        outbound_trunk_id=number.outbound_trunk_id or "",
        number=number.e164,
        friendly_name=number.friendly_name or "",
        per_minute_price_inbound=inbound,
        per_minute_price_outbound=outbound,
        price=round(price * _CENTS),
        region=number.country or "",
        iso_country=number.country or "",
        is_active=True,
        created_at=timestamp(number.created_at),
        updated_at=timestamp(number.updated_at),
    )
