from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.integration.api.conftest import (
    SID,
    TOKEN,
    Platform,
    Tenant,
    new_number,
    new_request,
    problem,
    without,
)
from worker.service import Role

AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]
CSV = {"Content-Type": "text/csv"}
ACCOUNT = {"account_sid": SID, "auth_token": TOKEN}
DEFAULTS = {"provider": "twilio", "credentials": ACCOUNT}
ID = "0" * 32


def items(count: int, **more: Any) -> list[dict[str, Any]]:
    return [{"phone_number": new_number(), **more} for _ in range(count)]


def send(tenant: Tenant, rows: list[Any], **more: Any) -> httpx.Response:
    headers = more.pop("headers", {})
    body = {"defaults": DEFAULTS, "items": rows, **more}
    return tenant.http.post("/v1/batches", json=body, headers=headers)


def accept(tenant: Tenant, rows: list[Any], **more: Any) -> dict[str, Any]:
    answer = send(tenant, rows, **more)
    assert answer.status_code == 202, answer.text
    batch: dict[str, Any] = answer.json()
    assert answer.headers["Location"] == f"/v1/batches/{batch['id']}"
    return batch


def read(tenant: Tenant, batch_id: str, **params: Any) -> dict[str, Any]:
    answer = tenant.http.get(f"/v1/batches/{batch_id}", params=params)
    assert answer.status_code == 200, answer.text
    batch: dict[str, Any] = answer.json()
    return batch


def errors(batch: dict[str, Any]) -> dict[int, str]:
    return {row["line"]: row["error"]["code"] for row in batch["items"] if row["error"]}


def counts(batch: dict[str, Any]) -> dict[str, int]:
    return {status: count for status, count in batch["counts"].items() if count}


def batch_rows(platform: Platform, tenant: Tenant) -> tuple[int, int]:
    found = platform.sql(
        "SELECT count(DISTINCT b.id), count(r.line) FROM batches b "
        "LEFT JOIN batch_rows r ON r.batch_id = b.id WHERE b.organization_id = :id",
        id=tenant.uuid,
    )
    return found[0][0], found[0][1]


def test_a_batch_becomes_one_import_a_row(platform: Platform, tenant: Tenant) -> None:
    rows = items(3)
    batch = accept(tenant, rows)

    assert (batch["status"], batch["total"], counts(batch)) == ("running", 3, {"queued": 3})
    assert [row["phone_number"] for row in batch["items"]] == [row["phone_number"] for row in rows]
    assert [row["line"] for row in batch["items"]] == [1, 2, 3]
    assert read(tenant, batch["id"]) == batch
    listed = tenant.http.get("/v1/imports", params={"batch": batch["id"]}).json()["items"]
    assert {job["id"] for job in listed} == {row["import_id"] for row in batch["items"]}
    summary = without(batch, "items", "next_cursor")
    assert tenant.http.get("/v1/batches").json() == {"items": [summary], "next_cursor": None}
    # Credentials that came inline are stored once.
    assert platform.rows(tenant) == {"import_jobs": 3, "phone_numbers": 3, "credentials": 1}


def test_each_account_of_a_batch_is_stored_once(platform: Platform, tenant: Tenant) -> None:
    other = {"account_sid": "AC" + "1" * 32, "auth_token": TOKEN}
    stored = tenant.store()
    batch = accept(
        tenant,
        [*items(2), *items(2, credentials=other), *items(2, credential_id=stored)],
    )

    assert counts(batch) == {"queued": 6}
    assert platform.rows(tenant)["credentials"] == 3
    jobs = tenant.http.get("/v1/imports", params={"batch": batch["id"]}).json()["items"]
    assert sorted(Counter(job["credential_id"] for job in jobs).values()) == [2, 2, 2]


