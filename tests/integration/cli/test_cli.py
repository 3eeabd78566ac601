"""The command as its users run it: a process, its exit code, and what it prints."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog
from cryptography.fernet import Fernet
from pydantic import SecretStr

from tests.conftest import make_settings
from worker.cli import main
from worker.db.directory import Directory
from worker.db.engine import make_engine
from worker.db.vault import Vault
from worker.settings import load

PROJECT = Path(__file__).parents[3]
TOKEN = "sandbox-token-planted"
ACCOUNT = {"account_sid": "AC" + "0" * 31 + "1", "auth_token": TOKEN}


@dataclass(frozen=True, kw_only=True)
class Done:
    """How one run of the command ended."""

    returncode: int
    stdout: str
    stderr: str


Trunkline = Callable[..., Done]


@pytest.fixture
def environment(database_url: str) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": str(PROJECT),
        "TRUNKLINE_ENV": "development",
        "TRUNKLINE_DATABASE_URL": database_url,
        "TRUNKLINE_BROKER_URL": "redis://127.0.0.1:1/0",
        "TRUNKLINE_VAULT_KEYS": Fernet.generate_key().decode(),
        "TRUNKLINE_PUBLIC_BASE_URL": "https://voice.trunkline.example",
        "TRUNKLINE_CONNECT_TIMEOUT_SECONDS": "0.5",
        "TRUNKLINE_READ_TIMEOUT_SECONDS": "0.5",
        "LIVEKIT_URL": "http://127.0.0.1:1/livekit",
        "LIVEKIT_API_KEY": "sandbox-key",
        "LIVEKIT_API_SECRET": "sandbox-secret-that-is-long-enough",
        "LIVEKIT_SIP_URI": "sip:sandbox.sip.livekit.example",
    }


@pytest.fixture
def trunkline(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Trunkline]:
    """Runs the command in this process: a new one would import for a second each time."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level

    def run(*arguments: str, stdin: str = "", **changes: str) -> Done:
        for name, value in {**environment, **changes}.items():
            monkeypatch.setenv(name, value)
        load.cache_clear()
        out, err = io.StringIO(), io.StringIO()
        monkeypatch.setattr("sys.argv", ["trunkline", *arguments])
        monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                code = 0
            except SystemExit as exit_:
                code = int(exit_.code or 0)
        return Done(returncode=code, stdout=out.getvalue(), stderr=err.getvalue())

    yield run
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()
    load.cache_clear()


