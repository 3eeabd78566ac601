from __future__ import annotations

from uuid import UUID

import pytest

from worker.domain.errors import InvalidRequest
from worker.domain.references import Reference, parse_external_id, parse_reference

HEX = "01890a5d000070008000000000000004"
ID = UUID(hex=HEX)


@pytest.mark.parametrize(
    "text",
    [
        f"agt_{HEX}",
        HEX,
        HEX.upper(),
        str(ID),
        str(ID).upper(),
        ID.urn,
    ],
)
def test_every_spelling_of_our_id_names_the_same(text: str) -> None:
    assert parse_reference("agt", text).own_id == ID


@pytest.mark.parametrize(
    "text", [f"agent_{HEX}", "65f1a0b2c3d4e5f6a7b8c9d0", "front-desk", "a:b.c"]
)
def test_any_other_id_is_the_caller_s_own(text: str) -> None:
    assert parse_reference("agt", text) == Reference(own_id=None, external_id=text)


@pytest.mark.parametrize(
    "text", ["", "a b", "a\0", "ä", "x" * 65, f"{HEX}\n", "١" * 32, f"{HEX[:8]}_{HEX[8:]}/"]
)
def test_what_is_no_id_names_nothing(text: str) -> None:
    assert parse_reference("agt", text) == Reference(own_id=None, external_id=None)


def test_an_id_of_ours_is_never_taken_for_an_external_one() -> None:
    assert parse_reference("agt", f"agt_{HEX}").external_id is None
    for prefix in ("agt", "usr", "cred"):
        with pytest.raises(InvalidRequest):
            parse_external_id(f"{prefix}_{HEX}")


@pytest.mark.parametrize("text", ["", "a b", "a\n", "x" * 65, "ä", "a/b", "\ud800"])
def test_an_external_id_has_a_shape(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_external_id(text)
    assert parse_external_id(str(ID)) == str(ID)
