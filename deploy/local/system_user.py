"""The user that Postgres runs under: it refuses root, so root hands it to a system user."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAME = "pgserver"
_ATTEMPTS = 20
_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, kw_only=True)
class SystemUser:
    """The user id and group id that a child runs under."""

    uid: int
    gid: int


def server_user() -> SystemUser | None:
    """Returns the user to run Postgres under, made on first use; None when we are not root.

    Raises:
        RuntimeError: the user is missing and cannot be made.
    """
    if os.geteuid() != 0:
        return None
    useradd = shutil.which("useradd")
    # Several attempts: useradd fails while another process holds the lock of /etc/passwd.
    for _attempt in range(_ATTEMPTS):
        try:
            entry = pwd.getpwnam(NAME)
        except KeyError:
            if useradd is None:
                break
            argv = [useradd, "--system", "--no-create-home", "--shell", "/bin/false", NAME]
            subprocess.run(argv, check=False, capture_output=True)  # noqa: S603 - constant arguments
            time.sleep(_PAUSE_SECONDS)
        else:
            return SystemUser(uid=entry.pw_uid, gid=entry.pw_gid)
    raise RuntimeError(
        f"Postgres does not run as root, and the system user {NAME!r} could not be made. "
        f"Add it (useradd --system {NAME}), or run as a normal user."
    )


def make_reachable(path: Path) -> None:
    """Lets other users pass through (not list) the directories above a path."""
    for directory in path.resolve().parents:
        mode = stat.S_IMODE(directory.stat().st_mode)
        if not mode & stat.S_IXOTH:
            directory.chmod(mode | stat.S_IXOTH)


def make_runnable(programs: Path) -> None:
    """Lets other users run an installation that was unpacked under a strict umask."""
    make_reachable(programs)
    if programs.stat().st_mode & stat.S_IROTH:
        return
    for path in [programs, *programs.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        passable = stat.S_IXOTH if mode & stat.S_IXUSR else 0
        path.chmod(mode | stat.S_IROTH | passable)
