from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta, timezone
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from sqlalchemy.exc import OperationalError

from api_stub.app import build
from api_stub.schemas import JobOut
from worker.domain.job import PLANS, JobKind, JobState
from worker.domain.spec import ImportSpec
from worker.domain.values import (
    E164,
    MediaEncryption,
    Ownership,
    ProviderName,
    RoutingMode,
    SipTransport,
)
from worker.service import Caller, JobRecord, Role, Service, Submitted

ID = UUID(int=1)
NOON = datetime(2026, 1, 31, 13, tzinfo=timezone(timedelta(hours=1)))
SPEC = ImportSpec(
    phone_number=E164("+14155550100"),
    provider=ProviderName.TWILIO,
    routing_mode=RoutingMode.WEBHOOK,
    ownership=Ownership.PROVEN,
    number_sid=None,
    friendly_name=None,
    agent_id=None,
    user_id=None,
    supports_inbound=True,
    supports_outbound=True,
    replace_existing_routing=False,
    sms_enabled=False,
    sip_trunk_name=None,
    sip_address=None,
    sip_transport=SipTransport.AUTO,
    media_encryption=MediaEncryption.ALLOW,
    allowed_addresses=(),
    room_prefix="call-",
    fallback_agent_id=None,
    voicemail_message=None,
    price=None,
    metadata={},
)


def job(**changes: Any) -> JobRecord:
    values: dict[str, Any] = dict.fromkeys(JobRecord.__dataclass_fields__)
    values |= {
        "id": ID,
        "organization_id": ID,
        "kind": JobKind.IMPORT,
        "state": JobState.QUEUED,
        "provider": "twilio",
        "e164": "+14155550100",
        "credential_id": ID,
        "phone_number_id": ID,
        "request": SPEC.to_json(),
        "warnings": [],
        "version": 1,
        "created_at": NOON,
        "updated_at": NOON,
        "steps": {},
        "notifications": (),
    }
    return JobRecord(**{**values, **changes})


class Outage:
    """A service whose database went away just after it had stored an import."""

    def authenticate(self, _key: str) -> Caller:
        return Caller(organization_id=ID, role=Role.ADMIN, key_id=ID, actor="a")

    def submit(self, *_: Any, **__: Any) -> Submitted:
        return Submitted(job=job(), created=True)

    def import_versions(self, _job_ids: object) -> None:
        raise OperationalError("SELECT 1", {}, Exception("away"))

    def get_import(self, *_: Any) -> None:
        raise OperationalError("SELECT 1", {}, Exception("away"))


def test_a_stored_import_is_answered_although_the_database_went_away_since() -> None:
    async def submit() -> httpx.Response:
        transport = httpx.ASGITransport(build(cast("Service", Outage()), threads=4))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as client:
            return await client.post(
                "/v1/imports",
                json={
                    "phone_number": "+14155550100",
                    "provider": "twilio",
                    "credential_id": f"cred_{'0' * 32}",
                },
                headers={"X-Api-Key": "tl_any_key", "Prefer": "wait=1"},
            )

    answer = asyncio.run(submit())

    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=1"


def test_times_are_utc_whatever_the_database_says() -> None:
    document = JobOut.from_record(job())

    assert document.created_at == NOON.astimezone(UTC)
    assert '"created_at":"2026-01-31T12:00:00Z"' in document.model_dump_json()


@pytest.mark.parametrize("state", JobState)
def test_a_number_is_named_once_it_is_active(state: JobState) -> None:
    named = JobOut.from_record(job(state=state)).phone_number_id

    assert named == (f"num_{ID.hex}" if state is JobState.ACTIVE else None)


def test_every_step_is_shown_in_order() -> None:
    assert [step.name for step in JobOut.from_record(job()).steps] == [*PLANS[JobKind.IMPORT]]
