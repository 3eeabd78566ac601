"""`python -m deploy.local up|demo`: the two commands behind `make up` and `make demo`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from rich.console import Console

from deploy.local import demo, up
from deploy.local.processes import StackError

if TYPE_CHECKING:
    from types import FrameType

    from deploy.local.environment import Profile

PROFILES: Final[tuple[Profile, ...]] = ("sandbox", "live")
EXIT_INTERRUPTED: Final = 130


def main() -> int:
    """Runs one of the commands and returns its exit code."""
    parser = argparse.ArgumentParser(prog="python -m deploy.local")
    parser.add_argument("command", choices=("up", "demo"))
    parser.add_argument(
        "--profile", choices=PROFILES, default=os.environ.get("PROFILE") or PROFILES[0]
    )
    options = parser.parse_args()
    if options.profile not in PROFILES:
        parser.error(f"PROFILE is {options.profile!r}; it can be {' or '.join(PROFILES)}")
    # A closed terminal and a plain kill stop the stack as orderly as Ctrl-C does.
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as nohup sets it
            signal.signal(number, _end)
    console = Console()
    try:
        return demo.run(console) if options.command == "demo" else up.run(console, options.profile)
    except StackError as exc:
        print(exc, file=sys.stderr)  # noqa: T201 - the message to the user, as it stands
        return 1
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # A second signal, while stopping, must not interrupt the stop.
    for other in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(other, signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main())
