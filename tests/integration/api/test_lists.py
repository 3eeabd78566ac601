from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from tests.integration.api.conftest import Platform, Tenant, new_request, problem
from worker.domain.errors import NumberNotOwned
from worker.service import Role


def pages(tenant: Tenant, path: str, **params: Any) -> list[list[dict[str, Any]]]:
    """Follows next_cursor to the end."""
    found, cursor = [], None
    while True:
        given = params if cursor is None else {**params, "cursor": cursor}
        page = tenant.http.get(path, params=given).json()
        found.append(page["items"])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def test_pages_of_imports_hold_each_once_newest_first(tenant: Tenant) -> None:
    ids = [tenant.submit()["id"] for _ in range(5)]

    found = pages(tenant, "/v1/imports", limit=2)

    assert [len(page) for page in found] == [2, 2, 1]
    assert [job["id"] for page in found for job in page] == ids[::-1]
    assert [len(page) for page in pages(tenant, "/v1/imports", limit=5)] == [5]
    assert len(pages(tenant, "/v1/imports")[0]) == 5


def test_listed_imports_say_all_but_their_steps(tenant: Tenant) -> None:
    job = tenant.submit()
    del job["steps"], job["notifications"]

    assert tenant.http.get("/v1/imports").json()["items"] == [job]


def test_imports_are_filtered(platform: Platform, tenant: Tenant) -> None:
    queued, active, failed = (tenant.submit()["id"] for _ in range(3))
    platform.finish_all(active)
    platform.fail(failed, NumberNotOwned())
    number = tenant.http.get(f"/v1/imports/{active}").json()["phone_number"]

    def ids(**params: str) -> list[str]:
        return [job["id"] for job in tenant.http.get("/v1/imports", params=params).json()["items"]]

    assert ids(status="queued") == [queued]
    assert ids(status="active") == [active]
    assert ids(status="failed") == [failed]
    assert ids(status="stuck") == []
    assert ids(provider="twilio") == [failed, active, queued]
    assert ids(phone_number=number) == [active]
    assert ids(phone_number=number, status="failed") == []
    # As typed by hand: an unescaped plus is a space.
    unescaped = tenant.http.get(f"/v1/imports?phone_number={number}").json()
    assert [job["id"] for job in unescaped["items"]] == [active]


def test_a_number_appears_with_the_end_of_its_import(platform: Platform, tenant: Tenant) -> None:
    request = new_request(friendly_name="Front desk", metadata={"a": 1}, price=2.5)
    import_id = tenant.submit(request)["id"]
    claimed = platform.job(import_id).phone_number_id
    assert claimed is not None
    path = f"/v1/phone-numbers/num_{claimed.hex}"
    problem(tenant.http.get(path), 404, "not_found")
    assert tenant.http.get("/v1/phone-numbers").json()["items"] == []

    platform.finish_all(import_id, warnings=["The number has no emergency address."])

    job = tenant.http.get(f"/v1/imports/{import_id}").json()
    assert job["phone_number_id"] == f"num_{claimed.hex}"
    assert job["warnings"] == ["The number has no emergency address."]
    number = tenant.http.get(path).json()
    assert number == {
        "checked_at": None,
        "verdict": None,
        "id": job["phone_number_id"],
        "phone_number": request["phone_number"],
        "provider": "twilio",
        "status": "active",
        "ownership": "proven",
        "routing_mode": "webhook",
        "supports_inbound": True,
        "supports_outbound": True,
        "sms_capable": True,
        "friendly_name": "Front desk",
        "country": "US",
        "agent_id": None,
        "user_id": None,
        "credential_id": job["credential_id"],
        "import_id": import_id,
        "provider_number_id": "PN1",
        "inbound_trunk_id": None,
        "outbound_trunk_id": None,
        "dispatch_rule_id": None,
        "metadata": {"a": 1},
        "price": 2.5,
        "carrier": None,
        "created_at": number["created_at"],
        "updated_at": number["updated_at"],
    }
    assert tenant.http.get("/v1/phone-numbers").json() == {"items": [number], "next_cursor": None}


def test_pages_of_numbers_and_credentials_hold_each_once(
    platform: Platform, tenant: Tenant
) -> None:
    imports = [tenant.submit()["id"] for _ in range(3)]
    for import_id in imports:
        platform.finish_all(import_id)
    credentials = [tenant.store() for _ in range(3)]

    numbers = pages(tenant, "/v1/phone-numbers", limit=2)
    stored = pages(tenant, "/v1/credentials", limit=2)

    assert [one["import_id"] for page in numbers for one in page] == imports[::-1]
    assert [one["id"] for page in stored for one in page] == credentials[::-1]
    assert [len(page) for page in numbers] == [len(page) for page in stored] == [2, 1]


def test_a_cursor_of_another_list_is_refused(tenant: Tenant) -> None:
    tenant.submit()
    tenant.submit()
    cursor = tenant.http.get("/v1/imports", params={"limit": 1}).json()["next_cursor"]

    answer = tenant.http.get("/v1/phone-numbers", params={"cursor": cursor})

    problem(answer, 400, "invalid_request")


def test_imports_are_counted_by_state(platform: Platform, tenant: Tenant, other: Tenant) -> None:
    def counts(client: httpx.Client) -> dict[str, Any]:
        answer = client.get("/v1/imports/counts")
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    nothing = dict.fromkeys(("queued", "running", "undoing", "stuck"), 0)
    none_ended = dict.fromkeys(("active", "failed", "cancelled", "released"), 0)
    empty = counts(tenant.http)
    assert (empty["open"], empty["ended"]) == (nothing, none_ended)

    _queued, running, active, failed, stuck = (tenant.submit()["id"] for _ in range(5))
    platform.begin(running)
    platform.finish_all(active)
    platform.fail(failed, NumberNotOwned())
    platform.stick(stuck, NumberNotOwned(), "the trunk")

    _, viewer = tenant.add_key(Role.VIEWER)
    found = counts(viewer)
    assert found["open"] == {**nothing, "queued": 1, "running": 1, "stuck": 1}
    assert found["ended"] == {**none_ended, "active": 1, "failed": 1}
    since = datetime.fromisoformat(found["ended_since"])
    assert abs(datetime.now(UTC) - timedelta(hours=24) - since) < timedelta(minutes=1)
    # Nobody else's, and nobody's without a key.
    assert counts(other.http)["open"] == nothing
    problem(platform.client().get("/v1/imports/counts"), 401, "unauthenticated")
