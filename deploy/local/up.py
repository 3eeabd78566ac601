"""`make up`: the stack with its state under `.trunkline/`, until Ctrl-C."""

from __future__ import annotations

import json
import secrets
import threading
import time
from typing import TYPE_CHECKING, Final

from rich.markup import escape

from deploy.local.caller import Caller
from deploy.local.directory import DirectoryInUseError, private_file
from deploy.local.processes import StackError
from deploy.local.sandbox_account import TwilioAccount
from deploy.local.stack import PROJECT, Ports, Stack

if TYPE_CHECKING:
    from rich.console import Console

    from deploy.local.environment import Profile
    from deploy.local.supervisor import Restart

STATE_DIR: Final = PROJECT / ".trunkline"
PORTS: Final = Ports(api=8080, flower=5555, sandbox=8090)
NUMBERS: Final = tuple(f"+1415555{last:04}" for last in range(100, 200))
WORKERS: Final = 1


def run(console: Console, profile: Profile) -> int:
    """Starts the stack, says where everything is, and keeps it up until Ctrl-C."""
    # Numbers of the sandbox have no business in a database that knows real ones.
    state_dir = STATE_DIR / profile
    account = TwilioAccount(
        sid=private_file(state_dir / "twilio-sid", lambda: f"AC{secrets.token_hex(16)}"),
        auth_token=private_file(state_dir / "twilio-token", lambda: secrets.token_hex(16)),
        phone_numbers=NUMBERS,
    )
    stack = Stack(
        state_dir,
        profile=profile,
        ports=PORTS,
        workers=WORKERS,
        supervise=True,
        sandbox_seed=account.seed(),
        on_started=lambda name, seconds: _say(console, f"  {name:<12} {seconds:5.1f} s"),
        on_restart=lambda restart: _say(console, _describe(restart)),
    )
    _say(console, f"Starting the stack ({profile}); its state is in {state_dir}")
    try:
        stack.start()
    except DirectoryInUseError as exc:
        raise StackError(
            f"The stack is up already: process {exc.owner} keeps it in {exc.directory}.\n"
            "What to do: use that one, or stop it with Ctrl-C where it runs "
            f"(or: kill {exc.owner})"
        ) from None
    try:
        _introduce(console, stack, account, _api_key(stack))
        threading.Event().wait()
    except KeyboardInterrupt:
        pass
    finally:
        begun = time.monotonic()
        stack.stop()
        _say(console, f"\nStopped in {time.monotonic() - begun:.1f} s; the data is kept.")
    return 0


def _api_key(stack: Stack) -> str:
    path = stack.state_dir / "api-key"
    api_key = private_file(path, lambda: stack.bootstrap("Local")["api_key"])
    with Caller(stack.api_url, api_key) as caller:
        if caller.accepts_key():
            return api_key
    # The database was deleted, the key file was not.
    path.unlink()
    return private_file(path, lambda: stack.bootstrap("Local")["api_key"])


def _introduce(console: Console, stack: Stack, account: TwilioAccount, api_key: str) -> None:
    live = stack.profile == "live"
    public = stack.environment["TRUNKLINE_PUBLIC_BASE_URL"]
    rows = {
        "Status page": f"{stack.api_url}/  (asks for the key)",
        "API, documented": f"{stack.api_url}/docs",
        "API key": api_key,
        "Flower": f"{stack.flower_url}  (user {stack.flower_user}, password "
        f"{stack.flower_password})",
        **(
            {"Public address": f"{public}  (must lead to {stack.api_url})"}
            if live
            else {"Sandbox state": f"{stack.sandbox_url}/_sandbox/state  (starts afresh each time)"}
        ),
        "Metrics": "  ".join([f"{stack.api_url}/metrics", *stack.metrics_urls.values()]),
        "Logs": str(stack.logs_dir),
    }
    _say(console, "")
    for name, value in rows.items():
        _say(console, f"{name:<17} {value}")
    if live:
        order = account.order("+1...") | {
            "credentials": {"account_sid": "AC...", "auth_token": "..."}
        }
    else:
        with Caller(stack.api_url, api_key) as caller:
            taken = caller.imported_numbers()
        order = account.order(next((n for n in NUMBERS if n not in taken), NUMBERS[0]))
    header = f"-H 'Authorization: Bearer {api_key}'"
    url = f"{stack.api_url}/v1/imports"
    _say(console, "\nImport a number:")
    _say(
        console,
        f"curl -sS {url} {header} -H 'Content-Type: application/json' -d '{json.dumps(order)}'",
    )
    _say(console, "\nFollow it, with the id from the answer:")
    _say(console, f"curl -sS '{url}/IMPORT_ID?wait=20' {header}")
    if not live:
        call = {
            "vendor": "twilio",
            "account": account.sid,
            "number": order["phone_number"],
            "from": "+12025550199",
        }
        _say(console, "\nCall it, as the vendor would treat the call:")
        _say(console, f"curl -sS {stack.sandbox_url}/_sandbox/calls -d '{json.dumps(call)}'")
    number = f"{stack.api_url}/v1/phone-numbers/NUMBER_ID"
    _say(console, "\nAsk why it does not ring; give it back:")
    _say(console, f"curl -sS -X POST {number}/check {header}")
    _say(console, f"curl -sS -X DELETE {number} -H 'Prefer: wait=20' {header}")
    _say(console, "\nCtrl-C stops everything; the data is kept.")


def _describe(restart: Restart) -> str:
    how = f"ended with exit code {restart.exit_code}"
    if restart.problem is None:
        return f"{restart.at:%H:%M:%S} {restart.name} {how}; started again"
    return f"{restart.at:%H:%M:%S} {restart.name} {how}; cannot be started:\n{restart.problem}"


def _say(console: Console, text: str) -> None:
    console.print(escape(text), highlight=False, soft_wrap=True)
