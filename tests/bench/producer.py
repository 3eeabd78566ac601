"""Submits jobs to one engine, one after the other, and prints how long each took: a program.

`producer NAME prepare` makes the engine's tables; `producer NAME COUNT [GAP_SECONDS]` submits.
"""

from __future__ import annotations

import json
import sys
import time

from uuid_utils.compat import uuid7

from tests.bench.engines import ENGINES


def main(name: str, task: str, gap: str = "0") -> None:
    module = {engine.name: engine for engine in ENGINES}[name].load()
    if task == "prepare":
        module.prepare()
        return
    took = []
    with module.submitter() as submit:
        for _ in range(int(task)):
            started = time.perf_counter()
            submit(uuid7())
            took.append((time.perf_counter() - started) * 1000)
            time.sleep(float(gap))
    sys.stdout.write(json.dumps(took) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
