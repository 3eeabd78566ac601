"""The command line of every part that is our own code, and how to see that it is up."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from deploy.local.processes import ManagedProcess
from deploy.local.service import Service, worker_answers, worker_node
from deploy.local.waiting import http_status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

HTTP_OK: Final = 200
START_SECONDS: Final = 40.0
#: What Flower lists of a task: with the import's id among it, and an error's code.
_COLUMNS: Final = "name,args,state,exception,uuid,runtime,received"
#: Where Celery's object and its tasks are.
APP: Final = "worker.celery_app"
_CELERY: Final = ("celery", "-A", APP)


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What all services of one stack share."""

    environment: Mapping[str, str]
    run_dir: Path
    logs_dir: Path
    broker_url: str


def sandbox(around: Surroundings, url: str, on_ready: Callable[[], None]) -> Service:
    """The loopback vendors."""
    return _service(
        around,
        "sandbox",
        ["deploy.sandbox", *_address(url)],
        ready=lambda: http_status(f"{url}/_sandbox/state") == HTTP_OK,
        on_ready=on_ready,
    )


def api(around: Surroundings, url: str) -> Service:
    """The HTTP API; ready when it reaches its database and broker."""
    factory = ["uvicorn", "api_stub.app:create_app", "--factory"]
    return _service(
        around,
        "api",
        [
            *(*factory, *_address(url), "--no-access-log", "--log-level", "warning"),
            # The other parser has no limit for a request's head; this one's own counts only what
            # comes in pieces, and must be above that of the API.
            *("--http", "h11", "--h11-max-incomplete-event-size", "65536"),
            # A request that waits for its import may wait for a minute; a shutdown does not.
            *("--timeout-graceful-shutdown", "3"),
        ],
        ready=lambda: http_status(f"{url}/readyz") == HTTP_OK,
    )


def worker(
    around: Surroundings,
    name: str,
    concurrency: int,
    *,
    app: str = APP,
    metrics_url: str | None = None,
) -> Service:
    """A Celery worker; ready when it consumes."""
    # Threads: the work waits for vendors, and a prefork child per import would cost gigabytes.
    pool = ["-P", "threads", "--concurrency", str(concurrency)]
    # Gossip and mingle serve fleets; alone they only delay the start.
    quiet = ["--without-gossip", "--without-mingle", "-l", "warning"]
    return _service(
        around,
        name,
        ["celery", "-A", app, "worker", *pool, "-E", "-n", f"{name}@%h", *quiet],
        ready=lambda: worker_answers(around.broker_url, worker_node(name)),
        # By this the database knows which worker asks.
        extra_environment={"PGAPPNAME": name, **_metrics(metrics_url)},
    )


def beat(around: Surroundings, *, metrics_url: str | None = None) -> Service:
    """The clock of the sweep; it answers nobody, so it is ready when it runs."""
    schedule = str(around.run_dir / "beat-schedule")
    return _service(
        around,
        "beat",
        [*_CELERY, "beat", "-l", "warning", "-s", schedule],
        ready=lambda: True,
        extra_environment=_metrics(metrics_url),
    )


def flower(around: Surroundings, url: str, login: str) -> Service:
    """Flower, behind a password; whoever has it may look."""
    parts = urlsplit(url)
    return _service(
        around,
        "flower",
        [
            *(*_CELERY, "flower", f"--address={parts.hostname}", f"--port={parts.port}"),
            f"--tasks_columns={_COLUMNS}",
            # A job is stopped by cancelling it: ending its task would only leave it to the sweep.
            "--read_only",
        ],
        # Any answer will do: without the password it is a 401.
        ready=lambda: http_status(url) is not None,
        # Not on the command line, where every user of the machine can read it.
        extra_environment={"FLOWER_BASIC_AUTH": login},
    )


def _address(url: str) -> tuple[str, ...]:
    parts = urlsplit(url)
    return ("--host", str(parts.hostname), "--port", str(parts.port))


def _metrics(url: str | None) -> dict[str, str]:
    """Where a worker or beat is to answer Prometheus: each needs a port of its own."""
    if url is None:
        return {}
    parts = urlsplit(url)
    return {
        "TRUNKLINE_METRICS_HOST": str(parts.hostname),
        "TRUNKLINE_METRICS_PORT": str(parts.port),
    }


def _service(
    around: Surroundings,
    name: str,
    module: list[str],
    *,
    ready: Callable[[], bool],
    on_ready: Callable[[], None] | None = None,
    extra_environment: Mapping[str, str] | None = None,
) -> Service:
    process = ManagedProcess(
        name,
        [sys.executable, "-m", *module],
        env={**around.environment, **(extra_environment or {})},
        log_file=around.logs_dir / f"{name}.log",
        # Beat and Flower write where they run; that is not to be the caller's directory.
        cwd=around.run_dir,
    )
    return Service(
        process,
        ready=ready,
        timeout_seconds=START_SECONDS,
        advice="read the log above; a setting or a dependency is missing, or the code is broken",
        on_ready=on_ready,
    )
