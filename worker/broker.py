"""Connections to the broker that outlive its restarts better than the libraries' own."""

from __future__ import annotations

from typing import Any

import celery.app.amqp
import kombu.connection
import kombu.transport.pyamqp
import kombu.transport.redis
import redis.exceptions


class _Channel(kombu.transport.redis.Channel):
    """Says that a closed connection is closed.

    A task that ends after its connection was lost acknowledges on the old channel. There kombu 5.7
    stumbles over an attribute of nothing, which Celery takes for a bug and ends the worker; seen at
    one in three kills of Redis. An error of the connection it knows how to ignore.
    """

    def _connparams(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401 -- as in kombu
        if self.connection is None or self.connection.client is None:
            raise redis.exceptions.ConnectionError("this connection has been closed")
        return super()._connparams(*args, **options)  # type: ignore[no-untyped-call]


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
