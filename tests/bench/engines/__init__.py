"""The engines that are measured side by side: one module each.

A module has ``prepare()``, which makes what the engine needs in a fresh database; ``submitter()``,
which gives a function that submits one job; and, run as a program, it is a worker. A module is
imported only where its packages are installed.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Final, Protocol, cast
from uuid import UUID

Submit = Callable[[UUID], None]


class Module(Protocol):
    """What each module has."""

    def prepare(self) -> None:
        """Makes the engine's own tables."""

    def submitter(self) -> AbstractContextManager[Submit]:
        """Gives a function that stores one job and hands it to the engine."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """One engine, and how its jobs are told from each other in the database."""

    name: str
    title: str
    #: What must be importable, beside Trunkline's own dependencies.
    packages: tuple[str, ...] = ()
    table: str = "jobs"

    @property
    def missing(self) -> tuple[str, ...]:
        """What is not installed."""
        return tuple(name for name in self.packages if importlib.util.find_spec(name) is None)

    @property
    def path(self) -> str:
        return f"{__name__}.{self.name}"

    def load(self) -> Module:
        return cast(Module, importlib.import_module(self.path))


#: In the order in which they are measured and told; every ratio is to the first one.
ENGINES: Final = (
    Engine(name="floor", title="floor: thread pool, no queue"),
    Engine(name="trunkline", title="Trunkline", table="import_jobs"),
    Engine(name="chain", title="Celery chain"),
    Engine(name="dbos", title="DBOS", packages=("dbos",)),
    Engine(name="absurd", title="Absurd", packages=("absurd_sdk", "absurdctl")),
    Engine(name="procrastinate", title="Procrastinate", packages=("procrastinate",)),
)
#: Why others that one would expect are not here.
ABSENT: Final = {
    "Restate": "its server is not a Python package",
    "Temporal": "its server is not a Python package",
    "Hatchet": "its server is not a Python package",
}
