"""Everything that can go wrong with one call, and what must come of it at every provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any, Final

from worker.domain.errors import (
    InsufficientPermission,
    InvalidCredentials,
    PermanentError,
    ProviderRateLimited,
    ProviderUnavailable,
    TrunklineError,
)

#: How often a short fault of a read is met before the read gives up; a write is sent once.
READ_ATTEMPTS: Final = 3
READ_TIMEOUT_SECONDS: Final = 0.2


@dataclass(frozen=True, kw_only=True)
class Row:
    """One failure."""

    id: str
    #: The sandbox's action and its settings; what depends on the time is made when it is asked for.
    action: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    expected: type[TrunklineError]
    #: Lowest and highest wait that is passed on; None for none.
    wait: tuple[float, float] | None = None
    #: Whether a write may have been applied.
    unknown: bool = False
    #: Whether a read tries again at once.
    short: bool = False

    @property
    def rest(self) -> dict[str, Any]:
        """The settings of the sandbox's action, as of now."""
        return {name: one() if callable(one) else one for name, one in self.settings.items()}


def _status(
    status: int,
    expected: type[TrunklineError],
    *,
    name: str = "",
    header: object = None,
    wait: tuple[float, float] | None = None,
    unknown: bool = False,
    **rest: object,
) -> Row:
    asked = {} if header is None else {"retry_after": header}
    return Row(
        id=name or str(status),
        action="status",
        settings={"status": status, **asked, **rest},
        expected=expected,
        wait=wait,
        unknown=unknown,
        short=unknown and wait is None,
    )


def _broken(action: str, *, name: str = "", **rest: object) -> Row:
    return Row(
        id=name or action,
        action=action,
        settings=rest,
        expected=ProviderUnavailable,
        unknown=True,
        short=True,
    )


def _in_a_minute() -> str:
    return format_datetime(datetime.now(UTC) + timedelta(minutes=1), usegmt=True)


#: 404 is not here: what it means depends on what was asked for.
ROWS: Final = (
    _broken("delay", name="timeout", seconds=4 * READ_TIMEOUT_SECONDS),
    _broken("cut"),
    _broken("garbage"),
    _broken("empty"),
    _broken("lost"),
    _broken("lost_status", name="applied_but_500", status=500),
    _status(400, PermanentError),
    _status(401, InvalidCredentials),
    _status(403, InsufficientPermission),
    _status(409, PermanentError),
    _status(429, ProviderRateLimited),
    _status(429, ProviderRateLimited, name="429_seconds", header=7, wait=(7, 7)),
    _status(429, ProviderRateLimited, name="429_date", header=_in_a_minute, wait=(1, 60)),
    _status(429, ProviderRateLimited, name="429_absurd", header=10**9, wait=(60, 3600)),
    _status(429, ProviderRateLimited, name="429_nonsense", header="soon"),
    _status(500, ProviderUnavailable, unknown=True),
    _status(502, ProviderUnavailable, name="502_page", unknown=True, body="<html>planted</html>"),
    _status(503, ProviderUnavailable, unknown=True),
    _status(503, ProviderUnavailable, name="503_seconds", header=7, wait=(7, 7), unknown=True),
)
