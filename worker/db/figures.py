"""What operators' metrics ask of the database: one statement, which reads indexes of open work.

Ended jobs are not counted here, however many there are: whoever ends one counts it then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, text

from worker.db.engine import make_probe
from worker.settings import Settings

#: Longer than this nobody waits for figures.
_PATIENCE: Final = text("SET LOCAL statement_timeout = '2s'")
#: What a job that waits for a place is called: its state is queued, or undoing.
HELD: Final = "held"

# Where a part reads a partial index, it repeats the index's predicate word for word.
#
# How long a job has waited for a worker: one that goes by the queue of those who wait for nobody,
# since it became queued; one of the backlog, since it was let go and its message sent.
_FIGURES: Final = text(
    """
    SELECT 'jobs' AS figure, kind AS a, provider AS b, CASE
        WHEN due_at IS NULL AND state IN ('queued', 'undoing') THEN 'held' ELSE state
    END AS c, count(*)::float8 AS value
    FROM import_jobs WHERE state IN ('queued', 'running', 'undoing', 'stuck') GROUP BY 2, 3, 4
    UNION ALL
    SELECT 'queue_age', CASE WHEN backlog THEN 'batches' ELSE 'imports' END, provider, NULL,
        extract(epoch FROM clock_timestamp() - min(
            CASE WHEN backlog THEN sent_at ELSE greatest(updated_at, next_attempt_at) END
        ))::float8
    FROM import_jobs
    WHERE due_at IS NOT NULL AND state = 'queued'
      AND (next_attempt_at IS NULL OR next_attempt_at <= clock_timestamp())
    GROUP BY 2, 3
    UNION ALL
    SELECT 'limited', provider, NULL, NULL, count(*)::float8
    FROM provider_limits WHERE until > clock_timestamp() GROUP BY 2
    UNION ALL
    SELECT 'drifted', provider, NULL, NULL, count(*)::float8
    FROM phone_numbers WHERE status = 'active' AND diagnosis ->> 'verdict' = 'drifted' GROUP BY 2
    UNION ALL
    SELECT 'pending', NULL, NULL, NULL, count(*)::float8
    FROM notifications WHERE state = 'pending'
    UNION ALL
    SELECT 'late', NULL, NULL, NULL,
        greatest(0, extract(epoch FROM clock_timestamp() - min(due_at)))::float8
    FROM notifications WHERE state = 'pending'
    UNION ALL
    SELECT 'swept', NULL, NULL, NULL, extract(epoch FROM clock_timestamp() - swept_at)::float8
    FROM sweeps
    """
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What was found at one moment; what is nought may be missing in a mapping."""

    #: Kind, provider and state, or "held" → how many open jobs.
    jobs: Mapping[tuple[str, str, str], float]
    #: "imports" or "batches", and provider → for how long its oldest job has waited for a worker.
    queue_age_seconds: Mapping[tuple[str, str], float]
    #: Provider → how many of its accounts it has asked to slow down.
    accounts_limited: Mapping[str, float]
    #: Provider → how many active numbers were last found changed.
    numbers_drifted: Mapping[str, float]
    notifications_pending: float
    #: For how long the oldest notification that is due has been due.
    notifications_late_seconds: float
    sweep_age_seconds: float


class FiguresReader:
    """Asks for the figures, beside the process's pool: scrapes and requests wait for neither."""

    def __init__(self, settings: Settings) -> None:
        self._engine = make_probe(settings)

    def read(self) -> Figures:
        """Returns the figures of this moment.

        Raises:
            DATABASE_ERRORS: the database is away, or too slow.
        """
        with self._engine.begin() as connection:
            connection.execute(_PATIENCE)
            return _figures(list(connection.execute(_FIGURES)))


def _figures(rows: list[Row[Any]]) -> Figures:
    def by_word(figure: str) -> dict[str, float]:
        return {row.a: row.value or 0.0 for row in rows if row.figure == figure}

    def one(figure: str) -> float:
        return next(row.value or 0.0 for row in rows if row.figure == figure)

    return Figures(
        jobs={(row.a, row.b, row.c): row.value for row in rows if row.figure == "jobs"},
        queue_age_seconds={
            (row.a, row.b): row.value or 0.0 for row in rows if row.figure == "queue_age"
        },
        accounts_limited=by_word("limited"),
        numbers_drifted=by_word("drifted"),
        notifications_pending=one("pending"),
        notifications_late_seconds=one("late"),
        sweep_age_seconds=one("swept"),
    )
