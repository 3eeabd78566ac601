"""The README names what callers may rely on; it must not fall behind the code."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker.domain.errors import BY_CODE
from worker.domain.job import StepName

README = (Path(__file__).parents[2] / "README.md").read_text()


@pytest.mark.parametrize("code", sorted(set(BY_CODE) - {"lease_lost"}))
def test_every_code_stands_with_its_status_and_sentence(code: str) -> None:
    error = BY_CODE[code]
    assert f"| `{code}` | {error.status} | {error.sentence} |" in README


@pytest.mark.parametrize("step", StepName)
def test_every_step_has_its_row(step: StepName) -> None:
    assert f"| `{step}` |" in README
