from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest
import structlog

from worker import logs

FORMATS = pytest.mark.parametrize("log_format", ["json", "console"])
#: What steers a terminal, ends a line or turns the letters after it round.
STEERING = (
    "\x1b[2J\x1b]8;;http://evil.example\x07 \r\n\x0b\x0c\x85\u2028\u202e\u2066\x00\x7f\x9b31m"
)


@pytest.fixture
def configured() -> Iterator[Callable[..., None]]:
    """Configures logs as a process does, and puts everything back."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    levels = {
        name: logger.level
        for name, logger in logging.root.manager.loggerDict.items()
        if isinstance(logger, logging.Logger)
    }
    yield logs.configure
    for name, logger in logging.root.manager.loggerDict.items():
        if isinstance(logger, logging.Logger):
            logger.setLevel(levels.get(name, logging.NOTSET))
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    "text",
    [
        "Authorization: Bearer planted.secret",
        "Basic cGxhbnRlZDpzZWNyZXQ=planted",
        "redis://user:planted@127.0.0.1:6379/0",
        "https://a.example/voice?key=planted",
        "key tl_abcdefghij_planted-secret",
        "signed with whsec_planted+/secret=",
        "eyJhbGciOiJIUzI1NiJ9.planted.planted",
        "GET /hook?key=planted HTTP/1.1",
        "{'auth_token': 'planted', 'x': 1}",
        '{"password": "planted"}',
        "X-Api-Key: planted",
        "headers={'Authorization': b'Basic cGxhbnRlZA==planted'}",
        "X-Twilio-Signature: planted=",
        "sip_password=planted&x=1",
        f"key {'planted' * 6}x=",
        "KEY0123456789ABCDEF0123456789ABCDEF_planted",
        "duplicate key\nDETAIL:  Key (external_id)=(planted) already exists.",
    ],
)
def test_secret_shapes_never_show(text: str) -> None:
    assert "planted" not in str(logs.redact(text))


def test_phone_numbers_keep_their_last_digits_only() -> None:
    assert logs.redact("called +14155550100 twice") == "called +…00 twice"


@pytest.mark.parametrize(
    "name",
    [
        *("auth_token", "password", "sip_password", "api_secret", "pin", "X-Api-Key", "apikey"),
        *("X-Twilio-Signature", "private_key", "passwd", "vault_keys", "Cookie"),
    ],
)
def test_a_field_named_like_a_secret_is_hidden_at_any_depth(name: str) -> None:
    assert logs.redact({"a": [{name: "planted"}]}) == {"a": [{name: "[hidden]"}]}


def test_what_is_no_text_is_redacted_as_well() -> None:
    class Strange:
        def __repr__(self) -> str:
            return "redis://user:planted@h"

    values = [b"Bearer planted.secret", ValueError("redis://u:planted@h"), Strange(), {Strange()}]
    for value in values:
        assert "planted" not in str(logs.redact(value))
        assert "planted" not in str(logs.redact({"a": [value]}))
        assert "planted" not in str(logs.redact({value if isinstance(value, bytes) else "a": 1}))
    assert logs.redact([1, 2.5, None, True]) == [1, 2.5, None, True]


def test_what_tells_nothing_stays() -> None:
    for text in (
        "imp_01890a5d000070008000000000000001",
        "imp_1/route_number/1",
        "0d5ae5cdd4b84c3b9a7d6d4c8a6f1b2e",
        "POST /v1/imports/{import_id}",
        "step done",
        "2026-01-31T12:00:00.123456Z",
    ):
        assert logs.redact(text) == text


@FORMATS
def test_tracebacks_show_no_values(
    log_format: str, configured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    configured(level="INFO", log_format=log_format)
    with logs.bound(job_id="j1", step="route_number"):
        try:
            planted = "planted-value"
            raise ValueError(f"https://a.example/x?token={planted}")
        except ValueError:
            structlog.get_logger("worker.t").exception("it broke", auth_token=planted)
        logging.getLogger("library").warning("redis://u:planted-value@h:1/0")
    shown = capsys.readouterr().err
    assert "it broke" in shown
    assert "route_number" in shown
    assert "planted-value" not in shown
    if log_format == "json":
        assert all(json.loads(line) for line in shown.splitlines())


@FORMATS
def test_nothing_that_is_logged_begins_a_line_or_steers_a_terminal(
    log_format: str, configured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    configured(level="INFO", log_format=log_format)
    said = f"a{STEERING}b"
    logger = structlog.get_logger("worker.t")
    logger.info(said, name=said, inside={said: [said, said.encode()]}, error=ValueError(said))
    logging.getLogger("library").warning("%s", said)
    logging.getLogger(f"library{said}").warning("said")
    with logs.bound(request_id=said):
        logger.info("bound")
    shown = capsys.readouterr().err

    assert len(shown.split("\n")) == 5
    assert shown.replace("\n", "").isprintable()


@FORMATS
def test_a_traceback_cannot_be_taken_for_a_line_of_the_log(
    log_format: str, configured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    configured(level="INFO", log_format=log_format)
    forged = "2026-01-31T12:00:00.123456Z [info     ] step done"
    try:
        raise ValueError(f"no{STEERING}\n{forged}")
    except ValueError:
        structlog.get_logger("worker.t").exception("it broke")
    shown = capsys.readouterr().err

    assert shown.replace("\n", "").isprintable()
    lines = shown.splitlines()
    if log_format == "json":
        [line] = lines
        assert forged in json.loads(line)["exception"]
    else:
        assert not lines[0].startswith(" ")
        assert all(line.startswith("  ") for line in lines[1:])
        assert f"  {forged}" in lines


@FORMATS
def test_no_line_is_longer_than_a_log_can_bear(
    log_format: str, configured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    configured(level="INFO", log_format=log_format)
    long = "x" * 5_000_000
    logger = structlog.get_logger("worker.t")
    logger.info(long, name=long, many=[long[:20]] * 100_000)
    try:
        raise ValueError(long)
    except ValueError:
        logger.exception("it broke")
    shown = capsys.readouterr().err
    assert len(shown) < 60_000
    assert "more…" in shown.encode().decode("unicode_escape") or "more…" in shown


@pytest.mark.parametrize(
    "text", ["http://" * 20_000, "a-" * 100_000, "x" * 200_000, "+1" * 100_000, "/" * 200_000]
)
def test_no_text_keeps_the_redaction_busy(text: str) -> None:
    began = time.process_time()
    logs.redact(text)
    assert time.process_time() - began < 1


def test_libraries_are_not_heard_below_a_warning(
    configured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """Each prints, at DEBUG, headers, bodies or URLs of what it sends."""
    configured(level="DEBUG", log_format="json")
    for name in (
        *("twilio.http_client", "telnyx", "telnyx._base_client", "plivo", "livekit", "httpx"),
        *("httpcore.http11", "urllib3.connectionpool", "requests", "aiohttp.client", "asyncio"),
        *("celery.app.trace", "celery.worker.strategy", "kombu", "amqp", "redis", "tornado.access"),
        *("sqlalchemy.engine.Engine", "psycopg", "psycopg.pool", "a_library_of_tomorrow"),
    ):
        logging.getLogger(name).info("planted")
        logging.getLogger(name).debug("planted")
    structlog.get_logger("worker.steps").debug("ours")
    logging.getLogger("uvicorn.error").info("theirs")
    shown = capsys.readouterr().err
    assert "planted" not in shown
    assert "ours" in shown
    assert "theirs" in shown


def test_the_level_is_kept_where_it_is_higher(
    configured: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    configured(level="ERROR", log_format="json")
    structlog.get_logger("worker.t").warning("quiet")
    logging.getLogger("library").warning("quiet")
    logging.getLogger("uvicorn.error").warning("quiet")
    assert capsys.readouterr().err == ""


LAST_WORDS = """
import sys, threading, warnings
from worker import logs
logs.configure(level="INFO", log_format="json")
logs.adopt_last_words()
def fall():
    raise ValueError("redis://user:planted@h" + chr(27) + "[2J")
thread = threading.Thread(target=fall)
thread.start()
thread.join()
warnings.warn("redis://user:planted@h")
fall()
"""


def test_what_nobody_caught_goes_the_same_way() -> None:
    done = subprocess.run(  # noqa: S603 -- our own interpreter and text
        [sys.executable, "-c", LAST_WORDS], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in lines if line["level"] == "critical"] == ["uncaught"] * 2
    assert [line["logger"] for line in lines].count("py.warnings") == 1
    assert "planted" not in done.stderr
    assert "ValueError" in done.stderr
