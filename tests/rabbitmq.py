"""A real RabbitMQ in a directory of its own, on loopback, found by nobody else."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path
from typing import Final, Self

import amqp
import pytest

from deploy.local.processes import ManagedProcess
from deploy.local.waiting import LOOPBACK, free_port, is_free, wait_until
from tests.programs import program

START_SECONDS: Final = 90.0
_STOP_SECONDS: Final = 20.0
#: Debian's own commands change to another user; these are what they then run.
_PROGRAMS: Final = "/usr/lib/rabbitmq/bin"


class RabbitMQ:
    """One node; its URL stays the same over stop, kill and start. A context manager."""

    def __init__(self, directory: Path) -> None:
        server = program("rabbitmq-server")
        self.port = free_port()
        self._directory = directory
        epmd, distribution = free_port(), free_port()
        environment = {
            "PATH": f"{_PROGRAMS}:{os.environ.get('PATH', os.defpath)}:/usr/sbin",
            # Where Erlang keeps its cookie.
            "HOME": str(directory),
            "LANG": "C.UTF-8",
            "ERL_EPMD_PORT": str(epmd),
            "ERL_EPMD_ADDRESS": LOOPBACK,
            "RABBITMQ_NODENAME": f"trunkline-{secrets.token_hex(4)}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": LOOPBACK,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(directory / "data"),
            "RABBITMQ_LOGS": "-",
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(directory / "rabbitmq"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "enabled_plugins"),
            # One core is what a test may have of the machine.
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+S 1:1 +sbwt none",
        }
        (directory / "enabled_plugins").write_text("[].")
        own = Path(_PROGRAMS, "rabbitmq-server")
        # The registry of node names, which would else be started once for the whole machine.
        self._epmd = ManagedProcess(
            "epmd",
            [program("epmd"), "-port", str(epmd), "-address", LOOPBACK],
            env=environment,
            log_file=directory / "epmd.log",
        )
        self._server = ManagedProcess(
            "rabbitmq",
            [str(own) if own.exists() else server],
            env=environment,
            log_file=directory / "rabbitmq.log",
            cwd=directory,
            stop_signal=signal.SIGTERM,
        )

    @property
    def url(self) -> str:
        """The broker URL; the login is RabbitMQ's own, for loopback alone."""
        return f"amqp://guest:guest@{LOOPBACK}:{self.port}//"

    def start(self) -> None:
        self._epmd.start()
        self._server.start()
        if not wait_until(self.answers, START_SECONDS):
            pytest.fail(f"RabbitMQ did not come up: {self._server.log_tail()}")

    def kill(self) -> None:
        self._server.kill()
        # Its port is taken until the system has buried it.
        wait_until(lambda: is_free(self.port), _STOP_SECONDS)

    def stop(self) -> None:
        self._server.terminate(_STOP_SECONDS)
        wait_until(lambda: is_free(self.port), _STOP_SECONDS)

    def answers(self) -> bool:
        try:
            with self.connect():
                return True
        except (OSError, amqp.exceptions.AMQPError):
            return False

    def connect(self) -> amqp.Connection:
        return amqp.Connection(f"{LOOPBACK}:{self.port}", connect_timeout=2, read_timeout=5)

    def waiting(self, queue: str) -> int:
        """How many messages of a queue no worker has."""
        with self.connect() as connection:
            declared = connection.channel().queue_declare(queue, passive=True)
            return int(declared.message_count)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.kill()
        self._epmd.kill()