def test_the_command_is_installed_and_explains_itself(environment: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "worker.cli", "doctor"],
        env={**environment, "LIVEKIT_SIP_URI": "not-a-uri"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "LIVEKIT_SIP_URI" in done.stderr


def test_missing_settings_are_named(trunkline: Trunkline) -> None:
    done = trunkline("doctor", TRUNKLINE_DATABASE_URL="", LIVEKIT_SIP_URI="not-a-uri")
    assert done.returncode == 2
    assert "LIVEKIT_SIP_URI" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_names_what_is_not_reachable(trunkline: Trunkline) -> None:
    done = trunkline("doctor", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    for name in ("clock", "vault"):
        assert found[name] == {"verdict": "ok", "advice": []}
    # The tests' own Postgres is quick and unsafe, and nobody but development may have it so.
    assert found["database"]["verdict"] == "warning"
    assert "fsync" in found["database"]["advice"][0]
    assert found["broker"]["verdict"] == found["livekit"]["verdict"] == "failed"
    assert "TRUNKLINE_BROKER_URL" in found["broker"]["advice"][0]
    assert "livekit_unavailable" in found["livekit"]["advice"][0]
    in_words = trunkline("doctor")
    assert in_words.returncode == 1
    assert re.search(r"^broker +failed\n  failed: unreachable", in_words.stdout, re.MULTILINE)
    assert re.search(r"^clock +ok\n", in_words.stdout, re.MULTILINE)


def test_doctor_tells_an_old_schema_and_a_bad_key(
    trunkline: Trunkline, environment: dict[str, str]
) -> None:
    elsewhere = environment["TRUNKLINE_DATABASE_URL"].replace("/test_", "/postgres?x=", 1)
    elsewhere = elsewhere.split("/postgres?x=")[0] + "/postgres?" + elsewhere.split("?")[-1]
    done = trunkline(
        "doctor", "--json", TRUNKLINE_DATABASE_URL=elsewhere, TRUNKLINE_VAULT_KEYS="nonsense"
    )
    found = json.loads(done.stdout)
    assert "trunkline admin migrate" in found["database"]["advice"][0]
    assert "trunkline keys new" in found["vault"]["advice"][0]


def test_doctor_tells_a_database_that_is_away_once(trunkline: Trunkline) -> None:
    done = trunkline("doctor", "--json", TRUNKLINE_DATABASE_URL="postgresql://u@127.0.0.1:1/d")
    found = json.loads(done.stdout)
    assert "TRUNKLINE_DATABASE_URL" in found["database"]["advice"][0]
    assert [found[name]["verdict"] for name in ("clock", "vault")] == ["ok", "ok"]


def test_doctor_opens_what_was_sealed_last(
    trunkline: Trunkline, environment: dict[str, str]
) -> None:
    settings = make_settings(environment["TRUNKLINE_DATABASE_URL"])
    engine = make_engine(settings)
    directory = Directory(engine)
    directory.create_credential(
        directory.create_organization("Acme"),
        provider="twilio",
        account_ref="AC1",
        label="",
        sealed=Vault([SecretStr(environment["TRUNKLINE_VAULT_KEYS"])]).seal({"auth_token": "x"}),
    )
    engine.dispose()
    assert json.loads(trunkline("doctor", "--json").stdout)["vault"]["verdict"] == "ok"
    another = Fernet.generate_key().decode()
    done = trunkline("doctor", "--json", TRUNKLINE_VAULT_KEYS=another)
    [advice] = json.loads(done.stdout)["vault"]["advice"]
    assert "sealed last" in advice
    both = trunkline(
        "doctor",
        "--json",
        TRUNKLINE_VAULT_KEYS=f"{another},{environment['TRUNKLINE_VAULT_KEYS']}",
    )
    assert json.loads(both.stdout)["vault"]["verdict"] == "ok"


def test_doctor_warns_of_what_others_can_read(
    trunkline: Trunkline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = tmp_path / ".env"
    file.touch(0o644)
    monkeypatch.delenv("FLOWER_BASIC_AUTH", raising=False)
    advice = json.loads(trunkline("doctor", "--json").stdout)["settings"]["advice"]
    assert [one for one in advice if "chmod 600 .env" in one]
    assert [one for one in advice if "FLOWER_BASIC_AUTH" in one]
    file.chmod(0o600)
    done = trunkline("doctor", "--json", FLOWER_BASIC_AUTH="operator:sandbox-flower")
    advice = json.loads(done.stdout)["settings"]["advice"]
    assert not [one for one in advice if ".env" in one or "FLOWER" in one]


def test_unsafe_settings_are_all_named_and_not_repeated(trunkline: Trunkline) -> None:
    done = trunkline("doctor", TRUNKLINE_ENV="production", TRUNKLINE_VAULT_KEYS="planted")
    assert done.returncode == 2
    for name in ("TRUNKLINE_VAULT_KEYS", "LIVEKIT_API_KEY", "LIVEKIT_API_SECRET"):
        assert name in done.stderr
    assert "planted" not in done.stderr


def test_an_import_is_accepted_though_the_broker_is_away(trunkline: Trunkline) -> None:
    made = json.loads(trunkline("admin", "bootstrap", "-o", "Acme", "--json").stdout)
    assert made["organization_id"].startswith("org_")
    assert made["api_key"].startswith("tl_")
    done = trunkline(
        *("import", "+14155550100", "-o", "Acme", "--provider", "twilio"),
        *("--credentials", "-", "--no-wait", "--json"),
        stdin=json.dumps(ACCOUNT),
    )
    job = json.loads(done.stdout)
    assert (done.returncode, job["status"]) == (3, "queued")
    assert TOKEN not in done.stdout + done.stderr
    shown = trunkline("status", job["id"], "-o", "Acme")
    assert shown.returncode == 3
    assert f"{job['id']} queued" in shown.stdout
    again = trunkline(
        *("import", "+14155550100", "-o", "Acme", "--provider", "twilio", "--credentials", "-"),
        stdin=json.dumps(ACCOUNT),
    )
    assert again.returncode == 1
    assert "number_already_imported" in again.stderr


@pytest.mark.parametrize(
    ("arguments", "stdin", "code", "says"),
    [
        (("+14155550100",), "{", 2, "not JSON"),
        (("+14155550100",), "[]", 2, "one JSON object"),
        (("4155550100",), json.dumps(ACCOUNT), 1, "invalid_phone_number"),
        (("+14155550100",), json.dumps({**ACCOUNT, "account_sid": "AC1"}), 1, "account_sid"),
        (("+14155550100", "--agent-id", "agt_x"), json.dumps(ACCOUNT), 1, "agent_not_found"),
        (("+14155550100", "--mode", "fax"), json.dumps(ACCOUNT), 2, "--mode"),
    ],
)
def test_bad_input_is_one_clear_message(
    trunkline: Trunkline, arguments: tuple[str, ...], stdin: str, code: int, says: str
) -> None:
    trunkline("admin", "bootstrap", "-o", "Acme")
    done = trunkline(
        *("import", *arguments, "-o", "Acme", "--provider", "twilio", "--credentials", "-"),
        stdin=stdin,
    )
    assert done.returncode == code, done.stderr
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert TOKEN not in done.stdout + done.stderr


def test_unknown_names_are_told_what_to_do(trunkline: Trunkline) -> None:
    done = trunkline("status", "imp_1", "-o", "Nobody")
    assert done.returncode == 1
    assert "trunkline admin bootstrap" in done.stderr


def test_keys_are_rotated_and_the_old_one_can_go(
    trunkline: Trunkline, environment: dict[str, str]
) -> None:
    trunkline("admin", "bootstrap", "-o", "Acme")
    trunkline(
        *("import", "+14155550100", "-o", "Acme", "--provider", "twilio"),
        *("--credentials", "-", "--no-wait"),
        stdin=json.dumps(ACCOUNT),
    )
    old = environment["TRUNKLINE_VAULT_KEYS"]
    new = trunkline("keys", "new").stdout.strip()
    lonely = trunkline("keys", "rotate", TRUNKLINE_VAULT_KEYS=new)
    assert lonely.returncode == 1
    assert "add the key it was sealed with" in lonely.stderr
    done = trunkline("keys", "rotate", TRUNKLINE_VAULT_KEYS=f"{new},{old}")
    assert (done.returncode, done.stdout.split()[0]) == (0, "2")
    assert trunkline("keys", "rotate", TRUNKLINE_VAULT_KEYS=new).returncode == 0


def test_an_unreachable_database_is_one_clear_message(trunkline: Trunkline) -> None:
    done = trunkline(
        "admin",
        "bootstrap",
        "-o",
        "A",
        TRUNKLINE_DATABASE_URL="postgresql://a:planted@127.0.0.1:1/d",
    )
    assert done.returncode == 1
    assert "trunkline doctor" in done.stderr
    assert "planted" not in done.stderr


def test_chores_answer_in_json(trunkline: Trunkline) -> None:
    def asked(*arguments: str) -> Any:
        done = trunkline(*arguments, "--json")
        assert (done.returncode, done.stderr) == (0, "")
        return json.loads(done.stdout)

    assert set(asked("admin", "migrate")) == {"revision"}
    Fernet(asked("keys", "new")["key"])
    asked("admin", "bootstrap", "-o", "Acme")
    made = asked("admin", "create-agent", "Desk", "-o", "Acme", "--dispatch-name", "desk")
    assert made["id"].startswith("agt_")
    assert asked("keys", "rotate") == {"sealed": 0}


@pytest.mark.parametrize(
    "arguments", [["admin", "bootstrap", "-o", "Acme"], ["credentials", "list", "-o", "Acme"]]
)
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_whoever_stops_reading_hears_no_complaint(
    trunkline: Trunkline, environment: dict[str, str], arguments: list[str], more: list[str]
) -> None:
    trunkline("admin", "bootstrap", "-o", "Acme")
    theirs, ours = os.pipe()
    # As `head` does once it has its lines.
    os.close(theirs)
    try:
        done = subprocess.run(  # noqa: S603 -- our own module and arguments
            [sys.executable, "-m", "worker.cli", *arguments, *more],
            env=environment,
            stdout=ours,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(ours)
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["trunkline", "re"], {"release"}),
        (["trunkline", "credentials", "ro"], {"rotate"}),
        (["trunkline", "import", "--provider", "t"], {"twilio", "telnyx"}),
        (["trunkline", "numbers", "--j"], {"--json"}),
    ],
)
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_options_and_values(
    trunkline: Trunkline, shell: str, words: list[str], wanted: set[str]
) -> None:
    asking = {
        "bash": {"COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": " ".join(words)},
        "fish": {
            "_TYPER_COMPLETE_ARGS": " ".join(words),
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        },
    }[shell]
    done = trunkline(**asking, _TRUNKLINE_COMPLETE=f"complete_{shell}")

    assert done.returncode == 0
    assert set(re.findall(r"(?<![\w-])(?:--)?[a-z]+", done.stdout)) >= wanted


def test_a_shell_that_read_the_script_completes(environment: dict[str, str]) -> None:
    """Bash, which every machine has: with the script as the command prints it."""
    program = Path(sys.executable).with_name("trunkline")
    script = """
        source <(_TRUNKLINE_COMPLETE=source_bash trunkline)
        COMP_WORDS=(trunkline credentials ro) COMP_CWORD=2
        _trunkline_completion trunkline
        echo "completed: ${COMPREPLY[*]}"
    """
    done = subprocess.run(  # noqa: S603 -- our own script
        ["/bin/bash", "--norc", "-c", script],
        env={**environment, "PATH": f"{program.parent}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "completed: rotate" in done.stdout, done
