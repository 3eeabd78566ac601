"""State directories: one owner at a time, nothing left over from the last one, private files."""

from __future__ import annotations

import contextlib
import fcntl
import os
from typing import TYPE_CHECKING

import psutil

from deploy.local.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LEFTOVER_GRACE_SECONDS = 5.0


class DirectoryInUseError(RuntimeError):
    """Another live process owns the directory."""

    def __init__(self, directory: Path, owner: str) -> None:
        super().__init__(f"{directory} is in use by process {owner or 'unknown'}")
        self.directory = directory
        self.owner = owner


class DirectoryLock:
    """Holds a directory for this process; the system releases it when the process is gone."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """Takes the directory, unless it is ours already.

        Raises:
            DirectoryInUseError: another live process holds it.
        """
        if self._descriptor is not None:
            return
        self._directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self._directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 32).decode().strip()
            os.close(descriptor)
            raise DirectoryInUseError(self._directory, owner) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._descriptor = descriptor

    def release(self) -> None:
        """Gives the directory free."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def end_leftovers(program: str, directory: Path) -> None:
    """Ends servers that still work in a directory although the process that started them is gone.

    To be called by the holder of the directory's lock only: whoever else runs there has no owner.
    """
    left = [process for process in psutil.process_iter() if _works_in(process, program, directory)]

    def are_gone() -> bool:
        return not any(_works_in(process, program, directory) for process in left)

    # The guardian of the dead owner is ending them in order at this moment.
    if not wait_until(are_gone, LEFTOVER_GRACE_SECONDS):
        for process in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        wait_until(are_gone, LEFTOVER_GRACE_SECONDS)


def _works_in(process: psutil.Process, program: str, directory: Path) -> bool:
    # A zombie, which its new parent may be slow to bury, works nowhere: it has no directory.
    try:
        return bool(process.name() == program and process.cwd() == str(directory))
    except (psutil.Error, OSError):
        return False


def private_file(path: Path, make: Callable[[], str]) -> str:
    """Returns the content of a file that only its owner may read, made on first use."""
    with contextlib.suppress(FileNotFoundError):
        return path.read_text().strip()
    path.parent.mkdir(parents=True, exist_ok=True)
    content = make()
    # Complete or absent: a crash in between must not leave an empty key behind.
    unfinished = path.with_name(f".{path.name}.new")
    unfinished.unlink(missing_ok=True)
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content + "\n")
    unfinished.rename(path)
    return content
