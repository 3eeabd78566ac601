"""What a worker's connection does when Redis goes away and comes back."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from deploy.local.redis import EmbeddedRedis
from worker.broker import Amqp


def _connect(server: EmbeddedRedis, **options: Any) -> Any:
    """A connection such as a worker's consumer has; kombu is untyped."""
    return Amqp.Connection(server.url, transport_options=options)  # type: ignore[no-untyped-call]


def test_a_consumer_is_back_within_seconds_of_redis(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        server.kill()
        connection = _connect(server, max_retries=0)
        waiting = threading.Thread(target=connection.ensure_connection, kwargs={"timeout": 60})
        waiting.start()
        # By now kombu itself would wait for ten seconds more.
        time.sleep(7)
        assert waiting.is_alive()
        server.start()
        back = time.monotonic()
        waiting.join(timeout=30)
        assert time.monotonic() - back < 4
        connection.close()


def test_what_is_acknowledged_on_a_lost_connection_fails_as_connections_do(tmp_path: Path) -> None:
    with EmbeddedRedis(tmp_path) as server:
        connection = _connect(server)
        queue = connection.SimpleQueue("imports")
        queue.put("go")
        message = queue.get(timeout=5)
        errors = (*connection.connection_errors, *connection.channel_errors)
        # What Celery does with the connection of a consumer that lost it, while a task still runs;
        # in most kills of Redis it leaves the channel without its pool.
        server.kill()
        connection.collect()
        message.channel._disconnect_pools()
        with pytest.raises(errors):
            message.ack()
