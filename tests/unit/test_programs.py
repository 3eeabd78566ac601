"""A program that is missing skips a test on a developer's machine, and fails it in CI."""

from __future__ import annotations

import pytest

from tests.programs import program


def test_a_program_that_is_missing_skips_unless_it_is_required(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRUNKLINE_REQUIRED", "another")
    with pytest.raises(pytest.skip.Exception, match="not installed"):  # the skip is what is tested
        program("no-such-program")
    monkeypatch.setenv("TRUNKLINE_REQUIRED", "another no-such-program")
    with pytest.raises(pytest.fail.Exception, match="required"):
        program("no-such-program")
