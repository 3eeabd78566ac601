"""Tells Prometheus what a worker or beat counts: they have no HTTP server of their own.

One process answers for itself at TRUNKLINE_METRICS_PORT; without one nothing listens.
"""

from __future__ import annotations

import threading
from typing import Any, Final

import structlog
from celery import signals
from prometheus_client import Gauge, start_http_server

from worker.settings import Settings, load

_log = structlog.get_logger()

#: How often a port that somebody has is asked for again: during a restart it is the predecessor's.
_AGAIN_SECONDS: Final = 5.0


@signals.worker_ready.connect(weak=False)
def _tell_of_worker(sender: Any, **_: object) -> None:  # noqa: ANN401 -- Celery's consumer
    serve_worker(load(), sender.pool)


def serve_worker(settings: Settings, pool: object) -> None:
    """Tells what a worker with this pool counts, if anybody is to be told."""
    # Not imported for this alone: it is large.
    forks = type(pool).__module__ == "celery.concurrency.prefork"
    if settings.metrics_port is not None and forks:
        # The steps would be counted in the children, where nobody asks.
        _log.warning("no metrics: they need the threads pool", pool="prefork")
        return
    _serve(settings)


@signals.beat_init.connect(weak=False)
def _tell_of_beat(**_: object) -> None:
    settings = load()
    if settings.metrics_port is None:
        return
    sent = Gauge(
        "trunkline_beat_sent_timestamp_seconds",
        "When this beat last handed a message to the broker; the sweep's age tells what came of it",
    )
    signals.after_task_publish.connect(lambda **_: sent.set_to_current_time(), weak=False)
    _serve(settings)


def _serve(settings: Settings) -> None:
    if settings.metrics_port is not None:
        asked = (settings.metrics_host, settings.metrics_port)
        threading.Thread(target=_listen, args=asked, name="metrics", daemon=True).start()


def _listen(host: str, port: int) -> None:
    """Listens, once the port is free; work goes on without."""
    told = False
    while True:
        try:
            start_http_server(port, addr=host)
        except OSError as error:
            if not told:
                _log.warning(
                    "no metrics yet: the address cannot be listened on. Give each worker and beat "
                    "of a machine a TRUNKLINE_METRICS_PORT of its own",
                    host=host,
                    port=port,
                    error=type(error).__name__,
                )
            told = True
            _pause.wait(_AGAIN_SECONDS)
        else:
            _log.info("metrics are served", host=host, port=port)
            return


_pause: Final = threading.Event()
