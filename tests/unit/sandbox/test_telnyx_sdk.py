"""The vendor's own SDK against the sandbox; skipped where it is not installed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.unit.sandbox.test_telnyx import KEY, MESSAGING, NUMBER, NUMBER_ID, SEED, TEXML, THEIRS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.sandbox.conftest import Control

sdk = pytest.importorskip("telnyx")


@pytest.fixture
def client(control: Control) -> Iterator[Any]:
    control.post("/seed", {"telnyx": SEED})
    url = f"{control.url}/telnyx/v2"
    with sdk.Telnyx(api_key=KEY, base_url=url, max_retries=0, timeout=5) as made:
        yield made


def test_list_follows_the_pages(control: Control, client: Any) -> None:
    numbers = [{"phone_number": f"+1415555{number}"} for number in range(2000, 2012)]
    control.post("/seed", {"telnyx": {"accounts": [{"api_key": KEY, "numbers": numbers}]}})
    rows = list(client.phone_numbers.list(page_size=5))
    assert len({row.phone_number for row in rows}) == 13
    assert len(control.journal(operation="telnyx.phone_numbers.list")) == 3


def test_filters_arrive_as_the_sdk_writes_them(client: Any) -> None:
    application = client.texml_applications.create(**TEXML).data
    profile = client.messaging_profiles.create(**MESSAGING).data
    by_number = client.phone_numbers.list(filter={"phone_number": NUMBER[1:]})
    by_name = client.texml_applications.list(filter={"friendly_name": TEXML["friendly_name"]})
    assert [row.id for row in by_number] == [NUMBER_ID]
    assert [row.id for row in by_name] == [application.id]
    found = client.messaging_profiles.list(filter_name_eq=MESSAGING["name"])
    assert [row.id for row in found] == [profile.id]


def test_sip_connection_is_made_and_undone(client: Any) -> None:
    profile = client.outbound_voice_profiles.create(name="trunkline-1").data
    connection = client.fqdn_connections.create(
        connection_name="trunkline-1",
        transport_protocol="TCP",
        inbound={"ani_number_format": "+E.164", "dnis_number_format": "+e164"},
        outbound={"outbound_voice_profile_id": profile.id},
        extra_body={"user_name": "user1", "password": "sandbox-password-1"},
    ).data
    fqdn = client.fqdns.create(
        connection_id=connection.id, fqdn="x.example.com", dns_record_type="a", port=5060
    ).data
    client.phone_numbers.update(NUMBER_ID, connection_id=connection.id)
    assert connection.password == "sandbox-password-1"
    with pytest.raises(sdk.UnprocessableEntityError):
        client.fqdn_connections.delete(connection.id)
    client.phone_numbers.update(NUMBER_ID, connection_id=THEIRS)
    client.fqdns.delete(fqdn.id)
    client.fqdn_connections.delete(connection.id)
    client.outbound_voice_profiles.delete(profile.id)
    with pytest.raises(sdk.NotFoundError):
        client.fqdn_connections.retrieve(connection.id)


def test_errors_become_the_sdks_own(control: Control, client: Any) -> None:
    for status, error in (
        (401, sdk.AuthenticationError),
        (403, sdk.PermissionDeniedError),
        (409, sdk.ConflictError),
        (429, sdk.RateLimitError),
        (503, sdk.InternalServerError),
    ):
        control.fault(match={"vendor": "telnyx"}, action="status", status=status)
        with pytest.raises(error) as caught:
            client.balance.retrieve()
        assert caught.value.body["errors"][0]["code"]


def test_garbage_is_handed_over_as_text(control: Control, client: Any) -> None:
    control.fault(match={"vendor": "telnyx"}, action="garbage")
    assert client.balance.retrieve() == "<html>oops"
