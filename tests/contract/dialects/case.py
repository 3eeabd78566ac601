"""One line of a contract: a request, the status and the body that its document promises."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.contract.dialects.world import World


@dataclass(frozen=True, kw_only=True)
class Matching:
    """Any text of a shape."""

    shape: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and re.fullmatch(self.shape, other) is not None

    def __hash__(self) -> int:
        return hash(self.shape)


@dataclass(frozen=True, kw_only=True)
class Typed:
    """Any value of one of some types; True is no int."""

    types: tuple[type, ...]

    def __eq__(self, other: object) -> bool:
        return type(other) in self.types

    def __hash__(self) -> int:
        return hash(self.types)


#: Time as every contract writes it: UTC, with a Z.
TIME = Matching(shape=r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?Z")
TEXT = Typed(types=(str,))
WORDS = Matching(shape=r"(?s).+")


@dataclass(frozen=True, kw_only=True)
class Case:
    """One case; ``request`` and ``body`` are made for the world that it runs in."""

    #: What the contract promises, in a few words: a row of the table.
    name: str
    status: int
    #: JSON of the request; a str or bytes is sent as it is.
    request: Callable[[World], Any]
    #: The whole body of the answer: equal, with Matching and Typed where ids and times stand.
    body: Callable[[World], Any]
    #: Headers beside Content-Type; None: those of an administrator, as the contract wants them.
    headers: Callable[[World], Mapping[str, str]] | None = None
    #: What is to be done before, such as importing the number a first time.
    before: Callable[[World], None] = field(default=lambda _: None)
    #: What must be true afterwards, asked of the sandbox and of our own API.
    after: Callable[[World], None] = field(default=lambda _: None)


@dataclass(frozen=True, kw_only=True)
class Contract:
    """One contract and everything that its document says."""

    name: str
    method: str
    path: str
    #: The header that authenticates with a key, and others that the contract wants always.
    headers: Callable[[World, str], Mapping[str, str]]
    cases: tuple[Case, ...]
