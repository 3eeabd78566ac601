from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from deploy.local.system_user import make_reachable, make_runnable

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_directories_above_become_passable_but_not_listable(tmp_path: Path) -> None:
    data = tmp_path / "closed" / "data"
    data.mkdir(parents=True)
    data.chmod(0o700)
    data.parent.chmod(0o700)
    make_reachable(data)
    assert mode(data.parent) == 0o701
    assert mode(data) == 0o700


def test_programs_unpacked_under_a_strict_umask_become_runnable(tmp_path: Path) -> None:
    program, text = tmp_path / "bin" / "program", tmp_path / "bin" / "text"
    program.parent.mkdir()
    for path, strict in ((program, 0o700), (text, 0o600), (program.parent, 0o700)):
        path.touch()
        path.chmod(strict)
    make_runnable(program.parent)
    assert [mode(path) for path in (program.parent, program, text)] == [0o705, 0o705, 0o604]
