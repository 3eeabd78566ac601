"""What is left of an organisation that was erased, and what keeps one from being erased."""

from __future__ import annotations

from typing import Final

import pytest

from tests.integration.db.conftest import Bench
from worker.db import erasure
from worker.db.audit import Deed
from worker.domain.errors import InvalidState
from worker.domain.job import StepName

FIRST, *_ = StepName
_OWNED: Final = (
    "SELECT table_name FROM information_schema.columns "
    "WHERE table_schema = 'public' AND column_name = 'organization_id'"
)


def erase(bench: Bench) -> dict[str, int]:
    deed = Deed(
        organization_id=bench.organization_id, actor="operator", action="erase", subject="org"
    )
    return bench.directory.erase(deed, bench.organization_id)


def end_all(bench: Bench) -> None:
    bench.sql(
        "UPDATE import_jobs SET state = 'released', due_at = NULL, lease_until = NULL, "
        "step = NULL, finished_at = now()"
    )
    bench.sql("UPDATE phone_numbers SET status = 'released'")


def rows(bench: Bench) -> dict[str, int]:
    """How many rows an organisation has in each table that says whose its rows are."""
    found = {}
    for (table,) in bench.sql(_OWNED):
        count = f"SELECT count(*) FROM {table} WHERE organization_id = :id"  # noqa: S608 -- ours
        found[table] = bench.sql(count, id=bench.organization_id)[0][0]
    return {table: count for table, count in found.items() if count}


def test_nothing_is_left_but_the_audit_log(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasure, "_AT_ONCE", 2)  # several transactions of each kind
    for last in range(5):
        bench.activate(f"+1415555010{last}")
    bench.directory.audit(
        Deed(organization_id=bench.organization_id, actor="k", action="a", subject="s")
    )
    end_all(bench)

    gone = erase(bench)
    assert (gone["import_jobs"], gone["phone_numbers"]) == (5, 5)
    assert rows(bench) == {"audit_log": 2}
    assert bench.sql("SELECT count(*) FROM job_steps")[0][0] == 0
    ((name, display_name, sealed),) = bench.sql(
        "SELECT name, display_name, sealed FROM organizations"
    )
    assert (name, display_name, sealed) == (f"erased {bench.organization_id}", None, None)
    assert not any(erase(bench).values()), "it can be repeated"


def test_another_organisation_keeps_all_it_has(bench: Bench) -> None:
    other = bench.directory.create_organization("Other")
    credential = bench.directory.create_credential(
        other, provider="twilio", account_ref="AC2", label="", sealed=b"x"
    )
    kept = bench.submit("+14155550109", organization_id=other, credential_id=credential)
    bench.submit("+14155550101")
    bench.sql(
        "UPDATE import_jobs SET state = 'failed', due_at = NULL, finished_at = now() "
        "WHERE organization_id = :id",
        id=bench.organization_id,
    )
    assert erase(bench)["import_jobs"] == 1
    assert bench.get(kept).organization_id == other
    assert bench.sql("SELECT count(*) FROM credentials")[0][0] == 1


@pytest.mark.parametrize("held", ["a running job", "a stuck job", "an active number", "a key"])
def test_what_is_in_use_keeps_everything(bench: Bench, held: str) -> None:
    job_id = bench.submit()
    if held == "an active number":
        end_all(bench)
        bench.sql("UPDATE phone_numbers SET status = 'active'")
    elif held == "a stuck job":
        bench.sql("UPDATE import_jobs SET state = 'stuck', due_at = NULL")
    elif held == "a key":
        end_all(bench)
        bench.sql(
            "INSERT INTO api_keys (id, organization_id, name, role, prefix, secret_hash) "
            "VALUES (gen_random_uuid(), :id, 'k', 'admin', 'p', '\\x00')",
            id=bench.organization_id,
        )
    else:
        bench.begin(job_id, FIRST)
    before = rows(bench)
    with pytest.raises(InvalidState):
        erase(bench)
    assert rows(bench) == before


def test_what_is_held_outside_is_told_once(bench: Bench) -> None:
    active, running = bench.activate("+14155550101"), bench.submit("+14155550102")
    found = bench.directory.holdings(bench.organization_id)
    assert found.jobs.keys() == set(found.going) == {running}
    assert found.numbers == (active.phone_number_id,)
    assert not found.stuck
