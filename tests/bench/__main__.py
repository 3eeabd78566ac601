"""Measures Trunkline beside other engines, and real imports: ``make bench``.

The first table is the same job on every engine (`engine_table`), the second one is real imports
against the sandbox (`import_table`), the third one Trunkline beside much that is queued and much
that has ended (`scale_table`). What got worse since the last accepted run by more than 15 %
is named, as ratios to the floor of the same run: times of two machines, or of two days, say
nothing. A short run (``BENCH=quick``) is held against what is no matter of time alone: statements,
transactions, messages, calls. Ends with 1 if anything is worse.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from tests.bench import engine_table, import_table, report, scale_table
from tests.bench.figures import not_measured, worse
from tests.bench.site import opened

ACCEPTED: Final = Path(__file__).parent / "accepted.json"


def main() -> int:
    """Prints the tables, or JSON with --json."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--json", type=Path, help="writes all figures to this file, too")
    parser.add_argument("--accept", action="store_true", help="the next run is held against this")
    parser.add_argument("--only", choices=("engines", "imports", "scale"), help="one table")
    options = parser.parse_args()
    quick = os.environ.get("BENCH") == "quick"
    measured = report.Found()
    wanted = {options.only} if options.only else {"engines", "imports", "scale"}
    if wanted & {"engines", "scale"}:
        with opened() as site:
            if "engines" in wanted:
                size = engine_table.QUICK if quick else engine_table.FULL
                measured.engines = engine_table.measure(site, size)
            if "scale" in wanted:
                measured.scale = scale_table.measure(
                    site, scale_table.QUICK if quick else scale_table.FULL
                )
    if "imports" in wanted:
        measured.imports = import_table.measure(import_table.QUICK if quick else import_table.FULL)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(measured), indent=2) + "\n")
    sys.stdout.write(report.as_text(measured) + "\n\n")
    found = report.compared(measured)
    is_whole = options.only is None and not quick
    if options.accept:
        return accept(found, ACCEPTED, is_whole=is_whole)
    return judge(report.exact(found) if quick else found, ACCEPTED, is_whole=is_whole)


def accept(found: Mapping[str, float], file: Path, *, is_whole: bool) -> int:
    """Writes down what the next runs are held against; returns the exit code."""
    if not is_whole:
        sys.stderr.write("Only a whole run can be accepted: without BENCH=quick and --only.\n")
        return 2
    file.write_text(json.dumps(dict(sorted(found.items())), indent=2) + "\n")
    sys.stdout.write(f"Accepted: {len(found)} figures, in {file.name}.\n")
    return 0


def judge(found: Mapping[str, float], file: Path, *, is_whole: bool) -> int:
    """Names what got worse; returns the exit code."""
    if not file.exists():
        sys.stdout.write(
            "Nothing was accepted yet (make bench ACCEPT=1), so nothing is compared.\n"
        )
        return 0
    accepted: dict[str, float] = json.loads(file.read_text())
    bad = worse(found, accepted)
    for one in bad:
        sys.stdout.write(f"worse: {one}\n")
    lost = not_measured(found, accepted) if is_whole else []
    for name in lost:
        sys.stdout.write(f"accepted once, but not measured now: {name}\n")
    if not bad and not lost:
        sys.stdout.write("Nothing got worse by more than 15 % since the last accepted run.\n")
    return 1 if bad or lost else 0


if __name__ == "__main__":
    sys.exit(main())
