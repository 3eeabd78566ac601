"""The numbers of a CSV file on the command line: in, followed, and what failed in once more."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
import re
import signal
import stat
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.cli.terminal import Done, in_terminal, piped
from tests.rig import FOREIGN_URL, TOKEN, Rig

_serial = itertools.count(1)
_PASSWORD = "planted-sip-password"
_ERRORS = ["error_batch", "error_line", "error_code", "error_message"]


@dataclass(frozen=True, kw_only=True)
class Fleet:
    """A Twilio account with some numbers, and where its files are."""

    sid: str
    numbers: Sequence[str]
    folder: Path

    @property
    def options(self) -> tuple[str, ...]:
        path = self.folder / "account.json"
        path.write_text(json.dumps({"account_sid": self.sid, "auth_token": TOKEN}))
        return ("--provider", "twilio", "--credentials", str(path), "--replace")

    def file(self, text: str, name: str = "numbers.csv") -> str:
        path = self.folder / name
        path.write_text(text)
        return str(path)


def _fleet(rig: Rig, folder: Path, count: int) -> Fleet:
    serial = next(_serial)
    sid = f"ACc{serial:031x}"
    numbers = [f"+1{730 + serial}{2_000_000 + place:07}" for place in range(count)]
    held = [{"phone_number": number, "voice_url": FOREIGN_URL} for number in numbers]
    account = {"sid": sid, "auth_token": TOKEN, "numbers": held}
    rig.control("seed", {"twilio": {"accounts": [account]}})
    return Fleet(sid=sid, numbers=numbers, folder=folder)


def _lines(numbers: Sequence[str]) -> str:
    return "phone_number\n" + "".join(f"{number}\n" for number in numbers)


def _batch_id(done: Done) -> str:
    found = re.search(r"bat_[0-9a-f]{32}", done.out)
    assert found is not None, done
    return found.group()


def _jobs(rig: Rig, fleet: Fleet) -> dict[str, int]:
    """How many jobs each number of an account ever had."""
    query = f"SELECT e164, count(*) FROM import_jobs WHERE account_ref = '{fleet.sid}' GROUP BY 1"  # noqa: S608 -- our own id
    return dict(rig.sql(query))


def _rows(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(path.read_text(), newline="")))


def test_every_number_of_a_file_comes_in_once_however_often_it_is_run(
    rig: Rig, tmp_path: Path
) -> None:
    fleet = _fleet(rig, tmp_path, 4)
    file = fleet.file(_lines(fleet.numbers))
    first = piped(rig, "import", file, *fleet.options)
    assert (first.code, first.err) == (0, "")
    batch_id = _batch_id(first)
    assert first.out.startswith(f"{batch_id}: 4 numbers of {file}\n")
    assert first.out.endswith(f"{batch_id} finished: 4 active\n")
    account = rig.state()["twilio"]["accounts"][fleet.sid]["numbers"]
    for number in fleet.numbers:
        assert "/callbacks/twilio/voice/" in account[number]["voice_url"]
    again = piped(rig, "import", file, *fleet.options)
    assert (again.code, _batch_id(again)) == (0, batch_id)
    assert "warning This file was submitted already, at " in again.err
    assert _jobs(rig, fleet) == dict.fromkeys(fleet.numbers, 1)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["account.json", "numbers.csv"]
    shown = piped(rig, "batches", batch_id)
    assert (shown.code, shown.out) == (0, f"{batch_id} finished: 4 active\n")


def test_rows_that_failed_can_be_put_right_and_imported_in_their_turn(
    rig: Rig, tmp_path: Path
) -> None:
    fleet = _fleet(rig, tmp_path, 3)
    good, missing = fleet.numbers[0], f"{fleet.numbers[0][:-4]}9999"
    header = (
        "phone_number,metadata.note,sip.address,sip.username,sip.password,"
        "credentials.account_sid,credentials.auth_token"
    )
    rest = f"sip.example.com,acme,{_PASSWORD},{fleet.sid},{TOKEN}"
    original = [
        f'{good},"Desk, ""front""",{rest}',
        f'{missing},"two\nlines",{rest}',
        f"{TOKEN},wrong column,{rest}",
        f"{good},twice,{rest}",
        f"{fleet.numbers[1]},too few,sip.example.com,acme,{_PASSWORD}",
    ]
    file = fleet.file("\n".join([header, *original]) + "\n")
    options = ("--provider", "twilio", "--replace")
    done = piped(rig, "import", file, *options)
    assert done.code == 1
    failed = tmp_path / "numbers.failed.csv"
    told = [line.split()[:3] for line in done.out.splitlines() if re.match(r"\d+  ", line)]
    assert told == [
        ["3", missing, "number_not_owned"],
        ["5", "-", "invalid_phone_number"],
        ["6", good, "number_already_imported"],
        ["7", "-", "invalid_request"],
    ]
    assert f"Rows that did not end active: {failed}." in done.out
    assert stat.S_IMODE(failed.stat().st_mode) == 0o600
    head, *rows = _rows(failed)
    assert head == [*_ERRORS, *header.split(",")]
    assert [row[:3] for row in rows] == [[_batch_id(done), line, code] for line, _, code in told]
    assert all(row[3] for row in rows), "each says what to do"
    as_they_were = list(csv.reader(io.StringIO("\n".join(original[1:]), newline="")))
    assert [row[4:] for row in rows] == as_they_were
    before = failed.read_bytes()
    assert piped(rig, "import", file, *options).code == 1
    assert failed.read_bytes() == before, "nobody's corrections are lost"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["numbers.csv", "numbers.failed.csv"]

    failed.write_bytes(before.replace(missing.encode(), fleet.numbers[2].encode()))
    second = piped(rig, "import", str(failed), *options)
    assert (second.code, second.err) == (1, "")
    assert _batch_id(second) != _batch_id(done)
    assert f"{_batch_id(second)} finished: 1 active, 3 refused\n" in second.out
    third = tmp_path / "numbers.failed.failed.csv"
    head, *rows = _rows(third)
    assert head == [*_ERRORS, *header.split(",")], "the errors of before are gone"
    assert [row[4:] for row in rows] == as_they_were[1:], "also where cells are missing"
    same = piped(rig, "import", str(third), *options)
    assert _batch_id(same) != _batch_id(second), "an unchanged row is tried again"
    for one in (done, second, same):
        assert TOKEN not in one.out + one.err
        assert _PASSWORD not in one.out + one.err