def test_csv_says_what_json_says(tenant: Tenant) -> None:
    first, second = new_number(), new_number()
    text = (
        "\ufeffphoneNumber,provider,credentials.account_sid,credentials.authToken,friendly_name,"
        "inbound.room_pattern,supports_outbound,metadata.order\r\n"
        f'{first},twilio,{SID},{TOKEN},"=HYPERLINK(""x"",""y"")",desk-,false,42\r\n'
        f"{second},twilio,{SID},{TOKEN},,,,\r\n"
    )

    answer = tenant.http.post("/v1/batches", content=text.encode(), headers=CSV)

    assert answer.status_code == 202, answer.text
    jobs = tenant.http.get("/v1/imports", params={"batch": answer.json()["id"]}).json()["items"]
    found = {job["phone_number"]: job for job in jobs}
    assert found[first]["friendly_name"] == '=HYPERLINK("x","y")'
    assert found[first]["supports_outbound"] is False
    assert found[first]["metadata"] == {"order": "42"}
    assert found[second]["friendly_name"] is None
    assert found[second]["supports_outbound"] is True
    assert [row["line"] for row in answer.json()["items"]] == [2, 3]


def test_every_wrong_row_fails_alone_with_its_line_and_reason(
    platform: Platform, tenant: Tenant, other: Tenant
) -> None:
    agent = platform.service.create_agent(
        platform.service.authenticate(other.key), name="a", dispatch_name="a"
    )
    ours, theirs = tenant.submit(), other.submit()
    good = items(2)
    wrong: list[tuple[Any, str]] = [
        ({"phone_number": "4155550100"}, "invalid_phone_number"),
        ({"phone_number": "planted"}, "invalid_phone_number"),
        ({"phone_number": 14155550100}, "invalid_request"),
        ({}, "invalid_request"),
        ("planted", "invalid_request"),
        ({"phone_number": new_number(), "colour": "red"}, "invalid_request"),
        ({"phone_number": new_number(), "provider": "acme"}, "invalid_request"),
        ({"phone_number": new_number(), "credentials": {"key": "planted"}}, "invalid_request"),
        ({"phone_number": new_number(), "credentials": None}, "invalid_request"),
        ({"phone_number": new_number(), "credential_id": "cred_planted"}, "credential_not_found"),
        ({"phone_number": new_number(), "credential_id": other.store()}, "credential_not_owned"),
        ({"phone_number": new_number(), "agent_id": "agt_x"}, "agent_not_found"),
        ({"phone_number": new_number(), "agent_id": agent}, "agent_not_owned"),
        ({"phone_number": new_number(), "user_id": "usr_x"}, "user_not_found"),
        ({"phone_number": new_number(), "inbound": {"pin": "12"}}, "invalid_request"),
        ({"phone_number": new_number(), "price": "inf"}, "invalid_request"),
        ({"phone_number": new_number(), "callback_url": "https://10.0.0.1/x"}, "invalid_request"),
        ({"phone_number": ours["phone_number"]}, "number_already_imported"),
        ({"phone_number": theirs["phone_number"]}, "number_already_imported"),
        ({"phone_number": good[0]["phone_number"]}, "number_already_imported"),
    ]

    batch = accept(tenant, [good[0], *(row for row, _ in wrong), good[1]])

    assert counts(batch) == {"queued": 2, "refused": len(wrong)}
    assert errors(batch) == {line: code for line, (_, code) in enumerate(wrong, start=2)}
    shown = {row["line"]: row["error"]["message"] for row in batch["items"] if row["error"]}
    assert "line 1" in shown[len(wrong) + 1]
    assert ours["id"] in shown[len(wrong) - 1]
    assert theirs["id"] not in json.dumps(batch)
    assert "planted" not in json.dumps(batch)
    assert platform.rows(tenant)["import_jobs"] == 3


def test_a_batch_of_nothing_but_wrong_rows_is_finished(platform: Platform, tenant: Tenant) -> None:
    batch = accept(tenant, [{"phone_number": "1"}, {}])

    assert (batch["status"], counts(batch)) == ("finished", {"refused": 2})
    assert platform.rows(tenant) == {"import_jobs": 0, "phone_numbers": 0, "credentials": 0}
    problem(tenant.http.post(f"/v1/batches/{batch['id']}/cancel"), 409, "invalid_state")


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"{}", {"Content-Type": "application/json"}),
        (b"{nonsense", {"Content-Type": "application/json"}),
        (b'{"items": [{"friendly_name": "a\\u0000"}]}', {"Content-Type": "application/json"}),
        (b'{"items": [{"price": NaN}]}', {"Content-Type": "application/json"}),
        (b"", CSV),
        (b"phone_number\n+14155550100\n", CSV),
        (b"phone_number,provider\n\xff,twilio\n", CSV),
        (b"phone_number,provider\n", CSV),
        (b"phone_number,provider\n+14155550100,twilio\n", {"Content-Type": "text/plain"}),
        (b"phone_number,provider\n+14155550100,twilio\n", {}),
        (b"phone_number,provider\n" + b"+14155550100,twilio\n" * 10_001, CSV),
    ],
    ids=lambda value: repr(value)[:60],
)
def test_what_is_no_batch_is_refused_whole(
    platform: Platform, tenant: Tenant, body: bytes, headers: dict[str, str]
) -> None:
    problem(tenant.http.post("/v1/batches", content=body, headers=headers), 400, "invalid_request")
    assert batch_rows(platform, tenant) == (0, 0)


