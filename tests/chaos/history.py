"""Who claimed which job when, as the database itself saw it; and how long recovery took.

A trigger writes down every claim, every end of one and every change of state, with the name under
which the process connects (`PGAPPNAME`, one a worker). So it is known, not guessed, which jobs a
killed worker held.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

#: In a schema of its own: none of the product's business.
TRIGGER: Final = """
CREATE SCHEMA chaos;
CREATE TABLE chaos.history (
    n bigserial PRIMARY KEY,
    at double precision NOT NULL,
    job uuid NOT NULL,
    fence integer NOT NULL,
    state text NOT NULL,
    leased boolean NOT NULL,
    left_of_old_lease double precision,
    who text NOT NULL
);
CREATE FUNCTION chaos.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE now_is timestamptz := clock_timestamp();
BEGIN
    INSERT INTO chaos.history (at, job, fence, state, leased, left_of_old_lease, who)
    VALUES (
        extract(epoch FROM now_is), NEW.id, NEW.fence, NEW.state, NEW.lease_until IS NOT NULL,
        CASE WHEN NEW.fence <> OLD.fence THEN extract(epoch FROM OLD.lease_until - now_is) END,
        current_setting('application_name')
    );
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_note AFTER UPDATE ON import_jobs FOR EACH ROW
WHEN (
    NEW.fence <> OLD.fence OR NEW.state <> OLD.state
    OR (NEW.lease_until IS NULL) <> (OLD.lease_until IS NULL)
) EXECUTE FUNCTION chaos.note();
"""
READ: Final = (
    "SELECT at, job, fence, state, leased, left_of_old_lease, who FROM chaos.history ORDER BY n"
)
_FINAL: Final = {"active", "failed", "cancelled", "stuck", "released"}
#: A killed process's last statement may still be carried out; a new one takes longer to start.
_LAST_WORDS_SECONDS: Final = 0.3


@dataclass(frozen=True, kw_only=True)
class Change:
    """One row of the history."""

    at: float
    job: UUID
    fence: int
    state: str
    leased: bool
    #: Of a claim: the seconds that the lease before it still had; None if there was none.
    left_of_old_lease: float | None
    who: str


def read(rows: Iterable[Sequence[Any]]) -> list[Change]:
    """Reads what `READ` selects."""
    names = ("at", "job", "fence", "state", "leased", "left_of_old_lease", "who")
    return [Change(**dict(zip(names, row, strict=True))) for row in rows]


@dataclass(frozen=True, kw_only=True)
class Kill:
    """A worker that was killed, and what became of the jobs that it held."""

    worker: str
    at: float
    #: Job → the seconds until somebody else claimed it, or it was final; None for never.
    taken_over: dict[UUID, float | None]

    @property
    def seconds(self) -> float | None:
        """Until the last of its jobs was taken over; None if it held none, or one never was."""
        times = [*self.taken_over.values()]
        return None if not times or None in times else max(time for time in times if time)

    @property
    def lost(self) -> list[UUID]:
        """Jobs that nobody ever took over."""
        return [job for job, seconds in self.taken_over.items() if seconds is None]


def kills_of(changes: Iterable[Change], killed: Iterable[tuple[str, float]]) -> list[Kill]:
    """Returns, for each worker killed at a time, the jobs it held leased and their take-over."""
    by_job: dict[UUID, list[Change]] = defaultdict(list)
    for change in changes:
        by_job[change.job].append(change)
    kills = []
    for worker, at in killed:
        taken: dict[UUID, float | None] = {}
        for job, rows in by_job.items():
            before = [row for row in rows if row.at <= at + _LAST_WORDS_SECONDS]
            if not before or not before[-1].leased or before[-1].who != worker:
                continue
            held = before[-1]
            taken[job] = next(
                (
                    row.at - at
                    for row in rows[len(before) :]
                    if row.fence > held.fence or row.state in _FINAL
                ),
                None,
            )
        kills.append(Kill(worker=worker, at=at, taken_over=taken))
    return kills


def undisturbed(kills: Iterable[Kill], blows: Iterable[tuple[float, float]]) -> list[Kill]:
    """Returns the kills during whose recovery nothing was down that every job needs.

    ``blows`` are the spans in which something was.
    """
    spans = list(blows)
    return [
        kill
        for kill in kills
        if kill.seconds is not None
        and not any(begin < kill.at + kill.seconds and end > kill.at for begin, end in spans)
    ]


def double_claims(changes: Iterable[Change]) -> list[Change]:
    """Returns the claims of jobs on which somebody else still had a lease."""
    last: dict[UUID, Change] = {}
    found = []
    for change in changes:
        before = last.get(change.job)
        last[change.job] = change
        taken = change.left_of_old_lease is not None and change.left_of_old_lease > 0
        if taken and before is not None and before.who != change.who:
            found.append(change)
    return found


def spread(values: Sequence[float]) -> dict[str, float] | None:
    """Returns median and maximum, if there are any values."""
    if not values:
        return None
    return {"median": round(statistics.median(values), 1), "max": round(max(values), 1)}
