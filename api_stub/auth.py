"""What a route asks for: the service, and a caller who may use it.

A key comes as ``Authorization: Bearer KEY`` or as ``X-Api-Key: KEY``. It is looked at before the
body, so whoever has no key, or one of the wrong role, learns nothing but that.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import Annotated, Final

from fastapi import Depends, Request, Security
from fastapi.concurrency import run_in_threadpool
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from worker.domain.allowances import WINDOW_SECONDS, Allowance
from worker.domain.errors import RateLimited, Unauthenticated
from worker.domain.values import format_id
from worker.service import Caller, Permission, Service

_ONE_WORD: Final = re.compile(r"[!-~]{1,256}")
_bearer: Final = HTTPBearer(scheme_name="Bearer", description="An API key.", auto_error=False)
_header: Final = APIKeyHeader(
    name="X-Api-Key", scheme_name="ApiKey", description="An API key.", auto_error=False
)


def service_of(request: Request) -> Service:
    """Returns the application's one service."""
    service: Service = request.app.state.service
    return service


async def authenticate(
    request: Request,
    service: Annotated[Service, Depends(service_of)],
    bearer: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    header: Annotated[str | None, Security(_header)],
) -> Caller:
    """Returns who calls.

    Raises:
        Unauthenticated: no key, two different ones, or one that is unknown or revoked.
    """
    given = {key for key in (header, bearer and bearer.credentials) if key}
    if len(given) > 1:
        raise Unauthenticated("Send one API key; these headers carry two different ones.")
    return await identify(request, service, given.pop() if given else "")


async def identify(request: Request, service: Service, key: str) -> Caller:
    """Returns who holds an API key.

    Raises:
        Unauthenticated: nobody does.
    """
    if _ONE_WORD.fullmatch(key) is None:
        raise Unauthenticated
    for name in ("Authorization", _header.model.name):
        # What stands before us may have judged the other one.
        if len(set(request.headers.getlist(name))) > 1:
            raise Unauthenticated(f"Send the {name} header once; it came with different values.")
    caller = await run_in_threadpool(service.authenticate, key)
    # For the request log.
    request.state.organization_id = format_id("org", caller.organization_id)
    return caller


async def spend(request: Request, service: Service, caller: Caller, allowance: Allowance) -> None:
    """Counts a request, and lets its answer tell what is left.

    Raises:
        RateLimited: there was nothing left.
    """
    spent = await run_in_threadpool(service.spend, caller, allowance)
    if spent is None:
        return
    # Of the next whole second: a moment too early would be refused again.
    seconds = int(spent.more_in_seconds) + 1
    # https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    request.state.rate_limit_headers = {
        "RateLimit-Policy": f'"{allowance}";q={spent.per_minute};w={WINDOW_SECONDS}',
        "RateLimit": f'"{allowance}";r={spent.left};t={seconds}',
    }
    if spent.exceeded:
        raise RateLimited(retry_after=seconds)


def _may(
    permission: Permission, allowance: Allowance | None = None
) -> Callable[..., Awaitable[Caller]]:
    async def check(
        request: Request,
        service: Annotated[Service, Depends(service_of)],
        caller: Annotated[Caller, Depends(authenticate)],
    ) -> Caller:
        # The service asks again; here a wrong role is refused before the body is judged.
        caller.require(permission)
        if allowance is not None:
            await spend(request, service, caller, allowance)
        return caller

    return check


Front = Annotated[Service, Depends(service_of)]
Reader = Annotated[Caller, Depends(_may(Permission.READ))]
Importer = Annotated[Caller, Depends(_may(Permission.CREATE_NUMBERS))]
#: Importers whose requests are counted: those that start a job, a batch, a look at a vendor.
Starter = Annotated[Caller, Depends(_may(Permission.CREATE_NUMBERS, Allowance.IMPORTS))]
Batcher = Annotated[Caller, Depends(_may(Permission.CREATE_NUMBERS, Allowance.BATCHES))]
Looker = Annotated[Caller, Depends(_may(Permission.CREATE_NUMBERS, Allowance.LOOKS))]
DirectoryManager = Annotated[Caller, Depends(_may(Permission.MANAGE_DIRECTORY))]
OrganizationManager = Annotated[Caller, Depends(_may(Permission.MANAGE_ORGANIZATION))]
KeyManager = Annotated[Caller, Depends(_may(Permission.MANAGE_KEYS))]
Auditor = Annotated[Caller, Depends(_may(Permission.READ_AUDIT))]
