"""Connections to the broker that outlive its restarts better than the libraries' own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import amqp.exceptions
import celery.app.amqp
import kombu.connection
import kombu.exceptions
import kombu.transport.pyamqp
import kombu.transport.redis
import redis.exceptions


class _Channel(kombu.transport.redis.Channel):
    """Says that a closed connection is closed, and keeps its client.

    A task that ends after its connection was lost acknowledges on the old channel. There kombu 5.7
    stumbles over an attribute of nothing, which Celery takes for a bug and ends the worker; seen at
    most kills of Redis. An error of the connection it knows how to ignore.

    For each publish and each acknowledgement kombu makes a client anew, which costs redis-py more
    than the command: a message took 0.9 ms of CPU in all and takes 0.5.
    """

    _kept: Any = None

    def _create_client(self, asynchronous: bool = False) -> Any:  # noqa: ANN401, FBT001, FBT002 -- as in kombu
        if asynchronous:  # the consumer's own, which kombu keeps
            return super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        kept = self._kept
        # A channel that was closed makes itself another pool.
        if kept is None or kept.connection_pool is not self.pool:
            self._kept = kept = super()._create_client(asynchronous)  # type: ignore[no-untyped-call]
        return kept

    def _connparams(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 -- as in kombu
        if self.connection is None or self.connection.client is None:
            raise redis.exceptions.ConnectionError("this connection has been closed")
        return super()._connparams(*args, **options)  # type: ignore[no-untyped-call]

    def lengths(self, queues: Sequence[str]) -> list[int]:
        """Returns how many messages wait in each queue, in one round trip."""
        with self.conn_or_acquire() as client:
            pipe = client.pipeline(transaction=False)
            for queue in queues:
                pipe.llen(queue)
            found: list[int] = pipe.execute()
            return found


class _RedisTransport(kombu.transport.redis.Transport):
    Channel = _Channel


class _RabbitTransport(kombu.transport.pyamqp.Transport):
    """RabbitMQ with quorum queues, without Celery's delayed delivery for them.

    Celery turns that on by itself where it sees an "amqp" with a quorum queue. It would add 28
    queues for the sake of countdowns; ours are of two seconds at most, which may as well pass in a
    worker. It serves topic exchanges alone, where a countdown of less than a second is an error
    (Celery 5.7: celery/app/base.py; kombu/transport/native_delayed_delivery.py).
    """

    driver_type = "rabbitmq"

    def qos_semantics_matches_spec(self, connection: Any) -> bool:  # noqa: ANN401, ARG002 -- as in kombu
        """Says that each consumer has a limit of its own; quorum queues know no other.

        https://www.rabbitmq.com/docs/quorum-queues#global-qos
        """
        return True


_TRANSPORTS = {
    kombu.transport.redis.Transport: _RedisTransport,
    kombu.transport.pyamqp.Transport: _RabbitTransport,
}


class _Connection(kombu.connection.Connection):
    """Comes back soon, where kombu would wait two seconds longer each time, up to thirty."""

    def get_transport_cls(self) -> Any:  # noqa: ANN401 -- as in kombu
        found = super().get_transport_cls()  # type: ignore[no-untyped-call]
        return _TRANSPORTS.get(found, found)

    def ensure_connection(self, *args: Any, **policy: Any) -> Any:  # noqa: ANN401 -- as in kombu
        soon = {"interval_start": 0.2, "interval_step": 0.4, "interval_max": 2.0}
        return super().ensure_connection(*args, **{**soon, **policy})  # type: ignore[no-untyped-call]


class Amqp(celery.app.amqp.AMQP):  # type: ignore[misc] # celery is untyped
    """How Celery gets these."""

    Connection = _Connection


def lengths_of(connection: Any, queues: Sequence[str]) -> dict[str, int]:  # noqa: ANN401 -- kombu is untyped
    """Returns how many messages wait for a worker in each queue; none in one that does not exist.

    Raises:
        kombu.exceptions.OperationalError, redis.exceptions.RedisError, amqp.exceptions.AMQPError,
        OSError: the broker cannot be reached.
    """
    channel = connection.default_channel
    if isinstance(channel, _Channel):
        return dict(zip(queues, channel.lengths(queues), strict=True))
    return {queue: _length_of(connection, queue) for queue in queues}


def _length_of(connection: Any, queue: str) -> int:  # noqa: ANN401 -- kombu is untyped
    try:
        declared = connection.default_channel.queue_declare(queue, passive=True)
    except kombu.exceptions.ChannelError:
        return 0
    except amqp.exceptions.NotFound:
        # RabbitMQ closes the channel that asked for it.
        connection.revive(connection.channel())
        return 0
    length: int = declared.message_count
    return length
