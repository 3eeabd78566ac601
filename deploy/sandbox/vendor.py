"""The contract between the server and a vendor module, and the helpers every vendor shares.

A vendor understands a request (which operation, whose account, a write or not) before anything is
done with it, so that the journal and the faults can act on it; only `Call.run` changes state.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

JSON_TYPE: Final = "application/json"
MASK: Final = "***"

_SECRET_NAME: Final = re.compile(r"password|token|secret|\bpin\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """One HTTP request, read completely."""

    method: str
    #: First path segment: which of the vendor's base URLs was addressed.
    mount: str
    #: The rest of the path, with its leading slash.
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    #: Scheme, host and mount as the client sees them, for absolute links.
    base_url: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What goes back over the wire."""

    status: int
    body: bytes = b""
    content_type: str = JSON_TYPE
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request that a vendor has understood but not yet acted upon."""

    #: Stable dotted name, such as `twilio.trunks.create`.
    operation: str
    #: True when the operation changes the vendor's state.
    write: bool
    account: str | None
    #: The body's fields for the journal, unmasked; evaluated only when the journal is read.
    fields: Callable[[], Mapping[str, object]]
    run: Callable[[], Answer]


class Vendor(Protocol):
    """One vendor: its wire format, its rules and its state."""

    @property
    def name(self) -> str:
        """As in seeds, faults and the journal."""
        ...

    @property
    def mounts(self) -> tuple[str, ...]:
        """Path prefixes under which the vendor's base URLs are served."""
        ...

    def understand(self, incoming: Incoming) -> Call:
        """Names the operation and prepares it; never raises and never changes state."""
        ...

    def error(self, status: int, *, code: int | str | None, message: str | None) -> Answer:
        """An error in the vendor's own shape, for faults."""
        ...

    def garbage(self) -> Answer:
        """A 200 whose body no client of this vendor can parse."""
        ...

    def state(self) -> dict[str, object]:
        """Everything the vendor holds, without secrets."""
        ...

    def seed(self, document: object) -> None:
        """Adds what the document describes. Raises ValueError when it cannot be."""
        ...

    def edit(self, document: object) -> None:
        """Changes an object by hand, as a customer would in the vendor's console.

        Raises ValueError.
        """
        ...


Handler = TypeVar("Handler")


@dataclass(frozen=True, slots=True)
class Route(Generic[Handler]):
    """One operation of a REST vendor; `{name}` in the path is one segment."""

    operation: str
    method: str
    path: str
    handler: Handler

    @property
    def write(self) -> bool:
        """Whether the operation changes state; true of REST as all our vendors practise it."""
        return self.method != "GET"


class Router(Generic[Handler]):
    """Finds the route of a request."""

    def __init__(self, routes: tuple[Route[Handler], ...]) -> None:
        self._patterns = tuple(
            (re.compile(re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/]+?)", re.escape(route.path))), route)
            for route in routes
        )

    def find(self, method: str, path: str) -> tuple[Route[Handler], dict[str, str]] | None:
        """The route and its path parameters, or None."""
        for pattern, route in self._patterns:
            if route.method == method and (found := pattern.fullmatch(path)):
                return route, found.groupdict()
        return None

    def knows(self, path: str) -> bool:
        """Whether the path exists with any method: the difference between 404 and 405."""
        return any(pattern.fullmatch(path) for pattern, _ in self._patterns)


def json_answer(status: int, document: object, headers: Mapping[str, str] | None = None) -> Answer:
    """An answer with a JSON body."""
    return Answer(status=status, body=json.dumps(document).encode(), headers=headers or {})


def masked(value: object, name: str = "") -> object:
    """The value with everything that is named like a secret replaced; empty values stay empty."""
    if isinstance(value, Mapping):
        return {key: masked(item, str(key)) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [masked(item, name) for item in value]
    return MASK if value and _SECRET_NAME.search(name) else value


def fingerprint(secret: str) -> str:
    """Lets a test see that two places hold the same secret without showing it."""
    return hashlib.sha256(secret.encode()).hexdigest()[:12] if secret else ""
