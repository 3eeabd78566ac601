"""A client that costs next to nothing: on few cores the one that measures must not be the load."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlsplit

_LONGEST_SECONDS: Final = 90.0


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a request was answered with, and how long that took."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    seconds: float

    def json(self) -> Any:
        """Returns the body, read."""
        return json.loads(self.body)


class Connection:
    """One connection to one server, kept open; one request at a time."""

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._headers = {"Host": f"{self._host}:{self._port}", **headers}
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        _type: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection; the next request opens another one."""
        if self._writer is not None:
            self._writer.close()
        self._reader = self._writer = None

    async def send(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """Sends a request and waits for its answer."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = {
            **self._headers,
            **headers,
            "Content-Type": "application/json",
            "Content-Length": str(len(content)),
        }
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        request = f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content
        started = time.perf_counter()
        try:
            async with asyncio.timeout(_LONGEST_SECONDS):
                status, found, text = await self._exchange(request)
        except BaseException:
            self.close()
            raise
        return Answer(
            status=status, headers=found, body=text, seconds=time.perf_counter() - started
        )

    async def _exchange(self, request: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._reader is None or self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        self._writer.write(request)
        await self._writer.drain()
        first, *rest = (await self._reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        pairs = (line.split(": ", 1) for line in rest if line)
        headers = {name.lower(): value for name, value in pairs}
        length = int(headers.get("content-length", "0"))
        body = await self._reader.readexactly(length) if length else b""
        if headers.get("connection", "").lower() == "close":
            self.close()
        return int(first.split(" ")[1]), headers, body
