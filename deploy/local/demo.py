"""`make demo`: imports numbers on a stack of its own, and proves what a failed import leaves."""

from __future__ import annotations

import base64
import secrets
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
from rich.markup import escape

from deploy.local.caller import Caller, Job
from deploy.local.progress import Board
from deploy.local.sandbox_account import (
    UNTOUCHED_VOICE_URL,
    PlivoAccount,
    TelnyxAccount,
    TwilioAccount,
    carrier_order,
)
from deploy.local.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

FIRST: Final = "+14155550100"
SIDE_BY_SIDE: Final = ("+12025550123", "+13105550142")
TELNYX: Final = "+13125550110"
PLIVO: Final = "+13125550120"
CARRIER: Final = "+442079460123"
CALLER: Final = "+12025550199"
NOT_OWNED: Final = "+12125550199"
REFUSED: Final = "+13105550177"
#: Twilio refuses the last write of an import, when all else has been set up.
REFUSAL: Final = {
    "match": {"operation": "twilio.incoming_phone_numbers.update", "step": "route_number"},
    "action": "status",
    "status": 403,
}


def run(console: Console) -> int:
    """Runs the demonstration and returns the exit code: 0 if everything went as promised."""
    begun = time.monotonic()
    account = TwilioAccount(
        sid=f"AC{secrets.token_hex(16)}",
        auth_token=secrets.token_hex(16),
        phone_numbers=(FIRST, *SIDE_BY_SIDE, REFUSED),
    )
    telnyx = TelnyxAccount(
        api_key=f"sandbox-{secrets.token_hex(16)}",
        webhook_private_key=base64.b64encode(secrets.token_bytes(32)).decode(),
        phone_number=TELNYX,
    )
    plivo = PlivoAccount(
        auth_id="MA" + "".join(secrets.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(18)),
        auth_token=secrets.token_hex(16),
        phone_number=PLIVO,
    )
    with tempfile.TemporaryDirectory(prefix="trunkline-demo-") as directory:
        _title(console, "Starting the stack: real Postgres and Redis, vendors on loopback")
        with Stack(
            Path(directory),
            sandbox_seed={**account.seed(), **telnyx.seed(), **plivo.seed()},
            on_started=lambda name, seconds: _say(console, f"{name:<12} {seconds:5.1f} s"),
        ) as stack:
            api_key = stack.bootstrap("Demo")["api_key"]
            complaints = _Demonstration(
                console,
                stack=stack,
                account=account,
                telnyx=telnyx,
                plivo=plivo,
                api_key=api_key,
            ).run()
        _title(console, f"Stopped everything after {time.monotonic() - begun:.0f} s")
    for complaint in complaints:
        console.print(f"[bold red]{escape(complaint)}[/]", soft_wrap=True)
    return 1 if complaints else 0


