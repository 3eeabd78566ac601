from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from deploy.local.waiting import wait_until
from tests.integration.api.conftest import Platform, Tenant, new_request, problem
from worker.domain.errors import NumberNotOwned, ProviderUnavailable
from worker.domain.job import StepName


@pytest.fixture
def aside() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def submit_and_wait(
    aside: ThreadPoolExecutor, tenant: Tenant
) -> tuple[str, Future[httpx.Response]]:
    """Submits with Prefer: wait in the background; returns the import's id and the answer to be."""
    request = new_request()
    answer = aside.submit(
        tenant.http.post,
        "/v1/imports",
        json=request,
        headers={"Prefer": "wait=20"},
    )
    found: list[Any] = []

    def stored() -> bool:
        found[:] = tenant.http.get(
            "/v1/imports", params={"phone_number": request["phone_number"]}
        ).json()["items"]
        return bool(found)

    assert wait_until(stored, 10)
    return found[0]["id"], answer


def test_who_waits_gets_the_number(
    platform: Platform, tenant: Tenant, aside: ThreadPoolExecutor
) -> None:
    import_id, answer = submit_and_wait(aside, tenant)
    assert not answer.done()
    platform.finish_all(import_id)

    found = answer.result(10)

    assert found.status_code == 201
    assert found.headers["Preference-Applied"] == "wait=20"
    number = found.json()
    assert found.headers["Location"] == f"/v1/phone-numbers/{number['id']}"
    assert (number["import_id"], number["status"]) == (import_id, "active")
    assert tenant.http.get(found.headers["Location"]).json() == number


def test_who_waits_gets_the_failure_under_its_own_status(
    platform: Platform, tenant: Tenant, aside: ThreadPoolExecutor
) -> None:
    import_id, answer = submit_and_wait(aside, tenant)
    platform.fail(import_id, NumberNotOwned())

    found = problem(answer.result(10), 404, "number_not_owned")

    assert found["step"] == "validate_credentials"
    assert found["import_id"] == import_id
    assert found["detail"] == NumberNotOwned.sentence
    assert answer.result().headers["Location"] == f"/v1/imports/{import_id}"
    assert answer.result().headers["Preference-Applied"] == "wait=20"


def test_who_waits_learns_that_an_undo_failed(
    platform: Platform, tenant: Tenant, aside: ThreadPoolExecutor
) -> None:
    import_id, answer = submit_and_wait(aside, tenant)
    platform.stick(import_id, NumberNotOwned(), "The trunk TK1 is left at Twilio.")

    found = problem(answer.result(10), 500, "undo_failed")

    assert found["detail"] == "The trunk TK1 is left at Twilio."
    assert found["step"] == "validate_credentials"
    job = tenant.http.get(f"/v1/imports/{import_id}").json()
    assert job["status"] == "stuck"
    assert job["error"] == {
        "code": "number_not_owned",
        "message": NumberNotOwned.sentence,
        "step": "validate_credentials",
    }
    assert job["undo_error"] == {
        "code": "undo_failed",
        "message": "The trunk TK1 is left at Twilio.",
        "step": "validate_credentials",
    }
    assert job["steps"][0]["state"] == "stuck"


def test_who_waits_learns_that_somebody_cancelled(
    tenant: Tenant, aside: ThreadPoolExecutor
) -> None:
    import_id, answer = submit_and_wait(aside, tenant)
    tenant.http.post(f"/v1/imports/{import_id}/cancel")

    found = problem(answer.result(10), 409, "invalid_state")

    assert found["import_id"] == import_id
    assert "cancelled" in found["detail"]


def test_when_the_time_is_up_the_job_is_answered(tenant: Tenant) -> None:
    started = time.monotonic()

    answer = tenant.http.post("/v1/imports", json=new_request(), headers={"Prefer": "wait=1"})

    assert 1 <= time.monotonic() - started < 5
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")
    assert answer.headers["Preference-Applied"] == "wait=1"
    assert answer.headers["Location"] == f"/v1/imports/{answer.json()['id']}"


@pytest.mark.parametrize("prefer", ["wait=0", "wait=soon", "respond-async", "handling=strict", ""])
def test_without_a_time_to_wait_the_job_is_answered_at_once(tenant: Tenant, prefer: str) -> None:
    answer = tenant.http.post("/v1/imports", json=new_request(), headers={"Prefer": prefer})

    assert answer.status_code == 202
    assert answer.headers.get("Preference-Applied") == ("wait=0" if prefer == "wait=0" else None)


def test_a_replay_of_an_import_that_has_ended_is_answered_at_once(
    platform: Platform, tenant: Tenant
) -> None:
    request, key = new_request(), {"Idempotency-Key": "import-1"}
    import_id = tenant.submit(request, **key)["id"]
    platform.finish_all(import_id)

    plain = tenant.http.post("/v1/imports", json=request, headers=key)
    waiting = tenant.http.post("/v1/imports", json=request, headers={**key, "Prefer": "wait=20"})

    assert (plain.status_code, plain.json()["status"]) == (202, "active")
    assert (waiting.status_code, waiting.json()["import_id"]) == (201, import_id)
    assert waiting.headers["Idempotent-Replayed"] == "true"


