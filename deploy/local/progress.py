"""Shows running imports step by step: a live table on a terminal, plain lines in a pipe."""

from __future__ import annotations

import threading
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, Self

from rich.live import Live
from rich.table import Table
from rich.text import Text

from deploy.local.caller import FINAL

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from deploy.local.caller import Job

STYLES: Final = {
    "waiting": "dim",
    "running": "yellow",
    "done": "green",
    "failed": "red",
    "undone": "cyan",
    "queued": "dim",
    "undoing": "yellow",
    "active": "bold green",
    "cancelled": "cyan",
    "stuck": "bold red",
}


class Board:
    """Shows several imports side by side; thread-safe, a context manager."""

    def __init__(self, console: Console, phone_numbers: Sequence[str]) -> None:
        self._console = console
        self._jobs: dict[str, Job | None] = dict.fromkeys(phone_numbers)
        self._said: dict[tuple[str, str], str] = {}
        self._lock = threading.Lock()
        self._live = (
            Live(self._table(), console=console, refresh_per_second=12)
            if console.is_terminal and not console.is_dumb_terminal
            else None
        )

    def show(self, job: Job) -> None:
        """Shows the newest state of one of the imports."""
        with self._lock:
            self._jobs[job["phone_number"]] = job
            if self._live is not None:
                self._live.update(self._table())
            else:
                self._print_changes(job)

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start(refresh=True)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.stop()

    def _table(self) -> Table:
        table = Table(box=None, padding=(0, 3, 0, 2))
        table.add_column("step")
        for phone_number, job in self._jobs.items():
            mode = f" {job['routing_mode']}" if job else ""
            table.add_column(f"{phone_number}{mode}", min_width=24)
        shown = [job for job in self._jobs.values() if job]
        names = [step["name"] for step in shown[0]["steps"]] if shown else []
        for row, name in enumerate(names):
            cells = [_cell(job["steps"][row]) if job else Text() for job in self._jobs.values()]
            table.add_row(name, *cells)
        table.add_row("", *(_status(job) if job else Text() for job in self._jobs.values()))
        return table

    def _print_changes(self, job: Job) -> None:
        number, is_final = job["phone_number"], job["status"] in FINAL
        if not is_final:
            self._say(number, "import", _status(job))
        # Undo goes from the last step to the first.
        for step in reversed(job["steps"]) if job["error"] else job["steps"]:
            if step["state"] != "waiting":
                self._say(number, step["name"], _cell(step))
        if is_final:
            self._say(number, "import", _status(job))

    def _say(self, number: str, what: str, how: Text) -> None:
        if self._said.get((number, what)) == how.plain:
            return
        self._said[number, what] = how.plain
        line = Text.assemble(f"  {number}  {what:<21} ", how)
        self._console.print(line, soft_wrap=True)


def _cell(step: dict[str, Any]) -> Text:
    text = Text(step["state"], style=STYLES.get(step["state"], ""))
    if step["state"] == "done":
        begun, ended = (datetime.fromisoformat(step[key]) for key in ("started_at", "finished_at"))
        text.append(f"  {(ended - begun).total_seconds():.2f} s", style="dim")
    if step["attempts"] > 1:
        text.append(f"  attempt {step['attempts']}", style="yellow")
    if step["error"]:
        text.append(f"  {_code(step['error'])}", style="red")
    return text


def _status(job: Job) -> Text:
    text = Text(job["status"], style=STYLES.get(job["status"], ""))
    if job["error"] and job["status"] != "active":
        text.append(f"  {_code(job['error'])}", style="red")
    return text


def _code(error: object) -> str:
    return str(error["code"] if isinstance(error, dict) else error)