def test_failures_never_overwrite_another_file(rig: Rig, tmp_path: Path) -> None:
    fleet = _fleet(rig, tmp_path, 0)
    file = fleet.file(_lines(["+12025550111"]), "Numbers.CSV")
    others = tmp_path / "Numbers.failed.csv"
    others.write_text("kept")
    target = tmp_path / "target"
    (tmp_path / "Numbers.failed-2.csv").symlink_to(target)
    done = piped(rig, "import", file, *fleet.options)
    assert done.code == 1
    third = tmp_path / "Numbers.failed-3.csv"
    assert f"Rows that did not end active: {third}." in done.out
    assert _rows(third)[1][2:3] == ["number_not_owned"]
    assert others.read_text() == "kept"
    assert not target.exists(), "a link was followed"


def test_failures_are_told_where_no_file_can_be_written(rig: Rig, tmp_path: Path) -> None:
    fleet = _fleet(rig, tmp_path, 0)
    # As long as a name may be, so none with more in it can be made; also for root.
    file = fleet.file(_lines(["+12025550112"]), "n" * 251 + ".csv")
    done = piped(rig, "import", file, *fleet.options)
    assert done.code == 1
    assert "cannot be written: File name too long. The failures are only listed." in done.err
    assert "+12025550112  number_not_owned" in done.out


