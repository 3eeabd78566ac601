"""How what an import made is shown; what is planned and what is read is in the contract."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from worker.providers._plivo_objects import KINDS
from worker.providers._plivo_settings import found


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"primary_uri_uuid": "uri-1"}, "ours"),
        ({"primary_uri_uuid": "uri-2"}, "another"),
        ({"primary_uri_uuid": None}, "none"),
        ({"primary_uri_uuid": ""}, "none"),
        ({}, "none"),
    ],
)
def test_what_a_trunk_refers_to_is_told_without_its_id(
    row: dict[str, object], expected: str
) -> None:
    shown = SimpleNamespace(trunk_status="enabled", secure=False, **row)
    fields = found(KINDS["inbound_trunk"], shown, {"origination_uri": "uri-1"})

    assert fields == {
        "trunk_status": "enabled",
        "secure": "false",
        "primary_uri_uuid": expected,
    }
    assert found(KINDS["inbound_trunk"], shown, {})["primary_uri_uuid"] in {"another", "none"}
