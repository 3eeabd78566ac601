"""What was measured, as text, as JSON, and as the ratios that the next run is held against."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.bench.engine_table import SUBMIT_RATE, EngineTable
from tests.bench.engines import ENGINES
from tests.bench.figures import Spread, ratios
from tests.bench.import_table import SLOW_MS, ImportTable
from tests.bench.scale_table import BASE, ScaleTable

FLOOR: Final = ENGINES[0].name
OWN: Final = "trunkline"
#: Ratios that say something of Trunkline. What the floor has none of (messages, a broker) is told
#: as it is: it counts, and takes no time.
_COMPARED: Final = {
    "jobs_per_second",
    "cpu_ms",
    "resident_mb",
    "proportional_mb",
    "submits_per_second",
    "submit_p50_ms",
    "alone_p50_ms",
    "statements",
    "transactions",
}
_COUNTED: Final = {"messages", "broker_commands"}
#: What a short run tells as well as a long one: it is no matter of time.
_EXACT: Final = {"statements", "transactions", "messages", "calls", "path"}
#: Figure → its heading, its digits; of the first two tables of text.
_BACKLOG: Final = {
    "jobs_per_second": ("jobs/s", 1),
    "cpu_ms": ("CPU ms/job", 1),
    "cpu_worker_ms": ("worker", 1),
    "cpu_broker_ms": ("broker", 2),
    "cpu_database_ms": ("database", 1),
    "most_in_flight": ("in flight", 0),
    "resident_mb": ("RSS MB", 0),
    "proportional_mb": ("PSS MB", 0),
    "submits_per_second": ("submits/s", 0),
    "submit_p50_ms": ("p50 ms", 2),
    "submit_p99_ms": ("p99 ms", 2),
    "repeated_calls": ("repeated", 0),
}
_ALONE: Final = {
    "alone_p50_ms": ("alone p50 ms", 1),
    "alone_p90_ms": ("p90 ms", 1),
    "statements": ("statements", 1),
    "transactions": ("transactions", 1),
    "messages": ("messages", 1),
    "broker_commands": ("Redis commands", 1),
    "idle_cpu_ms": ("idle: CPU ms/s", 1),
    "idle_worker_ms": ("worker", 1),
    "idle_broker_ms": ("broker", 1),
    "idle_database_ms": ("database", 1),
    "idle_statements": ("statements/s", 1),
}
#: Of these the multiple of the floor is told, too.
_TOLD_AS_RATIO: Final = {"jobs_per_second", "cpu_ms", "alone_p50_ms"}
_TITLES: Final = {engine.name: engine.title for engine in ENGINES}


#: What a job costs beside a queue or a history, in text.
_SCALE: Final = {
    name: _BACKLOG[name]
    for name in (
        "jobs_per_second",
        "cpu_ms",
        "cpu_worker_ms",
        "cpu_broker_ms",
        "cpu_database_ms",
        "repeated_calls",
    )
}


@dataclass(kw_only=True)
class Found:
    """All tables of one run; those that were not asked for are empty."""

    engines: EngineTable = field(default_factory=EngineTable)
    imports: ImportTable | None = None
    scale: ScaleTable | None = None


def compared(measured: Found) -> dict[str, float]:
    """Returns what the next run is held against: ratios and counts, never a time."""
    found: dict[str, float] = {}
    for name, of in measured.engines.found.items():
        if FLOOR not in of or OWN not in of:
            continue
        for figure, ratio in ratios(of[OWN], of[FLOOR]).items():
            if figure in _COMPARED:
                found[f"{name}/{figure}"] = ratio
        for figure in _COUNTED & of[OWN].keys():
            found[f"{name}/{figure}"] = round(of[OWN][figure].median, 2)
    for name, row in (measured.imports.rows if measured.imports else {}).items():
        found[f"{name}/calls"] = row.calls
        found[f"{name}/path"] = row.path
        found[f"{name}/times_path"] = round(row.ratio, 3)
    for name, times in (measured.scale.times_base() if measured.scale else {}).items():
        found[f"{name}/times_base"] = times
    return found


def exact(figures: Mapping[str, float]) -> dict[str, float]:
    """Returns those of the compared figures that a short run tells as well as a long one."""
    return {name: one for name, one in figures.items() if name.rpartition("/")[2] in _EXACT}


def as_json(measured: Found) -> dict[str, Any]:
    """Returns all that was measured."""
    engines, imports, scale = measured.engines, measured.imports, measured.scale
    told: dict[str, Any] = {
        "engines": {
            name: {
                engine: {figure: spread.to_json() for figure, spread in figures.items()}
                for engine, figures in of.items()
            }
            for name, of in engines.found.items()
        },
        "absent": engines.absent,
        "compared": compared(measured),
    }
    if imports is not None:
        told["imports"] = {
            name: {
                "calls": row.calls,
                "path": row.path,
                "times_path": round(row.ratio, 3),
                "path_calls": list(row.chain),
                "0 ms": {figure: spread.to_json() for figure, spread in row.fast.items()},
                f"{SLOW_MS} ms": {figure: one.to_json() for figure, one in row.slow.items()},
            }
            for name, row in imports.rows.items()
        }
        told["worker_memory_mb"] = {name: round(mb, 1) for name, mb in imports.memory_mb.items()}
    if scale is not None:
        told["scale"] = {
            "costs": {
                name: {figure: spread.to_json() for figure, spread in figures.items()}
                for name, figures in scale.costs.items()
            },
            "reads": {
                beside: {
                    name: {"p50_ms": round(p50, 2), "p99_ms": round(p99, 2)}
                    for name, (p50, p99) in of.items()
                }
                for beside, of in scale.reads.items()
            },
        }
    return told


def as_text(measured: Found) -> str:
    """Returns the tables."""
    lines = list(_engine_lines(measured.engines))
    if measured.imports is not None:
        lines += _import_lines(measured.imports)
    if measured.scale is not None:
        lines += _scale_lines(measured.scale)
    return "\n".join(lines)


def _engine_lines(table: EngineTable) -> Iterator[str]:
    for name, of in table.found.items():
        columns = _ALONE if name == "alone" else _BACKLOG
        yield ""
        yield (
            "One job at a time on an idle stack, vendor at 0 ms"
            if name == "alone"
            else f"A backlog, vendor at {name}: median (least - most; × floor)"
        )
        yield from _table(of, columns)
    own = table.found.get("alone", {}).get(OWN, {})
    if "http_submit_p99_ms" in own:
        yield ""
        yield (
            "POST /v1/imports with no worker running: "
            f"{own['http_submits_per_second'].median:.0f}/s on 8 connections; at {SUBMIT_RATE}/s "
            f"p50 {own['http_submit_p50_ms'].median:.1f} ms, "
            f"p99 {own['http_submit_p99_ms'].median:.1f} ms"
        )
    yield ""
    for title, why in table.absent.items():
        yield f"not measured: {title}: {why}"


def _table(
    of: Mapping[str, Mapping[str, Spread]],
    columns: Mapping[str, tuple[str, int]],
    *,
    base: str = FLOOR,
) -> Iterator[str]:
    rows = [["", *(heading for heading, _ in columns.values())]]
    for engine, figures in of.items():
        multiples = ratios(figures, of.get(base, {}))
        row = [_TITLES.get(engine, engine)]
        for figure, (_, digits) in columns.items():
            multiple = multiples.get(figure) if figure in _TOLD_AS_RATIO else None
            row.append(_cell(figures.get(figure), digits, multiple))
        rows.append(row)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for title, *cells in rows:
        told = (cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True))
        yield "  ".join([title.ljust(widths[0]), *told]).rstrip()


def _cell(spread: Spread | None, digits: int, multiple: float | None) -> str:
    if spread is None:
        return "-"
    told = f"{spread.median:.{digits}f}"
    if multiple is None:
        return told
    span = f"{spread.least:.{digits}f} - {spread.most:.{digits}f}; " if spread.runs > 1 else ""
    return f"{told} ({span}×{multiple:.2f})"


def _import_lines(table: ImportTable) -> Iterator[str]:
    yield ""
    yield (
        "Real imports, one at a time, SDKs against the sandbox: outside calls, those that wait for "
        "each other, submit to active"
    )
    yield (
        f"{'':<20}{'calls':>6}{'path':>6}{'at 0 ms':>20}{'in steps':>10}{'at sandbox':>12}"
        f"{f'at {SLOW_MS} ms':>20}{'× path':>8}"
    )
    for name, row in table.rows.items():
        yield (
            f"{name:<20}{row.calls:>6}{row.path:>6}{_span(row.fast['total']):>20}"
            f"{row.fast['in_steps'].median:>10.1f}{row.fast['at_sandbox'].median:>12.1f}"
            f"{_span(row.slow['total']):>20}{row.ratio:>8.3f}"
        )
    yield ""
    memory = ", ".join(f"{name} {mb:.0f}" for name, mb in table.memory_mb.items())
    yield f"worker memory (MB), ten imports at each provider in turn: {memory}"


def _scale_lines(table: ScaleTable) -> Iterator[str]:
    yield ""
    yield f"What a job costs beside others, vendor at 0 ms: median (least - most; × {BASE})"
    yield from _table(table.costs, _SCALE, base=BASE)
    yield ""
    titles = list(table.reads)
    yield "Reads over HTTP, p50 / p99 ms" + "".join(f"{title:>20}" for title in titles)
    for name in next(iter(table.reads.values()), {}):
        cells = (f"{p50:.1f} / {p99:.1f}" for p50, p99 in (table.reads[t][name] for t in titles))
        yield f"{name:<29}" + "".join(f"{cell:>20}" for cell in cells)


def _span(spread: Spread) -> str:
    return f"{spread.median:.0f} ({spread.least:.0f} - {spread.most:.0f})"
