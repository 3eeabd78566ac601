"""What no source of ours does: connect past the vetted ways, run data, make SQL of text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
#: What can open a connection, or tell others to, and the modules that may: the table in
#: deploy/README.md says for each what is checked before.
CONNECTING: Final = {
    "aiohttp": {"worker/livekit/client.py"},
    "ftplib": set(),
    "http.client": set(),
    "httpcore": {"worker/outward.py"},
    "httpx": {
        "worker/selftest.py",
        "worker/providers/_telnyx_transport.py",
        "worker/providers/_telnyx_wire.py",
    },
    "requests": {
        "worker/providers/_http.py",
        "worker/providers/_plivo_wire.py",
        "worker/providers/_twilio_wire.py",
    },
    "smtplib": set(),
    "socket": {
        *("worker/addresses.py", "worker/outward.py", "worker/sip_hosts.py"),
        "worker/pulse.py",  # systemd's own socket on this machine
    },
    "subprocess": set(),
    "urllib.request": set(),
    "urllib3": {"worker/providers/_http.py"},
}
#: What makes code, files or requests out of data.
RUNNING: Final = {"dill", "marshal", "pickle", "shelve", "tarfile", "xml.dom", "xml.sax", "yaml"}
#: ElementTree writes answers to vendors; it expands entities of what it reads.
XML_READERS: Final = {"XML", "XMLParser", "fromstring", "iterparse", "parse"}
SQL_OF_TEXT: Final = {"DDL", "exec_driver_sql", "literal_column", "text"}
#: Executes what SQLAlchemy made of a statement, whose own texts are checked where they stand.
COMPILED: Final = "worker/db/prepared.py"
ENUMS: Final = {"JobState", "NotificationState"}


@cache
def sources() -> dict[str, ast.Module]:
    found = {}
    for folder in ("worker", "api_stub"):
        for path in (ROOT / folder).rglob("*.py"):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith("worker/migrations/"):
                found[name] = ast.parse(path.read_text())
    assert len(found) > 100
    return found


@cache
def imports(name: str) -> frozenset[str]:
    """Every module that is imported, wherever it stands; of a from, also what it may name."""
    found = set()
    for node in ast.walk(sources()[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(found)


def who_imports(module: str) -> set[str]:
    def takes(imported: str) -> bool:
        return imported == module or imported.startswith(f"{module}.")

    return {name for name in sources() if any(map(takes, imports(name)))}


def test_only_these_modules_connect() -> None:
    assert {module: who_imports(module) for module in CONNECTING} == CONNECTING


def test_nothing_runs_what_it_reads() -> None:
    assert {module for module in RUNNING if who_imports(module)} == set()
    readers = {f"xml.etree.ElementTree.{reader}" for reader in XML_READERS}
    assert {name for name in sources() if readers & imports(name)} == set()


def calls(tree: ast.Module) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name):
                yield function.id, node
            elif isinstance(function, ast.Attribute):
                yield function.attr, node


def test_sql_is_written_by_us_alone() -> None:
    """What is text is constant, or a name of an enum: no value, no column of a request."""
    seen = 0
    for name, tree in sources().items():
        if not name.startswith("worker/db/"):
            continue
        for function, call in calls(tree):
            if function not in SQL_OF_TEXT:
                continue
            seen += 1
            where = f"{name}:{call.lineno}"
            if name == COMPILED:
                assert ast.unparse(call.args[0]) == "self.text", where
                continue
            [statement] = call.args
            if isinstance(statement, ast.Constant) or is_ours(statement):
                continue
            assert isinstance(statement, ast.JoinedStr), where
            for part in statement.values:
                if isinstance(part, ast.FormattedValue):
                    assert is_ours(part.value), where
    assert seen >= 3


def is_ours(value: ast.expr) -> bool:
    """Whether it is a constant of the module, filled with constants at most; or of an enum."""
    match value:
        case ast.Attribute(value=ast.Name(id=name)):
            return name in ENUMS
        case ast.Call(func=ast.Attribute(value=constant, attr="format"), args=[], keywords=given):
            filled = [one.value for one in given]
            return is_ours(constant) and all(
                isinstance(one, ast.Constant) or is_ours(one) for one in filled
            )
        case ast.Name(id=name):
            return name.isupper()
    return False


@pytest.mark.parametrize(
    ("written", "ours"),
    [
        ("JobState.QUEUED", True),
        ("_HELD", True),
        ("_ROOM.format(organization=':organization')", True),
        ("_ROOM.format(organization=name)", False),
        ("_ROOM.format(name)", False),
        ("name", False),
        ("row.name", False),
        ("name.format()", False),
        ("call()", False),
    ],
)
def test_a_value_is_told_from_what_we_write(written: str, *, ours: bool) -> None:
    assert is_ours(ast.parse(written, mode="eval").body) is ours


def test_no_column_is_ordered_by_a_name_that_comes_in() -> None:
    """A string given to order_by is SQL to SQLAlchemy."""
    for name, tree in sources().items():
        for function, call in calls(tree):
            if function in {"order_by", "group_by", "having"}:
                for argument in call.args:
                    assert not isinstance(argument, ast.Constant | ast.JoinedStr), (
                        f"{name}:{call.lineno}"
                    )
