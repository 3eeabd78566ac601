"""What is installed is what was locked: names, versions and hashes, from wherever they come."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

ROOT: Final = Path(__file__).parents[2]
LOCKS: Final = ("requirements.lock", "requirements-dev.lock", "requirements-bench.lock")
#: Lock → what it holds beside the dependencies of every process.
EXTRAS: Final = dict(zip(LOCKS, (("local",), ("local", "dev"), ("bench",)), strict=True))
#: A name, an exact version and perhaps a marker; then its hashes. Nothing else may stand there.
PIN: Final = re.compile(
    r"([a-z0-9-]+)(\[[a-z0-9,-]+\])?==([0-9][0-9A-Za-z.+!]*)( ; [a-z_]+ [^\\]+)? \\"
)
HASH: Final = re.compile(r"    --hash=sha256:([0-9a-f]{64})( \\)?")


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def locked(name: str) -> dict[str, tuple[str, frozenset[str]]]:
    """Returns name, with its marker, → version and hashes; a line of any other form fails."""
    found: dict[str, tuple[str, set[str]]] = {}
    last = ""
    for line in (ROOT / "deploy" / name).read_text().splitlines():
        pin, digest = PIN.fullmatch(line), HASH.fullmatch(line)
        if pin:
            # Where two versions of Python need two versions, each has its marker.
            last = pin[1] + (pin[4] or "")
            assert last not in found, f"{last} is locked twice"
            found[last] = (pin[3], set())
        else:
            assert digest, f"{name}: {line}"
            found[last][1].add(digest[1])
    return {one: (version, frozenset(hashes)) for one, (version, hashes) in found.items()}


def names(requirements: list[str]) -> set[str]:
    found = set()
    for one in requirements:
        name = re.match(r"[A-Za-z0-9._-]+", one)
        assert name
        found.add(re.sub(r"[._-]+", "-", name[0]).lower())
    return found


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_holds_names_versions_and_hashes_alone(lock: str) -> None:
    found = locked(lock)
    assert len(found) > 50
    assert [name for name, (_, hashes) in found.items() if not hashes] == []


@pytest.mark.parametrize("lock", LOCKS)
def test_every_dependency_is_locked(lock: str) -> None:
    settings = project()["project"]
    extras = settings["optional-dependencies"]
    wanted = names(settings["dependencies"])
    for extra in EXTRAS[lock]:
        wanted |= names(extras[extra])
    assert wanted - {name.partition(" ;")[0] for name in locked(lock)} == set()


def test_tests_run_with_what_runs() -> None:
    runtime, development, _ = (locked(lock) for lock in LOCKS)
    assert {name: pin for name, pin in runtime.items() if development.get(name) != pin} == {}


def test_other_engines_change_nothing_of_what_is_installed() -> None:
    _, development, bench = (locked(lock) for lock in LOCKS)
    common = bench.keys() & development.keys()
    assert {name for name in common if bench[name] != development[name]} == set()


def test_what_builds_is_pinned() -> None:
    for requirement in project()["build-system"]["requires"]:
        assert re.fullmatch(r"[a-z-]+==[0-9.]+", requirement)


def test_nothing_is_installed_without_its_hash() -> None:
    """Of the locks; what only makes or audits them is no part of what runs."""
    recipes = (ROOT / "Makefile").read_text()
    installs = re.findall(r"pip install .*-r deploy/.*", recipes)
    assert len(installs) >= 3
    assert all("--require-hashes" in line for line in installs)
