"""Statements that never change, written out once."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb
from sqlalchemy import JSON, ClauseElement, Connection, CursorResult
from sqlalchemy.dialects.postgresql import psycopg


class Prepared:
    """A statement of SQLAlchemy's as the text that it comes to, with its parameters' names.

    SQLAlchemy finds what it has compiled before by a key of all a statement's parts, and readies
    parameters and rows one by one: a third of what such a statement costs the process. These are
    the ones that move every job; psycopg knows their types.
    """

    def __init__(self, statement: ClauseElement) -> None:
        compiled: Any = statement.compile(dialect=psycopg.dialect())  # type: ignore[no-untyped-call] # of SQLAlchemy
        self.text = str(compiled)
        binds = compiled.binds
        self._json = [name for name, bind in binds.items() if isinstance(bind.type, JSON)]
        self._asked = {name for name, bind in binds.items() if bind.required}
        self._constant = self._ready(
            {name: value for name, value in compiled.params.items() if name not in self._asked}
        )

    def execute(self, connection: Connection, **values: Any) -> CursorResult[Any]:  # noqa: ANN401 -- of the database's types
        """Executes it.

        Raises:
            TypeError: the values are not those of its parameters.
        """
        if values.keys() != self._asked:
            raise TypeError(f"these do not fit: {', '.join(values.keys() ^ self._asked)}")
        return connection.exec_driver_sql(self.text, {**self._constant, **self._ready(values)})

    def _ready(self, values: dict[str, Any]) -> dict[str, Any]:
        for name in self._json:
            if values.get(name) is not None:
                values[name] = Jsonb(values[name])
        return values
