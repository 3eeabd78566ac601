"""The vendor's own SDK against the sandbox; skipped where it is not installed.

Everything that these tests need of the wire is proven without the SDK in the files beside this one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import requests
from requests.adapters import HTTPAdapter

from tests.unit.sandbox.test_plivo import (
    DEMO_APP,
    DIGITS,
    MA,
    MA_TOKEN,
    TRUNK,
    Api,
    seeded,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.unit.sandbox.conftest import Control

plivo: Any = pytest.importorskip("plivo")


class Refused(Exception):
    """An error status, before the SDK makes something else of it."""

    def __init__(self, response: requests.Response) -> None:
        super().__init__(response.status_code)
        self.status = response.status_code
        self.retry_after = response.headers.get("Retry-After")


def refuse(response: requests.Response, *_: object, **__: object) -> None:
    if response.status_code >= 300:
        # A body that is not read keeps its connection, which is then never closed.
        response.close()
        raise Refused(response)


class Redirecting(HTTPAdapter):
    """Sends what is meant for the vendor to the sandbox."""

    def __init__(self, base_url: str) -> None:
        super().__init__()
        self.base_url = base_url

    def send(self, request: requests.PreparedRequest, **options: Any) -> requests.Response:  # type: ignore[override] # all options are passed on
        assert request.url is not None
        request.url = request.url.replace("https://api.plivo.com", self.base_url, 1)
        return super().send(request, **options)


@pytest.fixture
def api(control: Control) -> Api:
    return seeded(control)


@pytest.fixture
def client(api: Api) -> Iterator[Any]:
    with plivo.RestClient(MA, MA_TOKEN, timeout=5) as client:
        client.session.hooks["response"].append(refuse)
        client.session.mount("https://api.plivo.com/", Redirecting(f"{api.control.url}/plivo"))
        yield client


def refusal(call: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value


def test_sdk_reads_account_and_number(client: Any) -> None:
    assert client.account.get().cash_credits == "100.00000"
    assert client.numbers.get(DIGITS).application.endswith(f"/Application/{DEMO_APP}/")
    found = client.numbers.list(number_startswith=DIGITS, limit=5)
    assert ([item.number for item in found], found.meta.total_count) == ([DIGITS], 1)
    assert refusal(lambda: client.numbers.get("14155550177")).status == 404


def test_sdk_moves_a_number_to_its_own_application_and_back(client: Any) -> None:
    app = client.applications.create("own", answer_url="https://a.example.com/").app_id
    assert [item.app_id for item in client.applications.list(app_name="own")] == [app]
    assert client.numbers.update(DIGITS, app_id=app).message == "changed"
    assert refusal(lambda: client.applications.delete(app, cascade=False)).status == 409
    client.numbers.update(DIGITS, app_id=DEMO_APP)
    assert client.applications.delete(app, cascade=False) is None
    assert refusal(lambda: client.applications.get(app)).status == 404


def test_sdk_update_resets_what_it_is_not_told(client: Any) -> None:
    app = client.applications.create(
        "own", answer_url="https://a.example.com/", default_number_app=True, answer_method="GET"
    ).app_id
    client.applications.update(app, answer_url="https://b.example.com/")
    shown = client.applications.get(app)
    assert (shown.default_app, shown.answer_method) == (False, "POST")


def test_sdk_reaches_zentrunk_through_plain_requests(client: Any) -> None:
    body = {"name": "caller", "username": "user", "password": "sandbox-sip-password-1"}
    uuid = client.request("POST", ("Zentrunk", "Credential"), body).credential_uuid
    body = {"name": "out", "trunk_direction": "outbound", "credential_uuid": uuid}
    trunk = client.request("POST", ("Zentrunk", "Trunk"), body).trunk_id
    shown = client.request("GET", ("Zentrunk", "Trunk", trunk))
    assert shown.trunk_domain == f"{trunk}.zt.plivo.com"
    query = {"limit": 20, "offset": 0, "trunk_direction": "inbound", "secure": False}
    found = client.request("GET", ("Zentrunk", "Trunk"), query)
    assert [item.trunk_id for item in found.objects] == [TRUNK]
    assert client.request("DELETE", ("Zentrunk", "Trunk", trunk)) is None


def test_hook_sees_status_and_delay_before_the_sdk_retries(api: Api, client: Any) -> None:
    api.control.fault(match={"vendor": "plivo"}, action="status", status=429, retry_after=7)
    caught = refusal(client.numbers.list)
    assert (caught.status, caught.retry_after) == (429, "7")
    api.control.fault(match={"vendor": "plivo"}, action="lost_status", status=500)
    create = client.applications.create
    assert refusal(lambda: create("own", answer_url="https://a.example.com/")).status == 500
    creates = api.control.journal(operation="plivo.applications.create")
    assert [entry["applied"] for entry in creates] == [True]


def test_sdk_makes_nothing_of_garbage(api: Api, client: Any) -> None:
    api.control.fault(match={"vendor": "plivo"}, action="garbage")
    assert client.account.get() is None
