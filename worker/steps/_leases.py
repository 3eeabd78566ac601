"""Keeps the leases of a living worker alive, all of them with one statement a beat."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import structlog

from worker.db.claims import Claims
from worker.db.engine import DATABASE_ERRORS
from worker.db.records import Claim
from worker.domain.job import Lease

_log = structlog.get_logger()


class Leases:
    """The claims that this process works on; one daemon thread renews them."""

    def __init__(self, claims: Claims, *, lease_seconds: float, heartbeat_seconds: float) -> None:
        self._claims = claims
        self._lease_seconds = lease_seconds
        self._heartbeat_seconds = heartbeat_seconds
        self._held: dict[tuple[UUID, int], Lease] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def hold(self, claim: Claim, *, granted_at: float) -> Iterator[Lease]:
        """Renews the claim's lease until the block ends."""
        key = (claim.job.id, claim.fence)
        lease = Lease(
            seconds=self._lease_seconds, granted_at=granted_at, renew=lambda: self._beat([key])
        )
        with self._lock:
            self._held[key] = lease
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._beat_forever, name="heartbeat", daemon=True
                )
                self._thread.start()
        try:
            yield lease
        finally:
            with self._lock:
                del self._held[key]

    def _beat_forever(self) -> None:
        while True:
            time.sleep(self._heartbeat_seconds)
            with self._lock:
                keys = list(self._held)
            if keys:
                self._beat(keys)

    def _beat(self, keys: list[tuple[UUID, int]]) -> None:
        started = time.monotonic()
        try:
            alive = self._claims.heartbeat(keys, lease_seconds=self._lease_seconds)
        except DATABASE_ERRORS as error:
            # The leases run out if this goes on, and the steps stop before their next call.
            _log.warning("heartbeat failed", error=type(error).__name__)
            return
        with self._lock:
            for key in keys:
                lease = self._held.get(key)
                if lease is None:
                    continue
                if key in alive:
                    lease.extend(seconds=self._lease_seconds, granted_at=started)
                else:
                    lease.revoke()
