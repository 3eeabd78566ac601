"""A server that stands for our API: it answers what a test says and keeps what it was asked."""

from __future__ import annotations

import asyncio
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import Iterator

PUBLIC = "https://voice.trunkline.example"
FOREIGN = "https://old.example.com/voice?token=x"


@dataclass(frozen=True)
class Asked:
    """One request, with the public URL that it was sent to."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(self.url.partition("?")[2], keep_blank_values=True))


@dataclass
class Api:
    base_url: str = ""
    asked: list[Asked] = field(default_factory=list)
    _answers: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)

    def answers(
        self, path: str, *bodies: str, status: int = 200, content_type: str = "text/xml"
    ) -> str:
        """Sets what a path answers, the last of several for good; gives its public URL."""
        self._answers[path] = [(status, content_type, body) for body in bodies]
        return f"{PUBLIC}{path}"

    def at(self, path: str) -> list[Asked]:
        return [item for item in self.asked if item.url.partition("?")[0] == f"{PUBLIC}{path}"]

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.asked.append(
            Asked(
                method=request.method,
                url=f"https://{request.host}{request.path_qs}",
                headers={name.lower(): value for name, value in request.headers.items()},
                body=await request.read(),
            )
        )
        queue = self._answers.get(request.path)
        if queue is None:
            return web.Response(status=404, text="not found")
        status, content_type, body = queue.pop(0) if len(queue) > 1 else queue[0]
        return web.Response(status=status, text=body, content_type=content_type)


@contextmanager
def serving() -> Iterator[Api]:
    api = Api()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()
    started = threading.Event()

    async def serve() -> None:
        runner = web.ServerRunner(web.Server(api.handle, access_log=None))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        api.base_url = f"http://{host}:{port}"
        started.set()
        await stop.wait()
        await runner.cleanup()

    def run() -> None:
        loop.run_until_complete(serve())
        loop.close()

    thread = threading.Thread(target=run, name="api", daemon=True)
    thread.start()
    assert started.wait(5)
    yield api
    loop.call_soon_threadsafe(stop.set)
    thread.join()


def response(*verbs: str) -> str:
    return f'<?xml version="1.0" encoding="UTF-8"?><Response>{"".join(verbs)}</Response>'
