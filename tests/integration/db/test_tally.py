"""How many jobs are where: right in every state, and read from indexes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from tests.integration.db.conftest import Bench
from worker.db import tally as module
from worker.db.tally import TALLY_HOURS
from worker.domain.job import OPEN, JobState

#: A job as it may lie in the table: state, batch, whether it is due, hours since it ended.
_ROWS = """
    INSERT INTO import_jobs (id, organization_id, state, provider, e164, credential_id, account_ref,
        request, sealed, batch_id, backlog, step, due_at, finished_at)
    SELECT gen_random_uuid(), :organization, :state, provider, 'x', credential_id, account_ref,
        request, sealed, CAST(:batch AS uuid), false, step,
        CASE WHEN :due THEN now() + n * interval '1 s' END,
        now() - CAST(:ended AS float) * interval '1 hour'
    FROM import_jobs, generate_series(1, :count) AS n WHERE id = :model
"""


class Rows:
    """Puts jobs into the table, all like one that was submitted."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self._model = bench.submit()
        bench.sql("UPDATE import_jobs SET state = 'cancelled', due_at = NULL")
        self.batch = bench.sql(
            "INSERT INTO batches (id, organization_id, sealed) "
            "VALUES (gen_random_uuid(), :id, '') RETURNING id",
            id=bench.organization_id,
        )[0][0]

    def add(self, count: int, state: JobState, **row: Any) -> None:
        values: dict[str, Any] = {"organization": self._bench.organization_id, "model": self._model}
        values |= {"batch": None, "due": False, "ended": None, "count": count, "state": state}
        self._bench.sql(_ROWS, **{**values, **row})


@pytest.fixture
def rows(bench: Bench) -> Rows:
    return Rows(bench)


def test_each_job_is_counted_once_wherever_it_waits(bench: Bench, rows: Rows) -> None:
    other = bench.directory.create_organization("Other")
    rows.add(1, JobState.QUEUED, due=True)
    rows.add(2, JobState.QUEUED)
    rows.add(3, JobState.QUEUED, batch=rows.batch)
    rows.add(4, JobState.QUEUED, batch=rows.batch, due=True)
    rows.add(5, JobState.RUNNING, due=True)
    rows.add(6, JobState.UNDOING)
    rows.add(7, JobState.UNDOING, due=True, batch=rows.batch)
    # An operator's retry leaves the time at which it had got stuck.
    rows.add(8, JobState.UNDOING, due=True, ended=1)
    rows.add(9, JobState.STUCK, ended=1)
    rows.add(10, JobState.STUCK, ended=1000)
    rows.add(11, JobState.ACTIVE, ended=0.1)
    rows.add(12, JobState.ACTIVE, ended=TALLY_HOURS + 1)
    rows.add(13, JobState.FAILED, ended=TALLY_HOURS - 1)
    rows.add(14, JobState.CANCELLED, ended=3, batch=rows.batch)
    rows.add(15, JobState.RELEASED, ended=3)
    for state in JobState:
        rows.add(16, state, organization=other, due=state in OPEN, ended=2)

    found = bench.jobs.tally(bench.organization_id)

    assert {state: number for state, number in found.jobs.items() if number} == {
        "queued": 1 + 2 + 3 + 4,
        "running": 5,
        "undoing": 6 + 7 + 8,
        "stuck": 9 + 10,
        "active": 11,
        "failed": 13,
        "cancelled": 14,
        "released": 15,
    }
    now = bench.sql("SELECT now()")[0][0]
    assert (
        timedelta() <= now - found.ended_since - timedelta(hours=TALLY_HOURS) < timedelta(minutes=1)
    )


def test_what_it_reads_does_not_grow_with_what_has_ended(bench: Bench, rows: Rows) -> None:
    rows.add(50, JobState.RUNNING, due=True)
    rows.add(20_000, JobState.ACTIVE, ended=TALLY_HOURS * 2)
    rows.add(
        20_000, JobState.FAILED, ended=1, organization=bench.directory.create_organization("O")
    )
    bench.sql("ANALYZE import_jobs")
    values = {
        "organization": bench.organization_id,
        "since": bench.jobs.tally(bench.organization_id).ended_since,
    }
    with bench.engine.connect() as connection:
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {module._TALLY.text}"
        plan = connection.execute(text(explained), values).scalar_one()[0]["Plan"]

    assert "Seq Scan" not in str(plan)
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 100, plan


@pytest.mark.parametrize("state", [JobState.QUEUED, JobState.FAILED, JobState.ACTIVE])
def test_a_page_of_one_state_is_read_without_the_others(
    bench: Bench, rows: Rows, state: JobState
) -> None:
    rows.add(5, JobState.FAILED, ended=1000)
    rows.add(20_000, JobState.ACTIVE, ended=TALLY_HOURS)
    bench.sql("ANALYZE import_jobs")
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, query: str, values: Any, *_rest: Any) -> None:
        asked.append((query, values))

    event.listen(bench.engine, "before_cursor_execute", note)
    found = bench.jobs.list_jobs(bench.organization_id, limit=50, state=state)
    event.remove(bench.engine, "before_cursor_execute", note)

    assert len(found) == {JobState.QUEUED: 0, JobState.FAILED: 5, JobState.ACTIVE: 50}[state]
    ((query, values),) = asked
    with bench.engine.connect() as connection:
        explained = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {query}"
        plan = connection.exec_driver_sql(explained, values).scalar_one()[0]["Plan"]
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200, plan
