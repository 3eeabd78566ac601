"""One module a provider; they are found here, so that a new one changes no other file."""

from __future__ import annotations

import importlib
import pkgutil
from typing import Final

import pytest

from tests.contract.providers.case import ProviderCase
from worker.domain.values import ProviderName


def _find() -> dict[ProviderName, ProviderCase]:
    modules = (
        importlib.import_module(f"{__name__}.{module.name}")
        for module in pkgutil.iter_modules(__path__)
    )
    return {module.CASE.name: module.CASE for module in modules}


CASES: Final = _find()
#: A SIP carrier has no API that could fail or disagree: tests/unit/providers/test_sip.py.
WITHOUT_API: Final = {ProviderName.SIP}
assert CASES.keys() == set(ProviderName) - WITHOUT_API, "a provider has no harness"


def each(attribute: str) -> list[pytest.ParameterSet]:
    """Returns every provider's examples of a kind, for ``parametrize(..., indirect=["case"])``."""
    return [
        pytest.param(case, example, id=f"{case.name}-{example.id}")
        for case in CASES.values()
        for example in getattr(case, attribute)
    ]
