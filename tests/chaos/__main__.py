"""``make chaos``: one run, told on the terminal and in a file. Exits 1 unless it passed.

CHAOS=full|minute|short   how much and how long (full)
CHAOS_SEED=7              repeats a run; without it one is drawn, and printed
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import time
from pathlib import Path

from tests.chaos import report
from tests.chaos.plan import SIZES, plan_of
from tests.chaos.run import run


def main() -> int:
    """Runs, tells, and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="make chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    drawn = random.SystemRandom().randrange(10_000)
    parser.add_argument("--seed", type=int, default=os.environ.get("CHAOS_SEED") or drawn)
    parser.add_argument("--size", choices=SIZES, default=os.environ.get("CHAOS") or "full")
    parser.add_argument("--out", type=Path, default=Path(".trunkline"), help="where figures go")
    options = parser.parse_args()
    if options.size not in SIZES:
        parser.error(f"CHAOS is {options.size!r}; it can be {', '.join(SIZES)}")
    name = f"chaos-{options.size}-{options.seed}"
    begun = time.monotonic()

    def say(what: str) -> None:
        sys.stdout.write(f"{time.monotonic() - begun:6.0f} s  {what}\n")
        sys.stdout.flush()

    say(f"{name}: CHAOS={options.size} CHAOS_SEED={options.seed} repeats it")
    logs = options.out / f"{name}-logs"
    shutil.rmtree(logs, ignore_errors=True)  # of an earlier run
    found = run(plan_of(options.seed, SIZES[options.size]), say=say, keep=logs)
    figures = report.figures(found)
    options.out.mkdir(exist_ok=True)
    path = options.out / f"{name}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n")
    sys.stdout.write(report.told(figures))
    sys.stdout.write(f"figures: {path}\n")
    if logs.exists():
        sys.stdout.write(f"logs: {logs}\n")
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
