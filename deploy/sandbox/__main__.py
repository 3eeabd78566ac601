"""`python -m deploy.sandbox`: the sandbox as a process."""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
from pathlib import Path

from deploy.sandbox.app import Sandbox, serving


def main() -> None:
    """Parses the command line and serves until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(prog="python -m deploy.sandbox", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 picks a free one")
    parser.add_argument("--seed-file", type=Path, help="JSON, as for POST /_sandbox/seed")
    options = parser.parse_args()
    sandbox = Sandbox()
    if options.seed_file:
        try:
            sandbox.seed(json.loads(options.seed_file.read_text()))
        except (OSError, ValueError) as problem:
            parser.error(f"{options.seed_file}: {problem}")
    asyncio.run(_serve(sandbox, options.host, options.port))


async def _serve(sandbox: Sandbox, host: str, port: int) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with serving(sandbox, host, port) as url:
        print(f"sandbox listening on {url}", flush=True)  # noqa: T201 - who starts it reads this
        await stop.wait()


if __name__ == "__main__":
    main()
