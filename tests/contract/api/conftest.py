from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """Gives each operation's test an id of its own, as its name has it.

    Schemathesis 4.32 names them, but pytest 9.2 takes no operation from a name; xdist would then
    run one of those that are called alike and leave out the others.
    """
    _, bracket, operation = item.name.partition("[")
    if bracket and item.id.params is None:
        item._id = item.id.with_params(operation.removesuffix("]"))
