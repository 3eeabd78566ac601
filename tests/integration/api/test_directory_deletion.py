"""Nothing is deleted that a number or a job under way still needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.api.conftest import Platform, Tenant, new_request, problem
from tests.integration.api.test_directory import make
from worker.domain.errors import NumberNotOwned

#: Where an import names it → the path of its kind, and the refusals.
NAMED = {
    "agent_id": ("agents", "agent_in_use", "agent_not_found"),
    "fallback_agent_id": ("agents", "agent_in_use", "agent_not_found"),
    "user_id": ("users", "user_in_use", "user_not_found"),
}


def naming(field: str, found: str) -> dict[str, Any]:
    if field == "fallback_agent_id":
        return new_request(inbound={field: found})
    return new_request(**{field: found})


@pytest.mark.parametrize("field", NAMED)
def test_what_an_import_or_its_number_names_stays(
    platform: Platform, tenant: Tenant, field: str
) -> None:
    kind, in_use, not_found = NAMED[field]
    made = make(tenant, kind, external_id="mine")
    path = f"/v1/{kind}/{made['id']}"
    job = tenant.submit(naming(field, "mine"))

    problem(tenant.http.delete(path), 409, in_use)
    platform.finish_all(job["id"])
    problem(tenant.http.delete(path), 409, in_use)
    assert tenant.http.get(path).json() == made
    number = tenant.http.get(f"/v1/imports/{job['id']}").json()["phone_number_id"]
    assert tenant.http.delete(f"/v1/phone-numbers/{number}").status_code == 202
    problem(tenant.http.delete(path), 409, in_use)

    # As the release leaves it.
    platform.sql(
        "UPDATE phone_numbers SET status = 'released' WHERE e164 = :e", e=job["phone_number"]
    )
    platform.sql(
        "UPDATE import_jobs SET state = 'released' WHERE e164 = :e AND kind = 'release'",
        e=job["phone_number"],
    )

    assert tenant.http.delete(path).status_code == 204
    problem(tenant.http.get(path), 404, not_found)
    problem(tenant.http.delete(path), 404, not_found)
    problem(tenant.http.patch(path, json={"name": "x"}), 404, not_found)
    assert tenant.http.get(f"/v1/{kind}").json()["items"] == []
    problem(tenant.http.post("/v1/imports", json=naming(field, made["id"])), 404, not_found)
    assert tenant.http.get(f"/v1/imports/{job['id']}").status_code == 200


def test_the_fallback_agent_is_that_of_the_job_which_set_the_number_up_last(
    platform: Platform, tenant: Tenant
) -> None:
    before, after = make(tenant, "agents"), make(tenant, "agents")
    job = tenant.submit(new_request(inbound={"fallback_agent_id": before["id"]}))
    platform.finish_all(job["id"])
    number = tenant.http.get(f"/v1/imports/{job['id']}").json()["phone_number_id"]
    change = {"inbound": {"fallback_agent_id": after["id"]}}
    rebind = tenant.http.patch(f"/v1/phone-numbers/{number}", json=change)
    assert rebind.status_code == 202, rebind.text
    for agent in (before, after):
        problem(tenant.http.delete(f"/v1/agents/{agent['id']}"), 409, "agent_in_use")

    # As the rebind leaves it.
    platform.sql(
        "UPDATE phone_numbers SET job_id = (SELECT id FROM import_jobs WHERE kind = 'rebind' "
        "AND e164 = :e) WHERE e164 = :e",
        e=job["phone_number"],
    )
    platform.sql(
        "UPDATE import_jobs SET state = 'active' WHERE kind = 'rebind' AND e164 = :e",
        e=job["phone_number"],
    )

    problem(tenant.http.delete(f"/v1/agents/{after['id']}"), 409, "agent_in_use")
    assert tenant.http.delete(f"/v1/agents/{before['id']}").status_code == 204


@pytest.mark.parametrize("field", NAMED)
def test_a_failed_import_cannot_be_retried_for_somebody_who_is_gone(
    platform: Platform, tenant: Tenant, field: str
) -> None:
    kind, _, not_found = NAMED[field]
    made = make(tenant, kind)
    job = tenant.submit(naming(field, made["id"]))
    platform.fail(job["id"], NumberNotOwned())
    assert tenant.http.delete(f"/v1/{kind}/{made['id']}").status_code == 204

    problem(tenant.http.post(f"/v1/imports/{job['id']}/retry"), 404, not_found)

    assert tenant.http.get(f"/v1/imports/{job['id']}").json()["status"] == "failed"


@pytest.mark.parametrize("field", NAMED)
def test_an_import_and_a_deletion_at_the_same_moment_never_both_succeed(
    tenant: Tenant,
    at_once: Callable[[int, Callable[[int], Any]], list[Any]],
    field: str,
) -> None:
    kind = NAMED[field][0]
    for _ in range(8):
        made = make(tenant, kind)
        request = naming(field, made["id"])

        def either(index: int, made: Any = made, request: Any = request) -> int:
            if index:
                return tenant.http.delete(f"/v1/{kind}/{made['id']}").status_code
            return tenant.http.post("/v1/imports", json=request).status_code

        assert at_once(2, either) in ([202, 409], [404, 204])
