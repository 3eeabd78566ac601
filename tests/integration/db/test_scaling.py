"""What KEDA asks the database, as a role that may read nothing else."""

from __future__ import annotations

from typing import Final

import pytest
import yaml
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from tests.integration.db.conftest import Bench
from tests.manifests import reading
from worker.db.repository import JobRepository

RUNBOOK: Final = (reading.DEPLOY / "README.md").read_text()


def _query() -> str:
    documents = yaml.safe_load_all((reading.K8S / "keda" / "scaling.yaml").read_text())
    [scaled] = [one for one in documents if one["kind"] == "ScaledObject"]
    [trigger] = scaled["spec"]["triggers"]
    return str(trigger["metadata"]["query"])


def test_it_counts_the_jobs_under_way_and_sees_nothing_else(bench: Bench) -> None:
    [grant] = [line for line in RUNBOOK.splitlines() if line.startswith("GRANT SELECT")]
    jobs = JobRepository(bench.engine, resend_after_seconds=2, organization_concurrency=3)
    for last in range(5):
        assert jobs.submit(bench.new_job(f"+1415555010{last}"), None)
    # Rolled back: roles are the whole server's.
    with bench.engine.connect() as connection:
        connection.execute(text("CREATE ROLE keda"))
        connection.execute(text(grant))
        connection.execute(text("SET LOCAL ROLE keda"))
        assert connection.execute(text(_query())).scalar_one() == 3
        with pytest.raises(ProgrammingError, match="permission denied"):
            connection.execute(text("SELECT sealed FROM import_jobs"))
