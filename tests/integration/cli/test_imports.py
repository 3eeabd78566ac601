"""Preflight, and a number's way in and out, in a terminal and in a pipe."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import pytest
import typer.main

from tests.integration.cli.terminal import brought_in, in_terminal, piped
from tests.rig import FOREIGN_URL, TOKEN, Customer, Rig
from worker.cli import app
from worker.cli._core import Exit

_COMMAND = typer.main.get_command(app)


def _asked(customer: Customer) -> tuple[tuple[str, ...], str]:
    """Arguments of an import or a preflight, and its standard input."""
    arguments = (customer.number, "--provider", "twilio", "--credentials", "-")
    return arguments, json.dumps(customer.request["credentials"])


def _state(rig: Rig, customer: Customer) -> object:
    return rig.outside([customer])[customer.number]


def test_preflight_takes_what_import_takes() -> None:
    commands = _COMMAND.commands  # type: ignore[attr-defined]
    options = {
        name: {
            one.name: one.opts
            for one in commands[name].params
            if one.param_type_name == "option" and one.name != "wait"
        }
        for name in ("import", "preflight")
    }
    assert options["import"] == options["preflight"]


def _all_commands() -> Mapping[str, Any]:
    found: dict[str, Any] = {}
    for name, command in _COMMAND.commands.items():  # type: ignore[attr-defined]
        inner = getattr(command, "commands", {"": command})
        found |= {f"{name} {sub}".strip(): one for sub, one in inner.items()}
    return found


@pytest.mark.parametrize(("name", "command"), _all_commands().items())
def test_every_command_has_exit_codes_an_example_and_json(name: str, command: Any) -> None:
    assert "Exit codes: 0 " in command.help
    assert f"Example: trunkline {name}" in command.help
    assert "--json" in {option for one in command.params for option in one.opts}


def test_the_command_itself_names_every_exit_code() -> None:
    epilog = str(_COMMAND.epilog)
    assert {int(code) for code in re.findall(r"\b\d+\b(?= [a-z])", epilog)} == {*Exit, 130}


def test_preflight_tells_refusals_and_changes_and_changes_nothing(rig: Rig) -> None:
    customer = rig.customer()
    before = _state(rig, customer)
    arguments, stdin = _asked(customer)
    done = piped(rig, "preflight", *arguments, stdin=stdin)
    assert done.code == 1
    assert "error number_in_use at check_ownership:" in done.err
    assert "put back on release" in done.err
    assert "warning The number has no emergency address" in done.err
    assert "update twilio number (route_number)\n" in done.out
    assert "  voice_method        GET " in done.out
    assert "create livekit dispatch_rule (create_dispatch_rule)\n" in done.out
    assert f"{customer.number} would be refused; nothing was changed\n" in done.out
    assert TOKEN not in done.out + done.err
    assert "planted" not in done.out + done.err, "a foreign URL's query was shown"
    assert _state(rig, customer) == before
    assert rig.api.get("/v1/imports", params={"phone_number": customer.number}).json() == {
        "items": [],
        "next_cursor": None,
    }


def test_preflight_answers_programs_as_the_api_does(rig: Rig) -> None:
    customer = rig.customer()
    arguments, stdin = _asked(customer)
    done = piped(rig, "preflight", *arguments, "--replace", "--json", stdin=stdin)
    assert done.code == 0
    asked = {**customer.request, "routing_mode": "webhook"}
    told = rig.api.post("/v1/imports/preflight", json=asked).json()
    assert done.json.keys() == told.keys()
    assert done.json["importable"] is True
    names = [[f["field"] for f in change.pop("fields")] for change in done.json["changes"]]
    assert done.json["changes"][0]["where"] == "twilio"
    assert names == [[f["field"] for f in change["fields"]] for change in told["changes"]]


def test_preflight_of_wrong_credentials_says_so(rig: Rig) -> None:
    customer = rig.customer()
    wrong = json.dumps({**customer.request["credentials"], "auth_token": "planted-other"})
    done = piped(rig, "preflight", *_asked(customer)[0], stdin=wrong)
    assert done.code == 1
    assert "error invalid_credentials at validate_credentials:" in done.err
    assert "planted-other" not in done.out + done.err


def test_a_terminal_of_80_columns_holds_every_line_of_a_table(rig: Rig) -> None:
    customer = rig.customer()
    path = rig.stack.run_dir / "account.json"
    path.write_text(json.dumps(customer.request["credentials"]))
    arguments = (customer.number, "--provider", "twilio", "--credentials", str(path), "--replace")
    for columns in (80, 120):
        done = in_terminal(rig, "preflight", *arguments, columns=columns)
        assert done.code == 0, done.out
        # Without colour, as was asked, also where one would say that all is well.
        assert f"{customer.number} can be imported" in done.out
        assert not re.search(r"\x1b\[(\d+;)*[349][0-7]", done.out)
        prose = ("warning",)
        lines = [one for one in done.out.splitlines() if not _plain(one).startswith(prose)]
        assert columns - 10 < max(len(_plain(one)) for one in lines) <= columns
    shown = piped(rig, "preflight", *arguments)
    row = next(one for one in shown.out.splitlines() if "voice_url" in one)
    assert FOREIGN_URL.partition("?")[0] in row
    assert "/callbacks/twilio/voice/num_" in row, "a pipe gets a line a row"


def _plain(line: str) -> str:
    """Without what makes it bold."""
    return line.replace("\x1b[1m", "").replace("\x1b[0m", "")


def test_a_release_gives_back_what_was_there_after_a_yes(rig: Rig) -> None:
    customer = rig.customer(friendly_name="Front [desk]")
    before = _state(rig, customer)
    brought_in(rig, customer)
    during = _state(rig, customer)
    unasked = piped(rig, "release", customer.number)
    assert (unasked.code, unasked.out) == (2, "")
    assert "--yes" in unasked.err
    refused = in_terminal(rig, "release", customer.number, answer="n\n")
    assert refused.code == 1
    assert f"Release {customer.number} (twilio, Front [desk])?" in refused.out
    assert "nothing was changed" in refused.out
    assert _state(rig, customer) == during
    done = in_terminal(rig, "release", customer.number, answer="y\n")
    assert done.code == 0, done.out
    assert f"release of {customer.number}: released" in done.out
    assert _state(rig, customer) == before


def test_a_release_nobody_waits_for_is_followed_later(rig: Rig) -> None:
    customer = rig.customer()
    number_id = brought_in(rig, customer)
    about = {"vendor": "twilio", "account": customer.sid}
    rig.fault(**about, action="hold", when="before", times=None)
    begun = piped(rig, "release", number_id, "--yes", "--no-wait", "--json")
    rig.sandbox.delete("/_sandbox/faults")
    rig.control("holds/release", {"proceed": True})
    assert (begun.code, begun.json["kind"]) == (3, "release")
    assert begun.json["phone_number_id"] == number_id
    done = piped(rig, "status", begun.json["id"], "--watch", "--json")
    assert (done.code, done.json["status"]) == (0, "released")
    assert set(done.json["steps"].values()) == {"undone"}
    again = piped(rig, "release", number_id, "--yes")
    assert again.code == 1
    assert "not_found" in again.err


def test_a_release_in_a_pipe_prints_what_changes_only(rig: Rig) -> None:
    customer = rig.customer()
    brought_in(rig, customer)
    done = piped(rig, "release", customer.number, "--yes")
    assert done.code == 0
    lines = done.out.splitlines()
    assert "route_number: undone" in lines
    assert not [one for one in lines if one.endswith(": done")]
    assert lines[-1].endswith(" released")


def test_a_release_that_gives_up_is_a_failure_that_says_where(rig: Rig) -> None:
    customer = rig.customer()
    brought_in(rig, customer)
    rig.fault(
        vendor="twilio", account=customer.sid, write=True, action="status", status=403, times=None
    )
    done = piped(rig, "release", customer.number, "--yes")
    assert done.code == 1
    assert "stuck" in done.out
    assert "undo gave up at route_number" in done.err
    assert "runbook" in done.err


def test_who_stops_waiting_is_told_that_the_job_goes_on(rig: Rig) -> None:
    customer = rig.customer()
    arguments, stdin = _asked(customer)
    rig.fault(vendor="twilio", account=customer.sid, action="hold", when="before", times=None)
    command = subprocess.Popen(  # noqa: S603 -- our own module and arguments
        [sys.executable, "-m", "worker.cli", "import", *arguments, "-o", "Acme"],
        env=rig.stack.environment,
        cwd=rig.stack.run_dir,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdin is not None
    command.stdin.write(stdin)
    command.stdin.close()
    command.stdin = None
    assert command.stdout is not None
    assert command.stdout.readline() == "validate_credentials: running\n"
    os.kill(command.pid, signal.SIGINT)
    _, err = command.communicate(timeout=30)
    rig.sandbox.delete("/_sandbox/faults")
    rig.control("holds/release", {})
    assert command.returncode == 3
    assert "the import goes on: trunkline status imp_" in err
    assert "Traceback" not in err
    found = rig.api.get("/v1/imports", params={"phone_number": customer.number}).json()["items"]
    assert [one["cancel_requested_at"] for one in found] == [None]


def test_a_terminal_that_cannot_draw_gets_lines_and_a_narrow_one_whole_numbers(rig: Rig) -> None:
    customer = rig.customer()
    import_id = rig.submit(customer)["id"]
    rig.wait([import_id])
    done = in_terminal(rig, "status", import_id, "--watch", term="dumb")
    assert done.code == 0, done.out
    lines = done.out.splitlines()
    assert lines[0] == "validate_credentials: done"
    assert lines[-1] == f"{import_id} active"
    assert "\x1b" not in done.out

    narrow = in_terminal(rig, "numbers", columns=34)
    assert narrow.code == 0, narrow.out
    rows = [_plain(line) for line in narrow.out.splitlines()]
    assert max(map(len, rows)) <= 34
    assert any(row.startswith(customer.number) for row in rows)
