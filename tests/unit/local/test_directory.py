from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from deploy.local.directory import DirectoryInUseError, DirectoryLock, private_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_private_file_is_made_once_and_read_by_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "state" / "key"
    assert private_file(path, lambda: "first") == "first"
    assert private_file(path, lambda: "second") == "first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_an_interrupted_private_file_is_made_again(tmp_path: Path) -> None:
    (tmp_path / ".key.new").write_text("half")
    assert private_file(tmp_path / "key", lambda: "whole") == "whole"


def test_a_directory_has_one_owner_at_a_time(tmp_path: Path) -> None:
    first, second = DirectoryLock(tmp_path), DirectoryLock(tmp_path)
    first.acquire()
    first.acquire()
    with pytest.raises(DirectoryInUseError):
        second.acquire()
    first.release()
    second.acquire()
    second.release()