class _Demonstration:
    def __init__(
        self,
        console: Console,
        *,
        stack: Stack,
        account: TwilioAccount,
        telnyx: TelnyxAccount,
        plivo: PlivoAccount,
        api_key: str,
    ) -> None:
        self._console = console
        self._stack = stack
        self._account = account
        self._telnyx = telnyx
        self._plivo = plivo
        self._api_key = api_key
        self._complaints: list[str] = []

    def run(self) -> list[str]:
        _title(self._console, f"POST /v1/imports: {FIRST}, routed to our webhook")
        self._import_well([self._account.order(FIRST)])
        _title(self._console, "One at each provider at once, and one over a SIP trunk")
        trunk, webhook = SIDE_BY_SIDE
        self._import_well(
            [
                self._account.order(webhook),
                self._account.order(trunk, routing_mode="sip_trunk"),
                self._telnyx.order(),
                self._plivo.order(),
                carrier_order(CARRIER, secrets.token_hex(16)),
            ],
            show_records=False,
        )
        _title(self._console, "Would they ring? A call to each, as its vendor treats it")
        self._call_each(
            [
                ("twilio", self._account.sid, FIRST),
                ("twilio", self._account.sid, webhook),
                ("twilio", self._account.sid, trunk),
                ("telnyx", self._telnyx.id, TELNYX),
                ("plivo", self._plivo.auth_id, PLIVO),
            ]
        )
        _title(self._console, f"Somebody points {FIRST} elsewhere: check, repair, release")
        self._look_after(FIRST)
        _title(self._console, f"An import that must fail: {NOT_OWNED} is not in this account")
        self._import_badly(NOT_OWNED, "number_not_owned")
        _title(self._console, f"Another: Twilio refuses the write that moves calls of {REFUSED}")
        self._sandbox("POST", "faults", REFUSAL)
        self._import_badly(REFUSED)
        self._count_calls()
        return self._complaints

    def _import_well(self, orders: Sequence[dict[str, Any]], *, show_records: bool = True) -> None:
        for job in self._import(orders):
            if show_records:
                _json(self._console, "The job", job)
            if job["status"] != "active":
                self._complain(f"{job['phone_number']} is {job['status']}, not active")
                continue
            if not show_records:
                line = (
                    f"{job['phone_number']} at {job['provider']} by {job['routing_mode']}: active"
                )
                _say(self._console, line)
                for warning in job["warnings"]:
                    _say(self._console, f"  {warning}")
                continue
            with self._caller() as caller:
                _json(self._console, "The number", caller.number(job["phone_number_id"]))

    def _call_each(self, lines: Sequence[tuple[str, str, str]]) -> None:
        for vendor, account, number in lines:
            call = {"vendor": vendor, "account": account, "number": number, "from": CALLER}
            trace = self._sandbox("POST", "calls", call)
            asked = [step for step in trace["steps"] if step["kind"] == "webhook"]
            way = "our voice webhook" if asked else "its SIP trunk"
            if trace["outcome"] == "agent":
                room = trace["room_prefix"]
                _say(self._console, f"{number} at {vendor}: by {way} to LiveKit, room {room}…")
            else:
                self._complain(f"{number} does not ring: {trace['outcome']}, {trace['reason']}")

    def _look_after(self, number: str) -> None:
        elsewhere = {
            "vendor": "twilio",
            "account": self._account.sid,
            "phone_number": number,
            "set": {"voice_url": "https://somebody.example.com/voice"},
        }
        self._sandbox("POST", "edit", elsewhere)
        with self._caller() as caller:
            number_id = caller.imported_numbers()[number]
            found = caller.check(number_id)
            _say(self._console, f"{found['verdict']}: {found['summary']}")
            repaired = caller.repair(number_id)
            _say(self._console, f"the repair is {repaired['status']}")
            _say(self._console, f"checked again: {caller.check(number_id)['summary']}")
            released = caller.release(number_id)
        account = self._sandbox("GET", "state")["twilio"]["accounts"][self._account.sid]
        back = account["numbers"][number]["voice_url"]
        _say(self._console, f"the release is {released['status']}; calls go to {back} again")
        if (found["verdict"], repaired["status"]) != ("drifted", "active"):
            self._complain(f"{number} was not found drifted, or not repaired")
        if released["status"] != "released" or back != UNTOUCHED_VOICE_URL:
            self._complain(f"{number} was not given back as it was")

    def _import_badly(self, phone_number: str, expected: str | None = None) -> None:
        before = self._sandbox("GET", "state")
        (job,) = self._import([self._account.order(phone_number)])
        after = self._sandbox("GET", "state")
        error = job["error"] or {}
        _json(self._console, "The error", error)
        if job["status"] != "failed":
            self._complain(f"{phone_number} is {job['status']}, not failed")
        elif expected not in {None, error.get("code")}:
            self._complain(f"{phone_number} failed with {error.get('code')}, not {expected}")
        self._console.print("\nWhat the vendors hold, before and after:", highlight=False)
        owners_before, owners_after = _by_owner(before), _by_owner(after)
        for owner in sorted(owners_before.keys() | owners_after.keys()):
            same = owners_before.get(owner) == owners_after.get(owner)
            verdict = "[green]identical[/]" if same else "[bold red]different[/]"
            things = inventory(owners_before.get(owner, {}))
            self._console.print(
                f"  {escape(owner)}: {things}: {verdict}", soft_wrap=True, highlight=False
            )
            if not same:
                self._complain(f"the failed import left something behind at {owner}")

    def _import(self, orders: Sequence[dict[str, Any]]) -> list[Job]:
        numbers = [order["phone_number"] for order in orders]
        with Board(self._console, numbers) as board, ThreadPoolExecutor(len(orders)) as threads:
            return list(threads.map(lambda order: self._follow(order, board), orders))

    def _follow(self, order: dict[str, Any], board: Board) -> Job:
        with self._caller() as caller:
            job = caller.submit(order)
            board.show(job)
            for job in caller.follow(job):  # noqa: B020 - each is a newer state of the same job
                board.show(job)
            return job

    def _count_calls(self) -> None:
        entries = self._sandbox("GET", "journal")["entries"]
        per_vendor = {
            vendor: sum(entry["vendor"] == vendor for entry in entries)
            for vendor in sorted({entry["vendor"] for entry in entries})
        }
        parts = ", ".join(f"{vendor} {count}" for vendor, count in per_vendor.items())
        _title(self._console, f"{len(entries)} vendor calls were made in all: {parts}")

    def _sandbox(self, method: str, what: str, body: object = None) -> dict[str, Any]:
        url = f"{self._stack.sandbox_url}/_sandbox/{what}"
        answer = httpx.request(method, url, json=body, trust_env=False)
        document: dict[str, Any] = answer.raise_for_status().json()
        return document

    def _caller(self) -> Caller:
        return Caller(self._stack.api_url, self._api_key)

    def _complain(self, complaint: str) -> None:
        self._complaints.append(complaint)


def _by_owner(state: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Splits the sandbox's state into what a customer would see: accounts, LiveKit's project."""
    owners: dict[str, dict[str, Any]] = {}
    for vendor, held in state.items():
        if "accounts" in held:
            accounts = held["accounts"].items()
            owners |= {f"{vendor} account {sid}": content for sid, content in accounts}
        else:
            owners[vendor] = held
    return owners


def inventory(held: Mapping[str, Any]) -> str:
    """Counts what an owner holds, by the names under which its state lists it."""
    counts = {
        name.replace("_", " "): len(things)
        for name, things in held.items()
        if isinstance(things, list | dict) and things
    }
    return ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing"


def _title(console: Console, text: str) -> None:
    console.print()
    console.print(f"[bold]{escape(text)}[/]", soft_wrap=True)


def _say(console: Console, text: str) -> None:
    console.print(f"  {escape(text)}", soft_wrap=True, highlight=False)


def _json(console: Console, title: str, document: object) -> None:
    console.print(f"\n{title}:", highlight=False)
    console.print_json(data=document)
