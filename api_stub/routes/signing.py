"""The secret that notifications are signed with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from api_stub import problems
from api_stub.auth import Front, Importer
from api_stub.bodies import StrictRoute
from api_stub.routes._core import WRITES, answer
from api_stub.schemas import Timestamp
from worker.service import SigningSecret

router = APIRouter(tags=["notifications"], route_class=StrictRoute)

#: A secret: no cache may keep it.
_PRIVATE: Final = {"Cache-Control": "no-store"}


class SigningSecretOut(BaseModel):
    """What to verify notifications with."""

    secret: str = Field(
        description="For any [Standard Webhooks](https://www.standardwebhooks.com) library: "
        "`whsec_` and 32 bytes in base64.",
    )
    previous_valid_until: Timestamp | None = Field(
        description="Until when the secret before it signs too; null if there is none any more."
    )

    @classmethod
    def from_secret(cls, secret: SigningSecret) -> SigningSecretOut:
        """Returns the document of a secret."""
        overlaps = len(secret.valid(datetime.now(UTC))) > 1
        return cls(
            secret=secret.current,
            previous_valid_until=secret.previous_until if overlaps else None,
        )


@router.get(
    "/v1/signing-secret",
    response_model=SigningSecretOut,
    summary="Read the secret that notifications are signed with",
    responses=problems.document(*WRITES),
)
def read_signing_secret(service: Front, caller: Importer) -> Response:
    """Returns the organisation's secret; it is made when it is first needed."""
    found = service.signing_secret(caller)
    return answer(SigningSecretOut.from_secret(found), headers=_PRIVATE)


@router.post(
    "/v1/signing-secret/rotate",
    response_model=SigningSecretOut,
    summary="Replace the secret that notifications are signed with",
    responses=problems.document(*WRITES),
)
def rotate_signing_secret(service: Front, caller: Importer) -> Response:
    """Makes a new secret; for a day every notification carries a signature of each.

    Rotating again within that day ends the older one at once.
    """
    rotated = service.rotate_signing_secret(caller)
    return answer(SigningSecretOut.from_secret(rotated), headers=_PRIVATE)
