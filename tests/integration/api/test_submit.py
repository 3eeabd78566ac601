from __future__ import annotations

import time
from pathlib import Path

import redis

from deploy.local.redis import EmbeddedRedis
from deploy.local.waiting import LOOPBACK, wait_until
from tests.integration.api.conftest import Platform, Tenant, new_request, problem
from worker.domain.job import StepName


def test_an_import_is_accepted_while_redis_is_down(platform: Platform, tenant: Tenant) -> None:
    request = new_request(friendly_name="Front desk", price=1.5, metadata={"crm": {"id": 7}})

    started = time.monotonic()
    answer = tenant.http.post("/v1/imports", json=request)

    assert answer.status_code == 202
    assert time.monotonic() - started < 4
    job = answer.json()
    assert answer.headers["Location"] == f"/v1/imports/{job['id']}"
    assert "Idempotent-Replayed" not in answer.headers
    assert job["created_at"].endswith("Z")
    assert job["updated_at"].endswith("Z")
    assert job["credential_id"].startswith("cred_")
    varying = ("id", "created_at", "updated_at", "credential_id")
    assert {name: value for name, value in job.items() if name not in varying} == {
        "kind": "import",
        "status": "queued",
        "phone_number": request["phone_number"],
        "provider": "twilio",
        "routing_mode": "webhook",
        "supports_inbound": True,
        "supports_outbound": True,
        "friendly_name": "Front desk",
        "agent_id": None,
        "user_id": None,
        "phone_number_id": None,
        "error": None,
        "undo_error": None,
        "next_attempt_at": None,
        "cancel_requested_at": None,
        "warnings": [],
        "metadata": {"crm": {"id": 7}},
        "price": 1.5,
        "carrier": None,
        "started_at": None,
        "finished_at": None,
        "notifications": [],
        "steps": [
            {
                "name": step,
                "state": "waiting",
                "attempts": 0,
                "undo_attempts": 0,
                "started_at": None,
                "finished_at": None,
                "error": None,
            }
            for step in StepName
        ],
    }
    rows = platform.sql(
        "SELECT state, sent_at FROM import_jobs WHERE organization_id = :id", id=tenant.uuid
    )
    assert rows == [("queued", None)]
    assert platform.rows(tenant) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 1}


def test_an_import_is_handed_over_while_redis_is_up(platform: Platform, tmp_path: Path) -> None:
    sent = "SELECT count(*) FROM import_jobs WHERE organization_id = :id AND sent_at IS NOT NULL"

    def handed_over() -> bool:
        time.sleep(0.2)
        # Somebody new each time: with several under way an import goes by the other queue.
        tenant = platform.tenant()
        tenant.submit()
        return bool(platform.sql(sent, id=tenant.uuid)[0][0])

    with EmbeddedRedis(tmp_path, platform.broker_port):
        # After a failure the sender rests for a second.
        assert wait_until(handed_over, 10)
        with redis.Redis(host=LOOPBACK, port=platform.broker_port) as client:
            assert client.llen("imports.twilio") == 1
        platform.sql("UPDATE sweeps SET swept_at = now()")  # nobody sweeps here
        ready = platform.client().get("/readyz")
        assert (ready.status_code, ready.json()) == (
            200,
            {"status": "ready", "database": "ok", "broker": "ok", "sweep": "ok"},
        )


def test_a_stored_credential_is_used_by_its_id(platform: Platform, tenant: Tenant) -> None:
    credential_id = tenant.store()

    job = tenant.submit(new_request(credential_id=credential_id, credentials=None))

    assert job["credential_id"] == credential_id
    assert platform.rows(tenant)["credentials"] == 1


def test_an_agent_and_a_user_of_ones_own_are_named_in_the_job(
    platform: Platform, tenant: Tenant
) -> None:
    caller = platform.service.authenticate(tenant.key)
    agent = platform.service.create_agent(caller, name="a", dispatch_name="a")
    user = platform.service.create_user(caller, name="u")

    job = tenant.submit(new_request(agent_id=agent, user_id=user))

    assert (job["agent_id"], job["user_id"]) == (agent, user)


def test_a_number_in_no_known_range_is_a_warning_not_an_error(tenant: Tenant) -> None:
    job = tenant.submit(new_request(phone_number="+15550000001"))

    assert len(job["warnings"]) == 1
    assert "range" in job["warnings"][0]


def test_a_number_that_is_imported_already_is_refused(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    request = new_request()
    import_id = tenant.submit(request)["id"]

    for again in (tenant, other):
        answer = again.http.post("/v1/imports", json=request)
        found = problem(answer, 409, "number_already_imported")
        # Only its owner may know which import it is.
        assert (import_id in found["detail"]) is (again is tenant)
    assert platform.rows(tenant) == {"import_jobs": 1, "phone_numbers": 1, "credentials": 1}
    assert platform.rows(other) == {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}


def test_a_queued_import_is_cancelled_at_once_and_can_be_retried(
    platform: Platform, tenant: Tenant
) -> None:
    job = tenant.submit()

    cancelled = tenant.http.post(f"/v1/imports/{job['id']}/cancel")

    assert cancelled.status_code == 202
    assert cancelled.headers["Location"] == f"/v1/imports/{job['id']}"
    assert cancelled.json()["status"] == "cancelled"
    assert cancelled.json()["cancel_requested_at"] is not None
    assert platform.rows(tenant)["phone_numbers"] == 0

    retried = tenant.http.post(f"/v1/imports/{job['id']}/retry")

    assert retried.status_code == 202
    assert (retried.json()["id"], retried.json()["status"]) == (job["id"], "queued")
    assert platform.rows(tenant)["phone_numbers"] == 1


def test_an_import_that_somebody_works_on_is_cancelled_later(
    platform: Platform, tenant: Tenant
) -> None:
    job = tenant.submit()
    platform.begin(job["id"])

    cancelled = tenant.http.post(f"/v1/imports/{job['id']}/cancel")

    assert cancelled.status_code == 202
    assert cancelled.json()["status"] == "running"
    assert cancelled.json()["cancel_requested_at"] is not None
    assert tenant.http.post(f"/v1/imports/{job['id']}/cancel").status_code == 202


def test_what_has_ended_well_is_neither_cancelled_nor_retried(
    platform: Platform, tenant: Tenant
) -> None:
    job = tenant.submit()
    problem(tenant.http.post(f"/v1/imports/{job['id']}/retry"), 409, "invalid_state")
    platform.finish_all(job["id"])

    problem(tenant.http.post(f"/v1/imports/{job['id']}/cancel"), 409, "invalid_state")
    problem(tenant.http.post(f"/v1/imports/{job['id']}/retry"), 409, "invalid_state")


def test_a_retry_whose_number_was_taken_since_is_refused(tenant: Tenant, other: Tenant) -> None:
    request = new_request()
    job = tenant.submit(request)
    tenant.http.post(f"/v1/imports/{job['id']}/cancel")
    other.submit(request)

    answer = tenant.http.post(f"/v1/imports/{job['id']}/retry")

    problem(answer, 409, "number_already_imported")
    assert tenant.http.get(f"/v1/imports/{job['id']}").json()["status"] == "cancelled"
