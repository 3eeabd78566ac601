"""A batch in a terminal: followed number by number, and how it ended."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from worker.batches import MOST_ROWS
from worker.cli._core import NONE, OUT, Exit, fail, id_or_none, say, show_table
from worker.db.engine import DATABASE_ERRORS
from worker.domain.job import FINAL, JobState
from worker.domain.values import format_id
from worker.service import BatchRecord, Caller, RowRecord, Service

_POLL_SECONDS: Final = 0.5
#: Between two lines in a pipe.
_TELL_SECONDS: Final = 5.0
#: Failures that a terminal shows if a file has them all.
_MOST_SHOWN: Final = 30
_REFUSED: Final = "refused"
#: An import is never released: its release is a job of its own.
_STATES: Final = (
    JobState.ACTIVE,
    JobState.FAILED,
    _REFUSED,
    JobState.CANCELLED,
    JobState.STUCK,
    JobState.UNDOING,
    JobState.RUNNING,
    JobState.QUEUED,
)
assert set(_STATES) == {_REFUSED, *JobState} - {JobState.RELEASED}, "a state would not be counted"


@dataclass(frozen=True, kw_only=True)
class Followed:
    """A batch with all its rows."""

    batch: BatchRecord
    rows: Sequence[RowRecord]

    @property
    def id(self) -> str:
        """What callers know it by."""
        return format_id("bat", self.batch.id)

    @property
    def is_final(self) -> bool:
        """Whether nothing of it goes on."""
        return all(_has_ended(row) for row in self.rows)

    @property
    def failures(self) -> list[RowRecord]:
        """Its rows that ended, but not active."""
        return [row for row in self.rows if _has_ended(row) and row.state is not JobState.ACTIVE]


def look(service: Service, caller: Caller, batch: BatchRecord) -> Followed:
    """Returns a batch as it is now."""
    # The rows first: once all of them have ended, so has the batch that is read after them.
    rows = service.list_batch_rows(batch, limit=MOST_ROWS, cursor=None, status=None)
    batch = service.get_batch(caller, format_id("bat", batch.id))
    return Followed(batch=batch, rows=rows)


def follow(
    service: Service,
    caller: Caller,
    batch: BatchRecord,
    *,
    quiet: bool,
    providers: Mapping[int, str] | None = None,
) -> Followed:
    """Shows how far a batch is until nothing of it goes on: redrawn in a terminal, else in lines.

    ``providers`` tells the provider of every line, if it is known.

    Raises:
        KeyboardInterrupt: nobody waits any more; the batch goes on.
    """
    started = time.monotonic()

    def picture(now: Followed) -> Group:
        return _picture(now, providers or {}, time.monotonic() - started)

    try:
        if quiet:
            return _poll(service, caller, batch, lambda _: None)
        if not OUT.redraws:
            return _poll(service, caller, batch, _Lines())
        with Live(console=OUT, refresh_per_second=4) as live:
            return _poll(service, caller, batch, lambda now: live.update(picture(now)))
    except DATABASE_ERRORS:
        name = format_id("bat", batch.id)
        fail(
            f"the database cannot be reached; batch {name} is stored and goes on: try again, or "
            "see `trunkline doctor`",
            Exit.NOT_FINAL,
        )


class _Lines:
    """Prints a line every few seconds in which something has ended."""

    def __init__(self) -> None:
        self._ended: int | None = None
        self._told = time.monotonic()

    def __call__(self, now: Followed) -> None:
        ended = sum(map(_has_ended, now.rows))
        late = time.monotonic() - self._told >= _TELL_SECONDS
        # The end is told by whoever waits for it.
        if ended != self._ended and (self._ended is None or late) and not now.is_final:
            say(f"{ended}/{len(now.rows)} {_counted(now.batch.counts)}")
            self._ended, self._told = ended, time.monotonic()


def _poll(
    service: Service, caller: Caller, batch: BatchRecord, show: Callable[[Followed], None]
) -> Followed:
    now = look(service, caller, batch)
    while True:
        show(now)
        if now.is_final:
            return now
        time.sleep(_POLL_SECONDS)
        # Counts are cheap, ten thousand rows are not.
        if service.get_batch(caller, now.id).counts != now.batch.counts:
            now = look(service, caller, batch)


def _has_ended(row: RowRecord) -> bool:
    return row.state is None or row.state in FINAL


def _counted(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{counts[state]} {state}" for state in _STATES if counts.get(state))


def _picture(now: Followed, providers: Mapping[int, str], seconds: float) -> Group:
    total, ended = len(now.rows), sum(map(_has_ended, now.rows))
    bar = Table.grid(padding=(0, 1), expand=True)
    bar.add_column(ratio=1)
    bar.add_column(justify="right", no_wrap=True)
    minutes, rest = divmod(int(seconds), 60)
    bar.add_row(ProgressBar(total=total, completed=ended), f"{ended}/{total}  {minutes}:{rest:02}")
    lines = [Text(_counted(now.batch.counts))]
    if providers:
        totals = Counter(providers[row.line] for row in now.rows)
        done = Counter(providers[row.line] for row in now.rows if _has_ended(row))
        told = (f"{name} {done[name]}/{count}" for name, count in totals.most_common())
        lines.append(Text("  ".join(told), style="dim"))
    return Group(bar, *lines)


def tell(now: Followed, *, file: str | None = None) -> None:
    """Prints where a batch is, and each failure of it; ``file`` has them all."""
    say(f"{now.id} {_status(now.batch)}: {_counted(now.batch.counts)}")
    failures = now.failures
    cut = _MOST_SHOWN if file is not None and OUT.is_terminal else len(failures)
    if failures:
        show_table(("line", "number", "code", "message"), _told(failures[:cut]))
    if failures[cut:]:
        codes = Counter(row.error_code or str(row.state) for row in failures[cut:])
        more = ", ".join(f"{count} {code}" for code, count in codes.most_common())
        say(f"and {len(failures) - cut} more: {more}")


def _told(failures: Sequence[RowRecord]) -> list[tuple[str, str, str, str]]:
    found, said = [], ""
    for row in failures:
        message = row.error_message or NONE
        # Folded to some columns it takes several lines: a hundred times the same hides the rest.
        shown = "" if OUT.is_terminal and message == said else message
        found.append((str(row.line), row.e164 or NONE, row.error_code or str(row.state), shown))
        said = message
    return found


def batch_json(batch: BatchRecord) -> dict[str, Any]:
    """Returns what other programs get to know of a batch, without its rows, as the API has it."""
    return {
        "id": format_id("bat", batch.id),
        "status": _status(batch),
        "total": sum(batch.counts.values()),
        "counts": {str(state): batch.counts.get(state, 0) for state in _STATES},
        "cancel_requested_at": batch.cancel_requested_at,
        "created_at": batch.created_at,
    }


def rows_json(now: Followed) -> list[dict[str, Any]]:
    """Returns what other programs get to know of a batch's rows, as the API has it."""
    return [
        {
            "line": row.line,
            "phone_number": row.e164,
            "import_id": id_or_none("imp", row.job_id),
            "status": row.state or _REFUSED,
            "error": None
            if row.error_code is None
            else {"code": row.error_code, "message": row.error_message, "step": row.error_step},
        }
        for row in now.rows
    ]


def _status(batch: BatchRecord) -> str:
    going_on = any(batch.counts.get(state) for state in JobState if state not in FINAL)
    return "running" if going_on else "finished"
