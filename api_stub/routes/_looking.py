"""Requests that look outside wait for vendors, on threads of their own: nobody waits for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import anyio
import anyio.to_thread
from fastapi import Request

from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InvalidCredentials,
    LiveKitMisconfigured,
    LiveKitUnavailable,
    ProviderRateLimited,
    ProviderUnavailable,
)

_Result = TypeVar("_Result")

#: Looks of a process at the same time; one more waits for its turn.
LOOKING_THREADS: Final = 8
#: How a look itself may end.
NO_SIGHT: Final = (
    InvalidCredentials,
    InsufficientPermission,
    AccountSuspended,
    ProviderUnavailable,
    ProviderRateLimited,
    LiveKitUnavailable,
    LiveKitMisconfigured,
)


async def look(request: Request, call: Callable[[], _Result]) -> _Result:
    """Runs a call that asks vendors."""
    limiter: anyio.CapacityLimiter = request.app.state.lookers
    return await anyio.to_thread.run_sync(call, limiter=limiter)
