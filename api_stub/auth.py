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

from worker.domain.errors import Unauthenticated
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
    caller = await run_in_threadpool(service.authenticate, key)
    # For the request log.
    request.state.organization_id = format_id("org", caller.organization_id)
    return caller


def _may(permission: Permission) -> Callable[[Caller], Awaitable[Caller]]:
    async def check(caller: Annotated[Caller, Depends(authenticate)]) -> Caller:
        # The service asks again; here a wrong role is refused before the body is judged.
        caller.require(permission)
        return caller

    return check


Front = Annotated[Service, Depends(service_of)]
Reader = Annotated[Caller, Depends(_may(Permission.READ))]
Importer = Annotated[Caller, Depends(_may(Permission.CREATE_NUMBERS))]
DirectoryManager = Annotated[Caller, Depends(_may(Permission.MANAGE_DIRECTORY))]
OrganizationManager = Annotated[Caller, Depends(_may(Permission.MANAGE_ORGANIZATION))]
KeyManager = Annotated[Caller, Depends(_may(Permission.MANAGE_KEYS))]
Auditor = Annotated[Caller, Depends(_may(Permission.READ_AUDIT))]
