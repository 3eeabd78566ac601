"""A piece of network between a worker and Redis that can fail without either side noticing."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import Self

from deploy.local.waiting import LOOPBACK

_CHUNK = 65536


class Wire:
    """Carries connections to a port of this machine; a context manager.

    `deafen` lets what the server says be lost on every connection that waits for work (BRPOP), now
    and later, while all others go on: to both ends the connections look healthy.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._deaf = False
        self._ends: list[socket.socket] = []
        self._listener = socket.create_server((LOOPBACK, 0))

    @property
    def url(self) -> str:
        """The broker's URL by this way."""
        return f"redis://{LOOPBACK}:{self._listener.getsockname()[1]}/0"

    def deafen(self) -> None:
        """From now on nobody hears of work."""
        self._deaf = True

    def mend(self) -> None:
        """Connections made from now on work; those that were deaf stay so."""
        self._deaf = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="wire", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for end in (self._listener, *self._ends):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection((LOOPBACK, self._port), timeout=3)
        except OSError:
            client.close()
            return
        server.settimeout(None)
        self._ends += (client, server)
        waits = threading.Event()
        for source, sink, hears in ((client, server, False), (server, client, True)):
            threading.Thread(
                target=self._carry, args=(source, sink, waits), kwargs={"hears": hears}, daemon=True
            ).start()

    def _carry(
        self, source: socket.socket, sink: socket.socket, waits: threading.Event, *, hears: bool
    ) -> None:
        deaf = False
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                if not hears and b"BRPOP" in data:
                    waits.set()
                deaf = deaf or (hears and self._deaf and waits.is_set())
                if not deaf:
                    sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)