def test_a_body_has_a_limit_of_its_own(tenant: Tenant) -> None:
    def chunks(count: int) -> Any:
        yield b"phone_number,provider\n"
        for _ in range(count):
            yield b"x" * 1024 * 1024

    problem(
        tenant.http.post("/v1/batches", content=b"x" * (16 * 1024 * 1024 + 1), headers=CSV),
        413,
        "payload_too_large",
    )
    problem(
        tenant.http.post("/v1/batches", content=chunks(17), headers=CSV), 413, "payload_too_large"
    )
    # Other routes keep theirs.
    big = new_request(metadata={"a": "x" * 70_000})
    problem(tenant.http.post("/v1/imports", json=big), 413, "payload_too_large")


def test_a_strangers_body_is_not_read(platform: Platform) -> None:
    for body in (b"x" * 100, b"x" * 3_000_000):
        answer = platform.client().post("/v1/batches", content=body, headers=CSV)
        problem(answer, 401, "unauthenticated")


# Idempotency


def test_the_same_key_and_body_give_the_same_batch(platform: Platform, tenant: Tenant) -> None:
    key, rows = {"Idempotency-Key": str(uuid4())}, [*items(2), {"phone_number": "1"}]

    first = send(tenant, rows, headers=key)
    again = [{"phoneNumber": row["phone_number"]} for row in rows]
    second = send(tenant, again, headers=key)

    assert "Idempotent-Replayed" not in first.headers
    assert second.headers["Idempotent-Replayed"] == "true"
    assert (second.status_code, second.json()) == (202, first.json())
    assert platform.rows(tenant) == {"import_jobs": 2, "phone_numbers": 2, "credentials": 1}
    problem(send(tenant, rows[:2], headers=key), 422, "idempotency_key_reused")
    changed = {**DEFAULTS, "credentials": {**ACCOUNT, "auth_token": "another-token"}}
    problem(send(tenant, rows, headers=key, defaults=changed), 422, "idempotency_key_reused")
    assert batch_rows(platform, tenant) == (1, 3)


def test_without_a_key_the_same_body_is_another_batch_whose_numbers_are_taken(
    tenant: Tenant,
) -> None:
    rows = items(2)
    accept(tenant, rows)

    assert errors(accept(tenant, rows)) == dict.fromkeys((1, 2), "number_already_imported")


def test_copies_at_once_make_one_batch(platform: Platform, tenant: Tenant, at_once: AtOnce) -> None:
    key, rows = {"Idempotency-Key": "batch-1"}, items(30)

    answers = at_once(6, lambda _: send(tenant, rows, headers=key))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert platform.rows(tenant) == {"import_jobs": 30, "phone_numbers": 30, "credentials": 1}


def test_batches_with_the_same_numbers_at_once_share_them_out(
    platform: Platform, tenant: Tenant, other: Tenant, at_once: AtOnce
) -> None:
    rows = items(200)

    answers = at_once(
        4, lambda place: send((tenant, other)[place % 2], rows if place < 2 else rows[::-1])
    )

    assert {answer.status_code for answer in answers} == {202}, [a.text for a in answers]
    found: Counter[str] = Counter()
    for answer in answers:
        found.update(counts(answer.json()))
    assert found == {"queued": 200, "refused": 600}
    jobs = [platform.rows(one)["import_jobs"] for one in (tenant, other)]
    assert sum(jobs) == 200


# Whose


