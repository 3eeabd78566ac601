"""Submits imports over HTTP and prints how long each took, in milliseconds: a program.

`http_submits URL KEY COUNT RATE`: at a fixed rate a second, a latency counts from when its request
was due, not from when there was time to send it; at rate 0, one after the other on each connection.
"""

from __future__ import annotations

import gc
import json
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3

from tests.bench.engines.trunkline import requests

_CONNECTIONS = 8
_LATE_CONNECTIONS = 64


def main(url: str, key: str, count: str, rate: str) -> None:
    connections = _LATE_CONNECTIONS if float(rate) else _CONNECTIONS
    parts = urllib3.util.parse_url(url)
    pool = urllib3.HTTPConnectionPool(str(parts.host), parts.port, maxsize=connections, timeout=30)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    found = json.loads(pool.request("GET", "/v1/credentials", headers=headers).data)
    following, lock = requests(found["items"][0]["id"]), threading.Lock()

    def submit(due: float | None) -> float:
        with lock:
            body: dict[str, Any] = next(following)
        since = time.perf_counter() if due is None else due
        answer = pool.request("POST", "/v1/imports", body=json.dumps(body), headers=headers)
        if answer.status != 202:
            raise SystemExit(f"a submit was answered {answer.status}: {answer.data.decode()}")
        return (time.perf_counter() - since) * 1000

    with ThreadPoolExecutor(connections) as threads:
        list(threads.map(submit, [None] * connections))  # these pay for the connections
        # What this program has imported is large: going through it takes a tenth of a second, which
        # would count as the API's.
        gc.freeze()
        started = time.perf_counter()
        running = []
        for number in range(int(count)):
            due = started + number / float(rate) if float(rate) else None
            if due is not None:
                time.sleep(max(0.0, due - time.perf_counter()))
            running.append(threads.submit(submit, due))
        took = [one.result() for one in running]
        seconds = time.perf_counter() - started
    sys.stdout.write(json.dumps({"took": took, "seconds": seconds}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
