"""How many jobs of an organisation are in each state: open ones all, ended ones of the last day."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from sqlalchemy import Connection, text

#: How far back ended jobs are counted: a count of all that there ever were would get slower daily.
TALLY_HOURS: Final = 24

# Each part is one partial index, whose predicate it repeats word for word, and no job is in two of
# them. An index of all open jobs by state would be shorter to ask, but written at every claim.
_TALLY: Final = text(
    """
    SELECT state, sum(jobs)::bigint AS jobs FROM (
        SELECT state, count(*) AS jobs FROM import_jobs
        WHERE organization_id = :organization AND due_at IS NOT NULL
        GROUP BY state
        UNION ALL
        SELECT state, count(*) FROM import_jobs
        WHERE organization_id = :organization AND due_at IS NULL
          AND (state = 'undoing' OR (state = 'queued' AND batch_id IS NULL))
        GROUP BY state
        UNION ALL
        SELECT 'queued', count(*) FROM import_jobs
        WHERE organization_id = :organization
          AND due_at IS NULL AND state = 'queued' AND batch_id IS NOT NULL
        UNION ALL
        SELECT 'stuck', count(*) FROM import_jobs
        WHERE organization_id = :organization AND state = 'stuck'
        UNION ALL
        SELECT state, count(*) FROM import_jobs
        WHERE organization_id = :organization AND finished_at IS NOT NULL AND finished_at >= :since
          AND state IN ('active', 'failed', 'cancelled', 'released')
        GROUP BY state
    ) AS parts GROUP BY state
    """
)
_NOW: Final = text("SELECT now()")


@dataclass(frozen=True, kw_only=True)
class Tally:
    """What was counted."""

    #: State → how many jobs are in it; states without one may be missing.
    jobs: Mapping[str, int]
    #: From when on ended jobs are counted; open ones are counted whatever their age.
    ended_since: datetime


def tally(connection: Connection, organization_id: UUID) -> Tally:
    """Counts an organisation's jobs."""
    since = connection.execute(_NOW).scalar_one() - timedelta(hours=TALLY_HOURS)
    rows = connection.execute(_TALLY, {"organization": organization_id, "since": since})
    return Tally(jobs={row.state: row.jobs for row in rows}, ended_since=since)
