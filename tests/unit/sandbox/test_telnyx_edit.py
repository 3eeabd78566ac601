from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.sandbox.test_telnyx import (
    ACCOUNT,
    FQDN_CONNECTION,
    NUMBER,
    NUMBER_ID,
    OUTBOUND,
    PASSWORD,
    SEED,
    TEXML,
    THEIRS,
    Api,
    give_numbers,
)

if TYPE_CHECKING:
    from tests.unit.sandbox.conftest import Control


@pytest.fixture
def telnyx(control: Control) -> Api:
    control.post("/seed", {"telnyx": SEED})
    return Api(control)


def edit(telnyx: Api, kind: str, found: str, **change: object) -> int:
    where = {"vendor": "telnyx", "account": ACCOUNT, "kind": kind, "id": found}
    return int(telnyx.control.http.post("/edit", json={**where, **change}).status_code)


def test_an_object_is_changed_by_hand_within_its_groups(telnyx: Api) -> None:
    made = telnyx.post("/fqdn_connections", {**FQDN_CONNECTION, "active": True})
    given = {"active": False, "inbound": {"dnis_number_format": "+e164"}}

    assert edit(telnyx, "fqdn_connection", made["id"], set=given) == 200

    found = telnyx.get(f"/fqdn_connections/{made['id']}")
    assert found["active"] is False
    assert found["inbound"] == {**made["inbound"], "dnis_number_format": "+e164"}


def test_a_login_that_was_taken_off_is_free_again(telnyx: Api) -> None:
    login = {"user_name": "user1", "password": PASSWORD}
    made = telnyx.post("/fqdn_connections", {**FQDN_CONNECTION, **login})
    given = {"user_name": None, "password": None}

    assert edit(telnyx, "fqdn_connection", made["id"], set=given) == 200

    other = telnyx.post("/fqdn_connections", {"connection_name": "other", **login})
    assert other["user_name"] == "user1"


def test_what_is_removed_by_hand_is_taken_off_first(telnyx: Api) -> None:
    profile = telnyx.post("/outbound_voice_profiles", OUTBOUND)["id"]
    outbound = {"outbound_voice_profile_id": profile}
    made = telnyx.post("/fqdn_connections", {**FQDN_CONNECTION, "outbound": outbound})["id"]
    fqdn = {"connection_id": made, "fqdn": "x.example.com", "dns_record_type": "a"}
    telnyx.post("/fqdns", fqdn)
    telnyx.patch(f"/phone_numbers/{NUMBER_ID}", {"connection_id": made})

    assert edit(telnyx, "outbound_voice_profile", profile, remove=True) == 200
    connection = telnyx.get(f"/fqdn_connections/{made}")
    assert connection["outbound"]["outbound_voice_profile_id"] is None

    assert edit(telnyx, "fqdn_connection", made, remove=True) == 200
    assert telnyx.get(f"/phone_numbers/{NUMBER_ID}")["connection_id"] is None
    assert telnyx.rows("/fqdns") == []
    assert telnyx.refusal("GET", f"/fqdn_connections/{made}") == (404, "10005")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("texml_application", {"set": {"colour": "red"}}),
        ("texml_application", {"set": {"voice_url": ""}}),
        ("texml_application", {"set": {"voice_url": "http://localhost/"}}),
        ("texml_application", {"set": {"active": "no"}}),
        ("texml_application", {"set": {"outbound": {"outbound_voice_profile_id": "9"}}}),
        ("fqdn_connection", {"set": {"active": False}}),
        ("no_such_kind", {"remove": True}),
        ("texml_application", {"colour": "red"}),
    ],
)
def test_what_cannot_be_is_refused_and_changes_nothing(
    telnyx: Api, kind: str, change: dict[str, Any]
) -> None:
    made = telnyx.post("/texml_applications", TEXML)["id"]
    before = telnyx.state()

    assert edit(telnyx, kind, made, **change) == 400
    assert edit(telnyx, "texml_application", "999", remove=True) == 400
    assert edit(telnyx, "ip_connection", THEIRS, remove=True) == 400
    assert telnyx.state() == before


def test_messaging_settings_are_listed_by_exact_number(telnyx: Api) -> None:
    give_numbers(telnyx, "+14155550101", "+141555501011", sms=False)
    path, name = "/phone_numbers/messaging", "filter[phone_number]"

    rows = telnyx.rows(path, **{name: f"{NUMBER},+14155550101"})

    assert [row["phone_number"] for row in rows] == ["+14155550101", NUMBER]
    assert rows[0]["features"]["sms"] is None
    assert len(telnyx.rows(path)) == 3
    assert telnyx.rows(path, **{name: "+1415555010"}) == []
    assert telnyx.refusal("GET", path, **{"filter[x]": "1"}) == (422, "10015")


def test_a_number_shows_what_else_it_does(telnyx: Api) -> None:
    given = {
        "emergency_status": "active",
        "call_recording_enabled": True,
        "inbound_call_screening": "reject_calls",
    }
    where = {"vendor": "telnyx", "account": ACCOUNT, "phone_number": NUMBER}
    telnyx.control.post("/edit", {**where, "set": given})

    number = telnyx.get(f"/phone_numbers/{NUMBER_ID}")
    assert given.items() <= number.items()
    assert number["emergency_enabled"] is True
    voice = telnyx.get(f"/phone_numbers/{NUMBER_ID}/voice")
    assert voice["call_recording"]["inbound_call_recording_enabled"] is True