def test_batches_of_others_look_as_if_they_did_not_exist(tenant: Tenant, other: Tenant) -> None:
    theirs = accept(other, items(1))["id"]
    unknown = tenant.http.get(f"/v1/batches/bat_{ID}").json()

    for answer in (
        tenant.http.get(f"/v1/batches/{theirs}"),
        tenant.http.post(f"/v1/batches/{theirs}/cancel"),
        tenant.http.get("/v1/batches/nonsense"),
    ):
        assert problem(answer, 404, "not_found") == unknown
    assert tenant.http.get("/v1/batches").json()["items"] == []
    assert tenant.http.get("/v1/imports", params={"batch": theirs}).json()["items"] == []
    assert counts(read(other, theirs)) == {"queued": 1}


def test_a_viewer_follows_a_batch_and_changes_nothing(tenant: Tenant) -> None:
    _, viewer = tenant.add_key(Role.VIEWER)
    batch = accept(tenant, items(1))

    assert viewer.get(f"/v1/batches/{batch['id']}").json() == batch
    problem(viewer.post(f"/v1/batches/{batch['id']}/cancel"), 403, "forbidden")
    problem(viewer.post("/v1/batches", content=b"{nonsense", headers=CSV), 403, "forbidden")


# Pages


def test_rows_come_in_pages_and_by_status(platform: Platform, tenant: Tenant) -> None:
    batch = accept(tenant, [*items(4), {"phone_number": "1"}])
    done = batch["items"][2]["import_id"]
    platform.finish_all(done)

    first = read(tenant, batch["id"], limit=2)
    second = read(tenant, batch["id"], limit=2, cursor=first["next_cursor"])
    third = read(tenant, batch["id"], limit=2, cursor=second["next_cursor"])

    lines = [row["line"] for page in (first, second, third) for row in page["items"]]
    assert (lines, third["next_cursor"]) == ([1, 2, 3, 4, 5], None)
    for status, wanted in (
        ("active", [3]),
        ("refused", [5]),
        ("queued", [1, 2, 4]),
        ("stuck", []),
    ):
        page = read(tenant, batch["id"], status=status)
        assert [row["line"] for row in page["items"]] == wanted
        assert counts(page) == {"queued": 3, "active": 1, "refused": 1}
    for params in ({"cursor": "x"}, {"cursor": "9" * 30}, {"status": "released"}, {"limit": 0}):
        answer = tenant.http.get(f"/v1/batches/{batch['id']}", params=params)
        problem(answer, 400, "invalid_request")
    answer = tenant.http.get("/v1/imports", params={"batch": "nonsense"})
    problem(answer, 400, "invalid_request")


def test_batches_come_in_pages_newest_first(tenant: Tenant) -> None:
    ids = [accept(tenant, items(1))["id"] for _ in range(3)]

    first = tenant.http.get("/v1/batches", params={"limit": 2}).json()
    second = tenant.http.get(
        "/v1/batches", params={"limit": 2, "cursor": first["next_cursor"]}
    ).json()

    assert [batch["id"] for page in (first, second) for batch in page["items"]] == ids[::-1]
    assert second["next_cursor"] is None


# Cancel


def test_cancelling_ends_what_nobody_has_begun_and_undoes_the_rest(
    platform: Platform, tenant: Tenant
) -> None:
    batch = accept(tenant, items(5))
    active, working = (row["import_id"] for row in batch["items"][:2])
    platform.finish_all(active)
    claim = platform.begin(working)

    answer = tenant.http.post(f"/v1/batches/{batch['id']}/cancel")

    assert answer.status_code == 202, answer.text
    assert counts(answer.json()) == {"active": 1, "running": 1, "cancelled": 3}
    assert answer.json()["cancel_requested_at"] is not None
    assert platform.job(working).cancel_requested_at is not None
    assert platform.claims.finish_step(claim, output={}, sealed=None) is None
    platform.claims.finish_undo(platform.begin_undo(working))
    ended = read(tenant, batch["id"])
    assert (ended["status"], counts(ended)) == ("finished", {"active": 1, "cancelled": 4})
    # Again is the same as once; what was cancelled lets its number go.
    assert tenant.http.post(f"/v1/batches/{batch['id']}/cancel").json() == ended
    assert platform.rows(tenant)["phone_numbers"] == 1
    numbers = [{"phone_number": row["phone_number"]} for row in batch["items"]]
    assert errors(accept(tenant, numbers)) == {1: "number_already_imported"}


