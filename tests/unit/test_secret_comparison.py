"""Secrets are compared in constant time: a lint of our own code, small enough to be read."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

_PROJECT: Final = Path(__file__).parents[2]
#: Whatever holds, or is made of, something that its sender must not find out byte by byte.
_SECRET: Final = re.compile(
    r"signature|(?<!idempotency_)\bkey_?hash|secret|token|digest|hmac|password|fingerprint|proof|"
    r"_hash\b|authorization",
    re.IGNORECASE,
)
#: Comparisons whose outcome nobody outside can time.
_ALLOWED: Final = {
    # Whether one of two is missing.
    "worker/intake.py: (sip.username is None) != (sip.password is None)",
    (
        "worker/providers/_twilio_credentials.py: "
        "(self.api_key_sid is None) != (self.api_key_secret is None)"
    ),
    # Names of a status and of a column.
    "worker/selftest.py: status != (HTTPStatus.FORBIDDEN if signature is None else HTTPStatus.OK)",
    "worker/db/notifications.py: ImportJob.id == Notification.secrets_of",
    # What Twilio itself says of an account, after it has let the token in.
    "worker/providers/twilio.py: account.auth_token != token",
}


def _sources() -> list[Path]:
    return sorted(
        path
        for folder in ("api_stub", "worker")
        for path in (_PROJECT / folder).rglob("*.py")
        if "migrations" not in path.parts
    )


def _comparisons(source: str) -> list[str]:
    """Each ``==`` or ``!=`` whose either side is named like a secret, and is no constant."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Compare):
            continue
        sides = [node.left, *node.comparators]
        for operator, left, right in zip(node.ops, sides, sides[1:], strict=False):
            if not isinstance(operator, ast.Eq | ast.NotEq):
                continue
            if isinstance(left, ast.Constant) or isinstance(right, ast.Constant):
                continue
            if _SECRET.search(ast.unparse(left)) or _SECRET.search(ast.unparse(right)):
                found.append(ast.unparse(node))
    return found


def test_no_secret_is_compared_with_an_equals_sign() -> None:
    found = {
        f"{path.relative_to(_PROJECT)}: {text}"
        for path in _sources()
        for text in _comparisons(path.read_text())
    }
    assert found == set(_ALLOWED)


@pytest.mark.parametrize(
    "source",
    [
        "if signature == expected: pass",
        "if given != hmac.new(key, body).hexdigest(): pass",
        "known.secret_hash == _hash(secret)",
        "a = b < c == token",
    ],
)
def test_the_lint_finds_what_it_looks_for(source: str) -> None:
    assert _comparisons(source)


def test_a_comparison_in_constant_time_is_none() -> None:
    assert not _comparisons("hmac.compare_digest(signature, expected) and kind == 'token'")
