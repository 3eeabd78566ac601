"""What adapters share of reading a vendor's HTTP answers."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_LONGEST_WAIT_SECONDS: Final = 300.0


def parse_retry_after(header: str | None, *, now: datetime) -> float | None:
    """Returns the seconds that a Retry-After header asks for, at most five minutes. Pure."""
    if header is None:
        return None
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", header):
        seconds = float(header)
    else:
        try:
            until = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (until.replace(tzinfo=until.tzinfo or UTC) - now).total_seconds()
    return min(max(seconds, 0.0), _LONGEST_WAIT_SECONDS)