def test_a_cancelled_row_is_told_and_can_be_retried(platform: Platform, tenant: Tenant) -> None:
    batch = accept(tenant, items(2), callback_url="https://192.0.3.1/hook")
    first, second = (row["import_id"] for row in batch["items"])
    tenant.http.post(f"/v1/batches/{batch['id']}/cancel")

    job = tenant.http.get(f"/v1/imports/{first}").json()
    assert [one["type"] for one in job["notifications"]] == ["import.cancelled"]
    retried = tenant.http.post(f"/v1/imports/{second}/retry")
    assert (retried.status_code, retried.json()["status"]) == (202, "queued")
    assert counts(read(tenant, batch["id"])) == {"cancelled": 1, "queued": 1}
    assert platform.sql(
        "SELECT due_at IS NOT NULL FROM import_jobs WHERE id = :id", id=platform.job(second).id
    ) == [(True,)]


def test_a_single_import_of_a_batch_can_be_cancelled(tenant: Tenant) -> None:
    batch = accept(tenant, items(2))

    answer = tenant.http.post(f"/v1/imports/{batch['items'][0]['import_id']}/cancel")

    assert answer.json()["status"] == "cancelled"
    assert counts(read(tenant, batch["id"])) == {"cancelled": 1, "queued": 1}


# Secrets


def test_no_secret_of_a_batch_is_stored_or_logged_in_plain(
    platform: Platform, tenant: Tenant
) -> None:
    planted = "planted-batch-secret-1"
    row = {
        "phone_number": new_number(),
        "credentials": {"account_sid": SID, "auth_token": planted},
        "sip": {"address": "sip.example.com", "username": "u", "password": planted},
        "callback_url": f"https://192.0.3.1/hook?{planted}",
    }
    wrong = {"phone_number": planted, "credentials": {"auth_token": planted, planted: planted}}
    ragged = f"phone_number,provider,friendly_name\n{planted}\n{planted},{planted},{planted}\n"

    accept(tenant, [row, {**wrong, "phone_number": new_number()}, wrong, {planted: planted}])
    answer = tenant.http.post("/v1/batches", content=ragged.encode(), headers=CSV)

    assert counts(answer.json()) == {"refused": 2}
    assert planted not in platform.log()
    for table in ("batches", "batch_rows", "import_jobs", "credentials", "phone_numbers"):
        whole = platform.sql(f"SELECT t::text FROM {table} t")  # noqa: S608 -- our own names
        assert whole
        assert planted not in str(whole)


def test_ten_thousand_rows_are_accepted_within_the_patience_of_a_client(
    platform: Platform, tenant: Tenant
) -> None:
    numbers = [f"+1202{place:07}" for place in range(2_000_000, 2_010_000)]
    lines = "".join(
        f"{number},twilio,{SID},{TOKEN},{place}\n" for place, number in enumerate(numbers)
    )
    header = "phone_number,provider,credentials.account_sid,credentials.auth_token,metadata.place\n"

    answer = tenant.http.post("/v1/batches", content=(header + lines).encode(), headers=CSV)

    assert answer.status_code == 202, answer.text
    assert counts(answer.json()) == {"queued": 10_000}
    assert platform.rows(tenant) == {
        "import_jobs": 10_000,
        "phone_numbers": 10_000,
        "credentials": 1,
    }
    assert answer.elapsed.total_seconds() < 30
    cancelled = tenant.http.post(f"/v1/batches/{answer.json()['id']}/cancel")
    assert counts(cancelled.json()) == {"cancelled": 10_000}


def test_a_small_body_that_is_a_mountain_of_values_is_refused_before_it_is_built(
    tenant: Tenant,
) -> None:
    # 15 MiB of empty lists took 25 s and 850 MB.
    for one in (b"[]", b"{}", b"0", b'""'):
        body = b'{"items":[' + b",".join([one] * 1_500_000) + b"]}"
        begun = time.monotonic()
        answer = tenant.http.post(
            "/v1/batches", content=body, headers={"Content-Type": "application/json"}
        )
        assert "too many values" in problem(answer, 400, "invalid_request")["detail"]
        assert time.monotonic() - begun < 5
