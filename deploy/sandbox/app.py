"""The server: one handler that tells vendors and control apart, applies faults, keeps the journal.

aiohttp's low-level server is used, without its router, middleware and access log: a bench measures
clients against this process, and an answer costs a fraction of a millisecond this way. aiohttp at
all, because `request.transport.abort()` can cut a connection half-way.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Final

from aiohttp import web

from deploy.sandbox import control
from deploy.sandbox.actions import FAULT_ACTIONS, Exchange
from deploy.sandbox.faults import Faults
from deploy.sandbox.holds import Holds
from deploy.sandbox.journal import ATTEMPT_HEADER, Journal
from deploy.sandbox.phone import Phone
from deploy.sandbox.registry import vendors
from deploy.sandbox.vendor import Incoming

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from deploy.sandbox.vendor import Answer, Vendor

#: A seed of 20,000 numbers is a few megabytes.
MAX_BODY_BYTES: Final = 64 * 1024 * 1024
#: Requests that are still delayed when the server stops are cut off after this.
SHUTDOWN_SECONDS: Final = 0.5


class Sandbox:
    """All vendors with their state, who calls their numbers, the faults, the holds, the journal."""

    def __init__(self) -> None:
        self.holds = Holds()
        self.reset()

    def reset(self) -> None:
        """Forgets everything and cuts every parked request.

        A request that is delayed at this moment goes on against the forgotten state, so that it
        cannot leak into the next test.
        """
        self.holds.close()
        self.holds = Holds()
        self.faults = Faults()
        self.journal = Journal()
        self.vendors: dict[str, Vendor] = {vendor.name: vendor for vendor in vendors()}
        self._mounts: dict[str, Vendor] = {
            mount: vendor for vendor in self.vendors.values() for mount in vendor.mounts
        }
        self.phone = Phone(self.vendors.values())

    def seed(self, document: Mapping[str, object]) -> None:
        """Adds accounts and objects, per vendor. Raises ValueError."""
        if unknown := document.keys() - self.vendors.keys():
            msg = f"unknown vendor: {', '.join(sorted(unknown))}"
            raise ValueError(msg)
        for name, part in document.items():
            self.vendors[name].seed(part)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answers one HTTP request, or cuts its connection."""
        mount, _, rest = request.path[1:].partition("/")
        if mount == control.MOUNT:
            return await control.handle(self, request, rest)
        vendor = self._mounts.get(mount)
        if vendor is None:
            return web.Response(status=404, text=f"no vendor is served under /{mount}\n")
        answer = await self._serve(vendor, request, mount=mount, path=f"/{rest}")
        if answer is None:
            if request.transport is not None:
                request.transport.abort()
            return web.Response()
        return web.Response(
            status=answer.status,
            body=answer.body,
            content_type=answer.content_type,
            headers=answer.headers,
        )

    async def _serve(
        self, vendor: Vendor, request: web.BaseRequest, *, mount: str, path: str
    ) -> Answer | None:
        incoming = Incoming(
            method=request.method,
            mount=mount,
            path=path,
            query=request.query,
            headers=request.headers,
            body=await request.read(),
            base_url=f"{request.scheme}://{request.host}/{mount}",
        )
        call = vendor.understand(incoming)
        entry = self.journal.open(
            vendor=vendor.name,
            call=call,
            method=incoming.method,
            path=request.path_qs,
            header=request.headers.get(ATTEMPT_HEADER),
        )
        exchange = Exchange(vendor=vendor, call=call, entry=entry, holds=self.holds)
        answer: Answer | None = None
        try:
            seconds, fault = self.faults.strike(entry)
            if seconds:
                await asyncio.sleep(seconds)
            if fault is None:
                answer = exchange.apply()
            else:
                answer = await FAULT_ACTIONS[fault.spec.action](exchange, fault)
        finally:
            entry.close(answer.status if answer is not None else None)
        return answer


@asynccontextmanager
async def serving(sandbox: Sandbox, host: str, port: int) -> AsyncIterator[str]:
    """Serves while the context lasts; gives the base URL once it listens."""
    make_request = partial(
        web.BaseRequest, loop=asyncio.get_running_loop(), client_max_size=MAX_BODY_BYTES
    )
    # A client that gives up does not stop its request: vendors work on, too.
    server = web.Server(sandbox.handle, request_factory=make_request, access_log=None)
    runner = web.ServerRunner(server, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port, backlog=1024)
        await site.start()
        bound_host, bound_port = runner.addresses[0][:2]
        yield f"http://{bound_host}:{bound_port}"
    finally:
        sandbox.holds.close()
        await runner.cleanup()
