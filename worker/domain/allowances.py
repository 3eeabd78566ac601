"""How much an API key may ask for in a while."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

#: The length of every allowance.
WINDOW_SECONDS: Final = 60


class Allowance(StrEnum):
    """What is counted together; reads are not counted, nor is a cancel, the remedy of too many."""

    #: Whatever starts one job: an import, a retry, a release, a change.
    IMPORTS = "imports"
    #: Batches; each may have 10,000 numbers.
    BATCHES = "batches"
    #: Whatever asks a vendor while its caller waits: a preflight, a check, an account's numbers.
    LOOKS = "looks"


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a key has left of an allowance after a request."""

    allowance: Allowance
    per_minute: int
    left: int
    #: When more of it is there again.
    more_in_seconds: float
    #: Whether the request itself was more than there was.
    exceeded: bool
