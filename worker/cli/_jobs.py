"""A job in a terminal: followed step by step, and how it ended."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import typer
from rich.live import Live
from rich.table import Table

from worker.cli._core import OUT, Exit, complain, show_json
from worker.db.records import JobRecord
from worker.domain.job import JobState, StepName, StepState
from worker.domain.values import format_id
from worker.service import Caller, Service

_POLL_SECONDS: Final = 0.2


def follow(service: Service, caller: Caller, job: JobRecord, *, quiet: bool) -> JobRecord:
    """Shows the steps until the job is final: redrawn in a terminal, a line a change in a pipe."""
    import_id = format_id("imp", job.id)
    if quiet:
        return _poll(service, caller, import_id, lambda _: None)
    if not OUT.is_terminal:
        seen: dict[StepName, str] = {}

        def print_changes(job: JobRecord) -> None:
            for step, state in _states(job).items():
                if seen.get(step) != state and state != StepState.WAITING:
                    OUT.print(f"{step}: {state}", highlight=False)
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
    return {
        step: (
            f"{job.steps[step].state}"
            + (f" (attempt {job.steps[step].attempts})" if job.steps[step].attempts > 1 else "")
            if step in job.steps
            else str(StepState.WAITING)
        )
        for step in StepName
    }


def _table(job: JobRecord) -> Table:
    table = Table(title=f"{job.e164} {job.state}", title_justify="left", box=None)
    table.add_column("step")
    table.add_column("state")
    for step, state in _states(job).items():
        table.add_row(step, state)
    return table


def finish(job: JobRecord, *, as_json: bool) -> None:
    """Prints how a job ended, or where it is, and ends the command with the code for that."""
    import_id = format_id("imp", job.id)
    if as_json:
        show_json(
            {
                "id": import_id,
                "status": job.state,
                "phone_number": job.e164,
                "steps": _states(job),
                "error": job.error_code,
                "message": job.error_message,
                "left_at": job.undo_error_step,
            }
        )
    else:
        OUT.print(f"{import_id} {job.state}", highlight=False, soft_wrap=True)
        if job.error_code is not None:
            complain(f"{job.error_code} at {job.error_step}: {job.error_message}")
        if job.state is JobState.STUCK:
            complain(
                f"undo gave up at {job.undo_error_step}: {job.undo_error_message} See the runbook, "
                "'Stuck job'."
            )
    if not job.is_final:
        raise typer.Exit(Exit.NOT_FINAL)
    if job.state is not JobState.ACTIVE:
        raise typer.Exit(Exit.FAILED)
