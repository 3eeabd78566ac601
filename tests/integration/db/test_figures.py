"""What metrics ask of the database: open work by state, and never what has ended."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prometheus_client import REGISTRY

from tests.integration.db.conftest import Bench
from worker.db import figures
from worker.db.figures import FiguresReader
from worker.db.records import Claim
from worker.domain.errors import NumberNotOwned, ProviderUnavailable
from worker.domain.job import StepName
from worker.settings import Settings

FIRST, SECOND, *_ = StepName


@pytest.fixture
def reader(settings: Settings) -> FiguresReader:
    return FiguresReader(settings)


def ended(**labels: str) -> float:
    known = {"kind": "import", "provider": "twilio", "error_code": "none"}
    return REGISTRY.get_sample_value("trunkline_jobs_ended_total", {**known, **labels}) or 0.0


def rescues() -> float:
    return REGISTRY.get_sample_value("trunkline_sweep_rescues_total") or 0.0


def test_an_idle_database_has_nothing_but_the_age_of_its_sweep(reader: FiguresReader) -> None:
    found = reader.read()
    assert (found.jobs, found.queue_age_seconds) == ({}, {})
    assert (found.accounts_limited, found.numbers_drifted) == ({}, {})
    assert (found.notifications_pending, found.notifications_late_seconds) == (0, 0)
    assert found.sweep_age_seconds > 0


def test_open_jobs_are_counted_by_state_and_held_ones_apart(
    bench: Bench, reader: FiguresReader
) -> None:
    jobs = [bench.submit(f"+1415555{number:04}") for number in range(6)]
    bench.begin(jobs[1], FIRST)
    bench.sql("UPDATE import_jobs SET due_at = NULL WHERE id = :id", id=jobs[2])
    bench.sql("UPDATE import_jobs SET state = 'stuck', due_at = NULL WHERE id = :id", id=jobs[3])
    bench.sql("UPDATE import_jobs SET state = 'undoing' WHERE id = :id", id=jobs[4])
    bench.sql("UPDATE import_jobs SET state = 'failed', due_at = NULL WHERE id = :id", id=jobs[5])
    states = ("queued", "running", "held", "stuck", "undoing")
    assert reader.read().jobs == {("import", "twilio", state): 1 for state in states}


def test_the_queue_is_as_old_as_the_job_that_has_waited_longest_for_a_worker(
    bench: Bench, reader: FiguresReader
) -> None:
    old, limited, begun, backlog = (bench.submit(f"+1415555{number:04}") for number in range(4))
    for job_id, seconds in ((old, 60), (limited, 600), (begun, 900), (backlog, 9000)):
        bench.sql(
            "UPDATE import_jobs SET updated_at = now() - :waited * interval '1 s' WHERE id = :id",
            waited=seconds,
            id=job_id,
        )
    # Its provider has asked to wait.
    bench.sql(
        "UPDATE import_jobs SET next_attempt_at = now() + interval '1 min' WHERE id = :id",
        id=limited,
    )
    bench.begin(begun, FIRST)
    # It was held for hours, and let go a moment ago.
    bench.sql(
        "UPDATE import_jobs SET backlog = true, sent_at = now() - interval '5 s' WHERE id = :id",
        id=backlog,
    )
    age = reader.read().queue_age_seconds
    assert 60 <= age["imports", "twilio"] < 90
    assert 5 <= age["batches", "twilio"] < 35


def test_drift_limits_and_notifications_are_counted(bench: Bench, reader: FiguresReader) -> None:
    job = bench.activate()
    verdict = json.dumps({"verdict": "drifted"})
    bench.sql("UPDATE phone_numbers SET diagnosis = CAST(:verdict AS jsonb)", verdict=verdict)
    bench.claims.limit_account("telnyx", "here", seconds=60)
    bench.claims.limit_account("telnyx", "past", seconds=-1)
    for due in ("- interval '1 hour'", "+ interval '1 hour'"):
        bench.sql(
            "INSERT INTO notifications (id, organization_id, secrets_of, type, due_at) "  # noqa: S608
            f"SELECT gen_random_uuid(), organization_id, id, 'import.active', now() {due} "
            "FROM import_jobs WHERE id = :id",
            id=job.id,
        )
    found = reader.read()
    assert found.numbers_drifted == {"twilio": 1}
    assert found.accounts_limited == {"telnyx": 1}
    assert found.notifications_pending == 2
    assert 3600 <= found.notifications_late_seconds < 3660


def test_no_table_of_what_has_ended_is_read(bench: Bench) -> None:
    bench.activate()
    for table, ends in (
        ("import_jobs", "state = 'active', due_at = NULL, idempotency_key = NULL"),
        ("phone_numbers", "status = 'released'"),
    ):
        bench.sql(f"UPDATE {table} SET {ends}")  # noqa: S608 -- ours
        (columns,) = bench.sql(
            "SELECT string_agg(quote_ident(column_name), ', ') AS names "
            "FROM information_schema.columns WHERE table_name = :name AND column_name <> 'id'",
            name=table,
        )
        bench.sql(
            f"INSERT INTO {table} (id, {columns.names}) SELECT gen_random_uuid(), {columns.names} "  # noqa: S608 -- ours
            f"FROM {table}, generate_series(1, 20000) LIMIT 20000"
        )
        bench.sql(f"ANALYZE {table}")
    with bench.engine.begin() as connection:
        plan: Any = connection.exec_driver_sql(
            f"EXPLAIN (FORMAT JSON) {figures._FIGURES.text}".replace("%", "%%")
        ).scalar_one()
    scans = [
        node["Relation Name"] for node in nodes(plan[0]["Plan"]) if node["Node Type"] == "Seq Scan"
    ]
    assert not {"import_jobs", "phone_numbers"} & set(scans)


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(one for part in plan.get("Plans", ()) for one in nodes(part))]


def test_an_end_is_counted_when_it_is_committed_and_never_twice(bench: Bench) -> None:
    before = ended(state="active")
    bench.activate()
    assert ended(state="active") == before + 1

    before = ended(state="failed", error_code="number_not_owned")
    job_id = bench.submit("+14155550101")
    claim = bench.begin(job_id, FIRST)
    bench.claims.fail(claim, NumberNotOwned(), settle=None)
    assert ended(state="failed", error_code="number_not_owned") == before
    undo = bench.claims.begin_undo(job_id, FIRST, attempts=3, lease_seconds=30)
    assert isinstance(undo, Claim)
    bench.claims.finish_undo(undo)
    assert ended(state="failed", error_code="number_not_owned") == before + 1

    before = ended(state="cancelled")
    with bench.engine.connect() as connection, connection.begin() as transaction:
        job = bench.get(bench.submit("+14155550102"))
        bench.jobs._moves.start_undo(connection, job, None)
        transaction.rollback()
    assert ended(state="cancelled") == before
    bench.jobs.cancel(job.id)
    assert ended(state="cancelled") == before + 1


def test_a_rescue_is_counted_and_a_planned_retry_is_none(bench: Bench) -> None:
    before = rescues()
    retried, died = bench.submit("+14155550101"), bench.submit("+14155550102")
    claim = bench.begin(retried, FIRST)
    bench.claims.retry_later(claim, ProviderUnavailable(), delay=0, by_sweep=True, settle=None)
    bench.begin(died, FIRST)
    bench.expire_lease(died)
    assert bench.sweeps.take_stranded(limit=9).keys() == {retried, died}
    assert rescues() == before + 1
    bench.expire_lease(died)
    bench.sweeps.take_due(limit=9)
    assert rescues() == before + 2
