"""Trunkline: jobs come in by its front door; its worker is in `trunkline_worker`."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from uuid import UUID

import psycopg

from tests.bench.engines import Submit
from tests.bench.work import DATABASE
from worker.domain.values import ProviderName, format_id
from worker.intake import ImportRequest
from worker.service import Service, migrate_database
from worker.settings import load

ORGANIZATION: Final = "Bench"


def prepare() -> None:
    settings = load()
    migrate_database(settings)
    service = Service.from_settings(settings)
    service.bootstrap(ORGANIZATION)
    service.create_credential(
        service.operator(ORGANIZATION),
        provider=ProviderName.TWILIO,
        credentials={"account_sid": f"AC{7:032x}", "auth_token": "sandbox-token-planted"},
        label="bench",
    )
    service.close()


@contextmanager
def submitter() -> Iterator[Submit]:
    service = Service.from_settings(load())
    caller = service.operator(ORGANIZATION)
    (credential,) = service.list_credentials(caller, limit=1, cursor=None)
    following = requests(format_id("cred", credential.id))

    def submit(_job: UUID) -> None:
        service.submit(caller, ImportRequest.model_validate(next(following)))

    yield submit
    service.close()


def requests(credential_id: str) -> Iterator[dict[str, Any]]:
    """Gives requests, each for a number that no earlier one brought in."""
    with psycopg.connect(os.environ[DATABASE]) as connection:
        found = connection.execute("SELECT count(*) FROM import_jobs").fetchone()
    assert found is not None, "an aggregate has a row"
    for serial in itertools.count(found[0]):
        yield {
            "phone_number": f"+1415{5550000 + serial}",
            "provider": "twilio",
            "credential_id": credential_id,
            "replace_existing_routing": True,
        }
