"""What a scrape of the API shows beside its own counts: what the database and the broker hold.

It is the same in every process of the API, so queries take the greatest, or any.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from threading import Lock
from typing import Final

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from worker.celery_app import BATCH_QUEUE, QUEUE, SHARED_QUEUES, queue_lengths
from worker.db.engine import DATABASE_ERRORS
from worker.db.figures import HELD, Figures, FiguresReader
from worker.domain.job import JobKind, JobState
from worker.domain.values import ProviderName
from worker.settings import Settings

#: Several Prometheus servers, and whoever else asks within this time, are shown the same.
_FRESH_SECONDS: Final = 5.0
_OPEN: Final = (*(JobState.QUEUED, JobState.RUNNING, JobState.UNDOING, JobState.STUCK), HELD)


@dataclass(frozen=True, kw_only=True)
class _Look:
    """What was found at one moment; None of what could not be reached."""

    figures: Figures | None
    queues: Mapping[str, int] | None


class FiguresCollector(Collector):
    """Asks database and broker when it is scraped; neither being away makes a scrape fail."""

    def __init__(self, settings: Settings) -> None:
        self._reader = FiguresReader(settings)
        self._lock = Lock()
        self._look: _Look | None = None
        self._fresh_until = 0.0

    def describe(self) -> Iterable[Metric]:
        """Names nothing beforehand: registering must not ask."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Returns what there is; without the database nothing of what it would tell."""
        look = self._latest()
        yield _gauge(
            "trunkline_database_up",
            "Whether the API reaches the database",
            look.figures is not None,
        )
        yield _gauge(
            "trunkline_broker_up", "Whether the API reaches the broker", look.queues is not None
        )
        if look.queues is not None:
            yield _by_word(
                "trunkline_queue_messages",
                "Messages that wait in a queue of the broker",
                "queue",
                look.queues,
            )
        if look.figures is not None:
            yield from _of_database(look.figures)

    def _latest(self) -> _Look:
        # Inside the lock: of those who ask at the same time one looks, and the others wait for it.
        with self._lock:
            if self._look is None or time.monotonic() >= self._fresh_until:
                self._look = _Look(figures=self._figures(), queues=_queues())
                self._fresh_until = time.monotonic() + _FRESH_SECONDS
            return self._look

    def _figures(self) -> Figures | None:
        try:
            return self._reader.read()
        except DATABASE_ERRORS:
            return None


def _queues() -> Mapping[str, int] | None:
    try:
        return queue_lengths(SHARED_QUEUES)
    except OSError:
        return None


def _of_database(found: Figures) -> Iterable[Metric]:
    jobs = GaugeMetricFamily(
        "trunkline_jobs",
        "Jobs that have not ended, by state; held ones wait for a place in their organisation",
        labels=["kind", "provider", "state"],
    )
    # A series that comes and goes with its first job would have no zero to rise from.
    none = dict.fromkeys(product(map(str, JobKind), map(str, ProviderName), map(str, _OPEN)), 0.0)
    for words, number in {**none, **found.jobs}.items():
        jobs.add_metric(words, number)
    yield jobs
    age = GaugeMetricFamily(
        "trunkline_queue_age_seconds",
        "For how long the oldest job that could begin has waited for a worker",
        labels=["queue", "provider"],
    )
    young = dict.fromkeys(product((QUEUE, BATCH_QUEUE), map(str, ProviderName)), 0.0)
    for place, seconds in {**young, **found.queue_age_seconds}.items():
        age.add_metric(place, seconds)
    yield age
    no_provider = dict.fromkeys(map(str, ProviderName), 0.0)
    yield _by_word(
        "trunkline_accounts_limited",
        "Accounts whose provider has asked to slow down",
        "provider",
        {**no_provider, **found.accounts_limited},
    )
    yield _by_word(
        "trunkline_numbers_drifted",
        "Active numbers last found changed by a check",
        "provider",
        {**no_provider, **found.numbers_drifted},
    )
    yield _gauge(
        "trunkline_notifications_pending",
        "Notifications that are not delivered and not given up",
        found.notifications_pending,
    )
    yield _gauge(
        "trunkline_notifications_late_seconds",
        "For how long the oldest due notification has been due",
        found.notifications_late_seconds,
    )
    yield _gauge(
        "trunkline_sweep_age_seconds",
        "How long ago the last sweep ran; rises without beat or workers",
        found.sweep_age_seconds,
    )


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(name, what, value=float(value))


def _by_word(name: str, what: str, label: str, values: Mapping[str, float]) -> Metric:
    family = GaugeMetricFamily(name, what, labels=[label])
    for word, value in values.items():
        family.add_metric([word], value)
    return family


class Scrapes:
    """Answers Prometheus for one process of the API."""

    def __init__(self, settings: Settings) -> None:
        # A registry of its own: a process may hold several services, as tests do.
        self._figures = CollectorRegistry()
        self._figures.register(FiguresCollector(settings))

    def text(self) -> bytes:
        """Returns this process's counts and durations, and the figures of all of them."""
        return generate_latest() + generate_latest(self._figures)
