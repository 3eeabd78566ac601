from __future__ import annotations

import json
import logging

import pytest
import structlog

from worker import logs


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
    ],
)
def test_secret_shapes_never_show(text: str) -> None:
    assert "planted" not in str(logs.redact(text))


def test_phone_numbers_keep_their_last_digits_only() -> None:
    assert logs.redact("called +14155550100 twice") == "called +…00 twice"


@pytest.mark.parametrize("name", ["auth_token", "password", "sip_password", "api_secret", "pin"])
def test_a_field_named_like_a_secret_is_hidden_at_any_depth(name: str) -> None:
    assert logs.redact({"a": [{name: "planted"}]}) == {"a": [{name: "[hidden]"}]}


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_tracebacks_show_no_values(log_format: str, capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        logs.configure(level="INFO", log_format=log_format)
        with logs.bound(job_id="j1", step="route_number"):
            try:
                planted = "planted-value"
                raise ValueError(f"https://a.example/x?token={planted}")
            except ValueError:
                structlog.get_logger("t").exception("it broke", auth_token=planted)
            logging.getLogger("library").warning("redis://u:planted-value@h:1/0")
    finally:
        root.handlers[:], root.level = handlers, level
        structlog.reset_defaults()
    shown = capsys.readouterr().err
    assert "it broke" in shown
    assert "route_number" in shown
    assert "planted-value" not in shown
    if log_format == "json":
        assert all(json.loads(line) for line in shown.splitlines())
