"""A job in a terminal: followed step by step, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import typer
from rich.console import Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from worker.cli._core import OUT, Exit, complain, fail, id_or_none, say, show_json
from worker.domain.job import JobKind, JobState, StepName, StepState
from worker.domain.values import format_id
from worker.service import Caller, JobRecord, Service

_POLL_SECONDS: Final = 0.2
_UNDO: Final = (StepState.UNDOING, StepState.UNDONE, StepState.STUCK)


def follow(service: Service, caller: Caller, job: JobRecord, *, quiet: bool) -> JobRecord:
    """Shows the steps until the job is final: redrawn in a terminal, a line a change in a pipe."""
    import_id = format_id("imp", job.id)
    try:
        return _shown(service, caller, job, import_id, quiet=quiet)
    except KeyboardInterrupt:
        fail(
            f"nobody waits any more, but the {job.kind} goes on: trunkline status {import_id} "
            "--watch",
            Exit.NOT_FINAL,
        )


def _shown(
    service: Service, caller: Caller, job: JobRecord, import_id: str, *, quiet: bool
) -> JobRecord:
    if quiet:
        return _poll(service, caller, import_id, lambda _: None)
    if not OUT.redraws:
        # What a job begins with is no news: a release starts with every step done.
        begins = StepState.DONE if job.kind is JobKind.RELEASE else StepState.WAITING
        seen: dict[StepName, str] = dict.fromkeys(job.shown_steps, begins)

        def print_changes(job: JobRecord) -> None:
            for step, state in _states(job).items():
                if seen.get(step) != state:
                    say(f"{step}: {state}")
                    seen[step] = state

        return _poll(service, caller, import_id, print_changes)
    with Live(_table(job), console=OUT, refresh_per_second=10) as live:
        return _poll(service, caller, import_id, lambda job: live.update(_table(job)))


def _poll(
    service: Service, caller: Caller, import_id: str, show: Callable[[JobRecord], None]
) -> JobRecord:
    while True:
        job = service.get_import(caller, import_id)
        show(job)
        if job.is_final:
            return job
        time.sleep(_POLL_SECONDS)


def _states(job: JobRecord) -> dict[StepName, str]:
    found = {}
    for step in job.shown_steps:
        record = job.steps.get(step)
        found[step] = str(StepState.WAITING if record is None else record.state)
        tries = 0 if record is None else record.attempts
        if record is not None and record.state in _UNDO:
            tries = record.undo_attempts
        if tries > 1:
            found[step] += f" (attempt {tries})"
    return found


def _table(job: JobRecord) -> Group:
    table = Table(box=None)
    table.add_column("step")
    table.add_column("state")
    for step, state in _states(job).items():
        table.add_row(step, state)
    # Not the table's title, which would be folded to the table's width.
    return Group(Text(f"{job.kind} of {job.e164}: {job.state}", style="italic"), table)


def job_json(job: JobRecord) -> dict[str, Any]:
    """Returns what other programs get to know of a job."""
    return {
        "id": format_id("imp", job.id),
        "kind": job.kind,
        "status": job.state,
        "phone_number": job.e164,
        "phone_number_id": id_or_none("num", job.phone_number_id),
        "steps": _states(job),
        "error": job.error_code,
        "message": job.error_message,
        "left_at": job.undo_error_step,
    }


def succeeded(job: JobRecord) -> bool:
    """Whether a job came to what it was for."""
    return job.state is (JobState.RELEASED if job.kind is JobKind.RELEASE else JobState.ACTIVE)


def tell(job: JobRecord) -> None:
    """Prints how a job ended, or where it is, and what went wrong."""
    say(f"{format_id('imp', job.id)} {job.state}")
    if job.error_code is not None:
        complain(f"{job.error_code} at {job.error_step}: {job.error_message}")
    if job.state is JobState.STUCK:
        complain(
            f"undo gave up at {job.undo_error_step}: {job.undo_error_message} See the runbook, "
            "'Stuck job'."
        )


def finish(job: JobRecord, *, as_json: bool) -> None:
    """Prints how a job ended, or where it is, and ends the command with the code for that."""
    if as_json:
        show_json(job_json(job))
    else:
        tell(job)
    if not job.is_final:
        raise typer.Exit(Exit.NOT_FINAL)
    if not succeeded(job):
        raise typer.Exit(Exit.FAILED)