def test_who_interrupts_is_told_that_the_batch_goes_on_and_can_follow_it_again(
    rig: Rig, tmp_path: Path
) -> None:
    fleet = _fleet(rig, tmp_path, 3)
    file = fleet.file(_lines(fleet.numbers))
    rig.fault(vendor="twilio", account=fleet.sid, action="hold", when="before", times=None)
    command = subprocess.Popen(  # noqa: S603 -- our own module and arguments
        [sys.executable, "-m", "worker.cli", "import", file, *fleet.options, "-o", "Acme"],
        env=rig.stack.environment,
        cwd=rig.stack.run_dir,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert command.stdout is not None
    first, second = command.stdout.readline(), command.stdout.readline()
    assert second.startswith("0/3 "), first
    os.kill(command.pid, signal.SIGINT)
    out, err = command.communicate(timeout=30)
    batch_id = first.partition(":")[0]
    assert command.returncode == 3
    assert f"batch {batch_id} goes on; the same command again follows it" in err
    assert "Traceback" not in err
    assert "failed" not in out
    assert piped(rig, "batches", batch_id).code == 3
    not_waited = piped(rig, "import", file, *fleet.options, "--no-wait")
    assert (not_waited.code, _batch_id(not_waited)) == (3, batch_id)
    assert "warning This file was submitted already" in not_waited.err
    rig.sandbox.delete("/_sandbox/faults")
    rig.control("holds/release", {})
    resumed = piped(rig, "import", file, *fleet.options)
    assert (resumed.code, _batch_id(resumed)) == (0, batch_id), resumed.err
    assert resumed.out.endswith(f"{batch_id} finished: 3 active\n")
    assert _jobs(rig, fleet) == dict.fromkeys(fleet.numbers, 1)


def test_a_file_on_standard_input_is_told_to_programs_as_the_api_tells_it(
    rig: Rig, tmp_path: Path
) -> None:
    fleet = _fleet(rig, tmp_path, 1)
    given = _lines([*fleet.numbers, "nonsense"])
    done = subprocess.run(  # noqa: S603 -- our own module and arguments
        [
            *(sys.executable, "-m", "worker.cli", "import", "-"),
            *(*fleet.options, "-o", "Acme", "--json"),
        ],
        env={**rig.stack.environment, "PYTHONPATH": str(Path(__file__).parents[3])},
        cwd=tmp_path,
        input=given.encode(),
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    shown = json.loads(done.stdout)
    failed = tmp_path / shown.pop("failed_file")
    assert failed.name == f"{shown['id']}.failed.csv"
    assert _rows(failed)[1][4:] == ["nonsense"]
    told = rig.api.get(f"/v1/batches/{shown['id']}").json()
    for one in (shown, told):
        one.pop("created_at")
    told.pop("next_cursor")
    assert shown == told
    assert piped(rig, "batches", shown["id"], "--json").json["items"] == told["items"]


def test_a_batch_is_listed_and_cancelled(rig: Rig, tmp_path: Path) -> None:
    fleet = _fleet(rig, tmp_path, 2)
    rig.stack.bootstrap("Elsewhere")
    rig.fault(vendor="twilio", account=fleet.sid, action="hold", when="before", times=None)
    file = fleet.file(_lines(fleet.numbers))
    batch_id = _batch_id(piped(rig, "import", file, *fleet.options, "--no-wait"))
    listed = [line.split()[:3] for line in piped(rig, "batches").out.splitlines()]
    assert listed[:2] == [["batch", "status", "active"], [batch_id, "running", "0/2"]]
    theirs = piped(rig, "batches", batch_id, "--cancel", organization="Elsewhere")
    assert (theirs.code, theirs.out) == (1, "")
    assert "not_found" in theirs.err
    asked = piped(rig, "batches", batch_id, "--cancel")
    assert asked.code in (0, 3), asked.err
    rig.sandbox.delete("/_sandbox/faults")
    rig.control("holds/release", {})
    done = piped(rig, "batches", batch_id, "--cancel", "--watch")
    assert done.code == 0, done.err
    assert f"{batch_id} finished: 2 cancelled\n" in done.out
    assert piped(rig, "batches", batch_id).code == 1, "none is active"
    account = rig.state()["twilio"]["accounts"][fleet.sid]["numbers"]
    assert {account[number]["voice_url"] for number in fleet.numbers} == {FOREIGN_URL}
    assert piped(rig, "batches", "--watch").code == 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing.csv", None, "missing.csv cannot be read: No such file or directory"),
        (".", None, "cannot be read: Is a directory"),
        ("numbers.txt", "phone_number,planted-1\n", "Column 2, (name not shown)"),
        ("numbers.csv", "phone_number,provider\n", "The batch has no numbers."),
        ("numbers.csv", "phone_number\n+12025550113\n", "has no column provider"),
    ],
)
def test_a_file_that_cannot_be_read_submits_nothing(
    rig: Rig, tmp_path: Path, name: str, content: str | None, message: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    before = rig.sql("SELECT count(*) FROM batches")
    done = piped(rig, "import", str(tmp_path / name))
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert "planted" not in done.err
    assert rig.sql("SELECT count(*) FROM batches") == before


def test_a_number_needs_its_provider(rig: Rig) -> None:
    done = piped(rig, "import", "+12025550114")
    assert done.code == 2
    assert "--provider" in done.err


def test_a_terminal_of_80_columns_shows_how_far_it_is(rig: Rig, tmp_path: Path) -> None:
    fleet = _fleet(rig, tmp_path, 3)
    rows = [*(f"{one},twilio" for one in fleet.numbers), *["+1202555,planted-2"] * 40]
    file = fleet.file("phone_number,provider\n" + "\n".join(rows) + "\n")
    done = in_terminal(rig, "import", file, *fleet.options)
    assert done.code == 1
    frame = done.out[done.out.rindex("\x1b[2K") :].splitlines()
    assert re.search(r"━ 43/43  \d+:\d\d$", frame[0])
    assert len(frame[0].removeprefix("\x1b[2K")) == 80
    assert frame[1] == "3 active, 40 refused"
    assert "other 40/40  twilio 3/3" in frame[2]
    assert "and 10 more: 10 invalid_phone_number" in done.out, "the file has them all"
    assert len(_rows(tmp_path / "numbers.failed.csv")) == 41
    assert "planted" not in done.out
    prose = (f"{_batch_id(done)}: ", "Rows that")
    long = [one for one in done.out.splitlines() if len(re.sub(r"\x1b\[[?0-9;]*\w", "", one)) > 80]
    assert [line for line in long if not line.startswith(prose)] == []
