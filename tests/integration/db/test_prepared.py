"""A statement that is written out once does what SQLAlchemy does with it each time."""

from __future__ import annotations

from datetime import timedelta
from enum import StrEnum
from typing import Any

import pytest
from sqlalchemy import ARRAY, Integer, Interval, LargeBinary, Text, Uuid, bindparam, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from uuid_utils.compat import uuid7

from tests.integration.db.conftest import Bench
from worker.db.prepared import Prepared


class _Word(StrEnum):
    SAID = "said"


_STATEMENT: Any = select(
    bindparam("id", type_=Uuid).label("id"),
    bindparam("word", type_=Text).label("word"),
    bindparam("words", type_=ARRAY(Text)).label("words"),
    bindparam("what", type_=JSONB).label("what"),
    bindparam("number", type_=Integer).label("number"),
    bindparam("sealed", type_=LargeBinary).label("sealed"),
    bindparam("wait", type_=Interval).label("wait"),
    literal({"constant": [1, None]}, JSONB).label("constant"),
    literal("100 % of it").label("percent"),
    (literal(7, Integer) % 4).label("modulo"),
)
_VALUES: dict[str, Any] = {
    "id": uuid7(),
    "word": _Word.SAID,
    "words": ["a", "b"],
    "what": {"of": {"it": "ü", "none": None}},
    "number": 7,
    "sealed": b"\x00\xff",
    "wait": timedelta(seconds=1.5),
}


@pytest.mark.parametrize("missing", [None, "word", "words", "number", "sealed", "wait"])
def test_what_goes_in_and_comes_out_is_the_same(bench: Bench, missing: str | None) -> None:
    values = {**_VALUES, **({missing: None} if missing else {})}
    prepared = Prepared(_STATEMENT)
    with bench.engine.connect() as connection:
        ours = prepared.execute(connection, **values).mappings().one()
        theirs = connection.execute(_STATEMENT, values).mappings().one()
    assert dict(ours) == dict(theirs)
    assert ours["constant"] == {"constant": [1, None]}


@pytest.mark.parametrize("extra", [{}, {**_VALUES, "unknown": 1}])
def test_values_that_do_not_fit_are_refused(bench: Bench, extra: dict[str, Any]) -> None:
    with bench.engine.connect() as connection, pytest.raises(TypeError, match="do not fit"):
        Prepared(_STATEMENT).execute(connection, **extra)


def test_it_takes_nothing_from_the_caller(bench: Bench) -> None:
    values = {**_VALUES, "what": {"kept": True}}
    with bench.engine.connect() as connection:
        Prepared(_STATEMENT).execute(connection, **values)
    assert values["what"] == {"kept": True}
