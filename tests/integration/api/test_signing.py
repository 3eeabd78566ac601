from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.integration.api.conftest import Platform, Tenant, problem
from worker.service import Role

AtOnce = Callable[[int, Callable[[int], Any]], list[Any]]
PATH = "/v1/signing-secret"


def test_the_secret_is_made_once_and_sealed(
    platform: Platform, tenant: Tenant, at_once: AtOnce
) -> None:
    answers = at_once(4, lambda _: tenant.http.get(PATH))

    assert {answer.status_code for answer in answers} == {200}
    assert {answer.headers["Cache-Control"] for answer in answers} == {"no-store"}
    [secret] = {answer.json()["secret"] for answer in answers}
    assert answers[0].json() == {"secret": secret, "previous_valid_until": None}
    assert secret.startswith("whsec_")
    assert len(base64.b64decode(secret.removeprefix("whsec_"), validate=True)) == 32
    [(sealed,)] = platform.sql("SELECT sealed FROM organizations WHERE id = :id", id=tenant.uuid)
    assert secret.removeprefix("whsec_").encode() not in bytes(sealed)
    assert secret.removeprefix("whsec_") not in platform.log()


def test_a_rotation_replaces_it_and_says_until_when_both_sign(tenant: Tenant) -> None:
    old = tenant.http.get(PATH).json()["secret"]

    answer = tenant.http.post(f"{PATH}/rotate")

    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    rotated = answer.json()
    assert rotated["secret"] != old
    until = datetime.fromisoformat(rotated["previous_valid_until"])
    assert timedelta(hours=23) < until - datetime.now(UTC) <= timedelta(days=1)
    assert tenant.http.get(PATH).json() == rotated


def test_a_rotation_before_the_first_use_replaces_nothing(tenant: Tenant) -> None:
    rotated = tenant.http.post(f"{PATH}/rotate").json()
    assert rotated["previous_valid_until"] is None
    assert tenant.http.get(PATH).json() == rotated


def test_each_organisation_has_its_own(tenant: Tenant, other: Tenant) -> None:
    assert tenant.http.get(PATH).json()["secret"] != other.http.get(PATH).json()["secret"]


def test_who_may_import_may_verify_and_nobody_else(tenant: Tenant) -> None:
    secret = tenant.http.get(PATH).json()["secret"]
    _, manager = tenant.add_key(Role.AGENT_MANAGER)
    _, viewer = tenant.add_key(Role.VIEWER)
    assert manager.get(PATH).json()["secret"] == secret
    problem(viewer.get(PATH), 403, "forbidden")
    problem(viewer.post(f"{PATH}/rotate"), 403, "forbidden")
    assert tenant.http.get(PATH).json()["secret"] == secret


def test_who_read_or_replaced_it_is_written_down(platform: Platform, tenant: Tenant) -> None:
    tenant.http.get(PATH)
    secret = tenant.http.post(f"{PATH}/rotate").json()["secret"]

    entries = platform.sql(
        "SELECT actor, action, subject, detail::text FROM audit_log "
        "WHERE organization_id = :id AND action LIKE 'signing%' ORDER BY id",
        id=tenant.uuid,
    )

    prefix = tenant.key.split("_")[1]
    assert [entry[:3] for entry in entries] == [
        (prefix, "signing_secret.read", tenant.organization_id),
        (prefix, "signing_secret.rotate", tenant.organization_id),
    ]
    assert secret not in str(entries)
