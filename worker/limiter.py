"""Counts what each API key asks for, in the broker's Redis, so that all processes count together.

A window slides: what was asked for in the last minute counts, not what the clock's minute holds.
While Redis is away, or the broker is another one, each process counts for itself: a key may then
ask for as much of each of them, and nobody is refused, or held up, because Redis does not answer.
"""

from __future__ import annotations

import time
from threading import Lock
from typing import Final

import structlog
from limits import RateLimitItem, RateLimitItemPerMinute
from limits.storage import MemoryStorage, RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from redis import ConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from worker import metrics
from worker.domain.allowances import Allowance, Spent
from worker.settings import Settings

_log = structlog.get_logger()

_SCHEMES: Final = ("redis://", "rediss://")
#: How long a request waits for Redis, which answers within a millisecond or has another trouble.
_PATIENCE_SECONDS: Final = 0.25
#: After a failure Redis is not asked for this long: its trouble must not slow every request down.
_REST_SECONDS: Final = 1.0


class Limiter:
    """What each key has left; one an API process. It connects when it is first asked."""

    def __init__(self, settings: Settings) -> None:
        self._items: dict[Allowance, RateLimitItem | None] = {
            allowance: _item(getattr(settings, f"{allowance}_per_minute"))
            for allowance in Allowance
        }
        self._pool = _pool(settings.broker_url.get_secret_value())
        self._shared = None if self._pool is None else _in_redis(self._pool)
        self._alone: SlidingWindowCounterRateLimiter | None = None
        self._making_alone = Lock()
        self._resting_until = 0.0

    def spend(self, allowance: Allowance, key: str) -> Spent | None:
        """Counts one request of a key; None if the operator has set no limit.

        Safe to repeat: no, each counts.
        """
        item = self._items[allowance]
        if item is None:
            return None
        if self._shared is not None and time.monotonic() >= self._resting_until:
            try:
                return _spend(self._shared, item, allowance, key)
            except (RedisError, OSError) as error:
                self._resting_until = time.monotonic() + _REST_SECONDS
                kind = type(error).__name__
                _log.warning("redis unavailable, limits count per process", error=kind)
        return _spend(self._in_memory(), item, allowance, key)

    def close(self) -> None:
        """Closes the connections to Redis; the next request opens new ones."""
        if self._pool is not None:
            self._pool.disconnect()

    def _in_memory(self) -> SlidingWindowCounterRateLimiter:
        with self._making_alone:
            if self._alone is None:
                # Only now: it starts a thread.
                self._alone = SlidingWindowCounterRateLimiter(MemoryStorage())
            return self._alone


def _pool(url: str) -> ConnectionPool | None:
    if not url.startswith(_SCHEMES):
        return None
    return ConnectionPool.from_url(
        url,
        socket_timeout=_PATIENCE_SECONDS,
        socket_connect_timeout=_PATIENCE_SECONDS,
        # Once more at once: that Redis closed a connection which was idle says nothing.
        retry=Retry(NoBackoff(), 1),
    )


def _in_redis(pool: ConnectionPool) -> SlidingWindowCounterRateLimiter:
    # The pool knows the address; of this one only the scheme counts.
    storage = RedisStorage("redis://", connection_pool=pool, key_prefix="trunkline:limits")
    return SlidingWindowCounterRateLimiter(storage)


def _item(per_minute: int) -> RateLimitItem | None:
    return RateLimitItemPerMinute(per_minute) if per_minute else None


def _spend(
    strategy: SlidingWindowCounterRateLimiter, item: RateLimitItem, allowance: Allowance, key: str
) -> Spent:
    within = strategy.hit(item, allowance, key)
    left = strategy.get_window_stats(item, allowance, key)
    if not within:
        metrics.RATE_LIMITED.labels(allowance).inc()
    return Spent(
        allowance=allowance,
        per_minute=item.amount,
        left=left.remaining if within else 0,
        more_in_seconds=max(0.0, left.reset_time - time.time()),
        exceeded=not within,
    )
