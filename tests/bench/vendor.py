"""A vendor that answers every call alike, at once or after a while: a process of its own.

It counts the calls, and can hold them all back: while its gate is closed the workers fill up, and
the moment at which it opens is the start of a measurement, whatever an engine needs to start.
It speaks as much of HTTP as the calls of these measurements need, so that it costs them little.

``POST /JOB/STEP`` is a call, ``GET /`` tells what there was, ``PUT /?…`` sets ``delay`` (seconds)
and ``gate`` (open or closed), ``DELETE /`` forgets what there was.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from urllib.parse import parse_qsl, urlsplit

from deploy.local.waiting import LOOPBACK


class Vendor:
    """What the calls have in common."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.is_open = True
        self._held: list[tuple[Connection, bytes]] = []
        self.forget()

    def forget(self) -> None:
        self.calls: Counter[str] = Counter()
        self.in_flight = self.most_in_flight = 0

    def take(self, path: str, connection: Connection) -> None:
        self.calls[path] += 1
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        # About as long as a vendor's shortest answers are.
        number = f"obj-{self.calls.total():08}"
        body = json.dumps({"id": number, "status": "ok", "for": path.rpartition("/")[2]}).encode()
        if self.is_open:
            self._answer(connection, body)
        else:
            self._held.append((connection, body))

    def set(self, *, delay: float | None, gate: str | None) -> None:
        if delay is not None:
            self.delay = delay
        if gate is not None:
            self.is_open = gate == "open"
        if self.is_open:
            held, self._held = self._held, []
            for connection, body in held:
                self._answer(connection, body)

    def told(self) -> dict[str, int]:
        return {
            "calls": self.calls.total(),
            "distinct": len(self.calls),
            "in_flight": self.in_flight,
            "most_in_flight": self.most_in_flight,
        }

    def _answer(self, connection: Connection, body: bytes) -> None:
        if self.delay:
            asyncio.get_running_loop().call_later(self.delay, self._finish, connection, body)
        else:
            self._finish(connection, body)

    def _finish(self, connection: Connection, body: bytes) -> None:
        self.in_flight -= 1
        connection.answer(body)


class Connection(asyncio.Protocol):
    """One caller, who waits for each answer before the next call."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, end, rest = self._received.partition(b"\r\n\r\n")
        if not end or len(rest) < _length(head):
            return
        self._received = b""
        method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        if method == "POST":
            self._vendor.take(target, self)
            return
        if method == "PUT":
            given = dict(parse_qsl(urlsplit(target).query))
            delay = float(given["delay"]) if "delay" in given else None
            self._vendor.set(delay=delay, gate=given.get("gate"))
        elif method == "DELETE":
            self._vendor.forget()
        self.answer(json.dumps(self._vendor.told()).encode())

    def answer(self, body: bytes) -> None:
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        assert self._transport is not None
        self._transport.write(head.encode() + b"\r\n\r\n" + body)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def serve(port: int) -> None:
    vendor = Vendor()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(vendor), LOOPBACK, port, backlog=1024
    )
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