def test_an_etag_stands_for_a_version(platform: Platform, tenant: Tenant) -> None:
    path = f"/v1/imports/{tenant.submit()['id']}"
    first = tenant.http.get(path)
    tag = first.headers["ETag"]
    assert first.headers["Cache-Control"] == "private, no-cache"

    unchanged = tenant.http.get(path, headers={"If-None-Match": tag})

    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert unchanged.headers["ETag"] == tag
    for known in (tag.removeprefix("W/"), f'"other", {tag}', "*"):
        assert tenant.http.get(path, headers={"If-None-Match": known}).status_code == 304
    for known in ('"other"', "nonsense", 'W/"', tag.replace('"', "")):
        assert tenant.http.get(path, headers={"If-None-Match": known}).status_code == 200

    platform.begin(first.json()["id"])

    changed = tenant.http.get(path, headers={"If-None-Match": tag})
    assert changed.status_code == 200
    assert changed.headers["ETag"] != tag
    assert changed.json()["steps"][0]["state"] == "running"


def test_a_long_poll_ends_with_the_next_change(
    platform: Platform, tenant: Tenant, aside: ThreadPoolExecutor
) -> None:
    import_id = tenant.submit()["id"]
    path = f"/v1/imports/{import_id}"
    tag = tenant.http.get(path).headers["ETag"]

    answer = aside.submit(
        tenant.http.get, path, params={"wait": 20}, headers={"If-None-Match": tag}
    )
    time.sleep(0.3)
    assert not answer.done()
    platform.begin(import_id)

    found = answer.result(5)
    assert (found.status_code, found.json()["status"]) == (200, "running")


def test_a_long_poll_without_a_version_ends_with_the_import(
    platform: Platform, tenant: Tenant, aside: ThreadPoolExecutor
) -> None:
    import_id = tenant.submit()["id"]

    answer = aside.submit(tenant.http.get, f"/v1/imports/{import_id}", params={"wait": 20})
    claim = platform.begin(import_id)
    time.sleep(0.4)
    assert not answer.done()
    platform.claims.fail(claim, ProviderUnavailable(), settle=None)
    platform.claims.finish_undo(platform.begin_undo(import_id))

    found = answer.result(5)
    assert (found.status_code, found.json()["status"]) == (200, "failed")
    assert found.json()["error"]["code"] == "provider_unavailable"
    assert found.json()["steps"][0]["state"] == "undone"
    assert found.json()["finished_at"].endswith("Z")


def test_a_long_poll_in_vain_is_a_304(tenant: Tenant) -> None:
    path = f"/v1/imports/{tenant.submit()['id']}"
    tag = tenant.http.get(path).headers["ETag"]
    started = time.monotonic()

    answer = tenant.http.get(path, params={"wait": 1}, headers={"If-None-Match": tag})

    assert 1 <= time.monotonic() - started < 5
    assert answer.status_code == 304


def test_a_version_that_is_old_already_is_answered_at_once(
    platform: Platform, tenant: Tenant
) -> None:
    import_id = tenant.submit()["id"]
    tag = tenant.http.get(f"/v1/imports/{import_id}").headers["ETag"]
    platform.begin(import_id)
    started = time.monotonic()

    answer = tenant.http.get(
        f"/v1/imports/{import_id}", params={"wait": 20}, headers={"If-None-Match": tag}
    )

    assert time.monotonic() - started < 5
    assert answer.json()["status"] == "running"


def test_steps_show_attempts_times_errors_and_warnings(platform: Platform, tenant: Tenant) -> None:
    import_id = tenant.submit()["id"]
    platform.claims.finish_step(
        platform.begin(import_id), output={"warnings": ["The account is a trial."]}, sealed=None
    )
    platform.claims.retry_later(
        platform.begin(import_id, StepName.CHECK_OWNERSHIP),
        ProviderUnavailable(),
        delay=30,
        by_sweep=True,
        settle=None,
    )

    job = tenant.http.get(f"/v1/imports/{import_id}").json()

    first, second, *rest = job["steps"]
    assert (first["state"], first["attempts"], first["error"]) == ("done", 1, None)
    assert first["started_at"].endswith("Z")
    assert first["started_at"] <= first["finished_at"]
    assert (second["state"], second["attempts"]) == ("running", 1)
    assert second["error"] == {
        "code": "provider_unavailable",
        "message": ProviderUnavailable.sentence,
    }
    assert {step["state"] for step in rest} == {"waiting"}
    assert [step["name"] for step in job["steps"]] == [*StepName]
    assert job["next_attempt_at"].endswith("Z")
    assert job["warnings"] == ["The account is a trial."]
    assert job["error"] is None
    assert job["phone_number_id"] is None


def test_many_can_wait_while_others_are_served(tenant: Tenant) -> None:
    # Far more than there are threads.
    paths = [f"/v1/imports/{tenant.submit()['id']}" for _ in range(3)]
    with ThreadPoolExecutor(60) as crowd:
        waiting = [
            crowd.submit(tenant.http.get, paths[index % 3], params={"wait": 3})
            for index in range(60)
        ]
        time.sleep(0.5)
        started = time.monotonic()
        assert tenant.http.get("/v1/imports").status_code == 200
        assert time.monotonic() - started < 2
        assert {answer.result(15).status_code for answer in waiting} == {200}


def test_a_wait_ends_when_its_client_goes_away(platform: Platform, tenant: Tenant) -> None:
    import_id = tenant.submit()["id"]
    parts = urlsplit(platform.url)
    request_id = "gone-away"
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as connection:
        connection.sendall(
            f"GET /v1/imports/{import_id}?wait=60 HTTP/1.1\r\nHost: api\r\n"
            f"X-Api-Key: {tenant.key}\r\nX-Request-Id: {request_id}\r\n\r\n".encode()
        )
        time.sleep(0.5)

    assert platform.logged(1, request_id)[0]["duration_ms"] < 30_000
