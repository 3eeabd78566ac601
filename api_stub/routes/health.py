"""Probes and metrics; they need no key.

Whoever asks, an orchestrator or Prometheus, has none, and the answers name no tenant and no number.
An operator keeps them off the public address.
"""

from __future__ import annotations

from enum import StrEnum
from http import HTTPStatus
from typing import Final

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel, Field

from api_stub.auth import Front
from api_stub.routes._core import answer

router = APIRouter(tags=["health"])

_FINE: Final = "ok"


class Readiness(StrEnum):
    """Whether requests should be sent here."""

    READY = "ready"
    #: Submits are stored and answered; workers get them once the broker is back.
    DEGRADED = "degraded"
    UNAVAILABLE = "unavailable"


class HealthOut(BaseModel):
    """The process answers."""

    status: str = _FINE


class ReadinessOut(BaseModel):
    """What this process can reach."""

    status: Readiness
    database: str = Field(description="`ok`, or what is wrong.")
    broker: str = Field(description="`ok`, or what is wrong.")
    sweep: str = Field(description="`ok`, or since when nobody rescues jobs.")


@router.get("/healthz", response_model=HealthOut, summary="Is the process alive?")
async def read_health() -> Response:
    """Answers while the process can.

    It asks nothing of the database or the broker: restarting this process would not mend those.
    """
    return answer(HealthOut())


@router.get(
    "/readyz",
    response_model=ReadinessOut,
    summary="Should requests be sent here?",
    responses={503: {"model": ReadinessOut, "description": "The database cannot be reached."}},
)
def read_readiness(service: Front) -> Response:
    """Answers 200 while the database is up.

    A broker that is down is `degraded`, still 200: an import is stored without it and sent later,
    so taking this process out of service would refuse work that it can take. So is a sweep that
    does not come: beat or the workers are away, and this process can neither help nor harm.
    """
    found = service.check_readiness()
    database, broker, sweep = found["database"], found["broker"], found["sweep"]
    state = Readiness.READY if broker is None and sweep is None else Readiness.DEGRADED
    state = state if database is None else Readiness.UNAVAILABLE
    document = ReadinessOut(
        status=state,
        database=database or _FINE,
        broker=broker or _FINE,
        sweep=sweep or _FINE,
    )
    down = state is Readiness.UNAVAILABLE
    return answer(document, HTTPStatus.SERVICE_UNAVAILABLE if down else HTTPStatus.OK)


@router.get("/metrics", response_class=Response, summary="Metrics for Prometheus")
def read_metrics(service: Front) -> Response:
    """Returns this process's counts and durations, and what database and broker hold for all.

    It answers while either is away: `trunkline_database_up` and `trunkline_broker_up` say so.
    """
    return Response(service.scrape(), media_type=CONTENT_TYPE_LATEST)
