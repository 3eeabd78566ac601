from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.unit.sandbox.conftest import Control

ACCOUNT = "acct-1"
KEY = "KEY-sandbox-telnyx-1"
OTHER_KEY = "KEY-sandbox-telnyx-2"
NUMBER = "+14155550100"
NUMBER_ID = "1001"
THEIRS = "2001"
OLD_PROFILE = "0f0f0f0f-0000-4000-8000-000000000001"
VOICE = "https://voice.example.com/answer?secret=1"
PASSWORD = "sandbox-password-1"

SEED: dict[str, Any] = {
    "accounts": [
        {
            "id": ACCOUNT,
            "api_key": KEY,
            "connections": [
                {"record_type": "ip_connection", "id": THEIRS, "connection_name": "theirs"}
            ],
            "messaging_profiles": [
                {"id": OLD_PROFILE, "name": "old", "whitelisted_destinations": ["*"]}
            ],
            "numbers": [{"phone_number": NUMBER, "id": NUMBER_ID, "connection_id": THEIRS}],
        },
        {"id": "acct-2", "api_key": OTHER_KEY},
    ]
}

TEXML = {"friendly_name": "trunkline-1", "voice_url": VOICE}
CALL_CONTROL = {"application_name": "trunkline-1", "webhook_event_url": VOICE}
FQDN_CONNECTION = {"connection_name": "trunkline-1"}
CREDENTIALS = {"connection_name": "c", "user_name": "user1", "password": PASSWORD}
OUTBOUND = {"name": "trunkline-1"}
MESSAGING = {"name": "trunkline-1", "whitelisted_destinations": ["US"]}


@dataclass
class Api:
    """The API with one key."""

    control: Control
    key: str = KEY

    def send(self, method: str, path: str, body: object = None, **query: str) -> httpx.Response:
        return self.control.http.request(
            method,
            f"{self.control.url}/telnyx/v2{path}",
            headers={"Authorization": f"Bearer {self.key}"},
            json=body,
            params=query,
        )

    def get(self, path: str, **query: str) -> Any:
        return self._data(self.send("GET", path, **query))

    def rows(self, path: str, **query: str) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.get(path, **query)
        return rows

    def post(self, path: str, body: object) -> Any:
        return self._data(self.send("POST", path, body))

    def patch(self, path: str, body: object) -> Any:
        return self._data(self.send("PATCH", path, body))

    def delete(self, path: str) -> Any:
        return self._data(self.send("DELETE", path))

    def refusal(self, method: str, path: str, body: object = None, **query: str) -> tuple[int, str]:
        response = self.send(method, path, body, **query)
        (error,) = response.json()["errors"]
        assert error["title"]
        assert error["detail"]
        return response.status_code, error["code"]

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self.control.get("/state")["telnyx"]["accounts"][ACCOUNT]
        return state

    def seed(self, **account: object) -> None:
        document = {"accounts": [{"api_key": self.key, **account}]}
        self.control.post("/seed", {"telnyx": document})

    @staticmethod
    def _data(response: httpx.Response) -> Any:
        assert response.status_code in {200, 201}, response.text
        return response.json()["data"]


@pytest.fixture
def telnyx(control: Control) -> Api:
    control.post("/seed", {"telnyx": SEED})
    return Api(control)


def give_numbers(telnyx: Api, *numbers: str, **fields: object) -> None:
    telnyx.seed(numbers=[{"phone_number": number, **fields} for number in numbers])


class TestKeys:
    def test_balance_proves_the_key(self, telnyx: Api) -> None:
        assert telnyx.get("/balance")["balance"] == "100.00"

    @pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer KEY-wrong", f"Basic {KEY}"])
    def test_anything_else_is_401(self, telnyx: Api, header: str | None) -> None:
        url = f"{telnyx.control.url}/telnyx/v2/balance"
        headers = {} if header is None else {"Authorization": header}
        response = telnyx.control.http.get(url, headers=headers)
        assert (response.status_code, response.json()["errors"][0]["code"]) == (401, "10009")

    def test_scoped_key_is_403_outside_its_scopes(self, telnyx: Api) -> None:
        telnyx.seed(api_keys=[{"api_key": "KEY-scoped", "scopes": ["telnyx.phone_numbers.*"]}])
        scoped = Api(telnyx.control, "KEY-scoped")
        assert scoped.get(f"/phone_numbers/{NUMBER_ID}")["phone_number"] == NUMBER
        assert scoped.refusal("GET", "/balance") == (403, "10010")
        assert scoped.refusal("POST", "/texml_applications", TEXML) == (403, "10010")

    def test_suspended_account_does_nothing(self, telnyx: Api) -> None:
        telnyx.seed(status="suspended")
        assert telnyx.refusal("GET", "/balance") == (403, "10010")

    def test_accounts_do_not_see_each_other(self, telnyx: Api) -> None:
        other = Api(telnyx.control, OTHER_KEY)
        assert other.rows("/phone_numbers") == []
        assert other.refusal("GET", f"/connections/{THEIRS}") == (404, "10005")
        assert other.refusal("GET", f"/phone_numbers/{NUMBER_ID}") == (404, "10005")

    def test_unknown_paths_and_methods_are_404(self, telnyx: Api) -> None:
        assert telnyx.refusal("GET", "/whatever") == (404, "10005")
        assert telnyx.refusal("PUT", f"/phone_numbers/{NUMBER_ID}", {}) == (404, "10005")

    @pytest.mark.parametrize("content", [b"[1]", b"{", b'"text"'])
    def test_body_that_is_not_an_object_is_400(self, telnyx: Api, content: bytes) -> None:
        response = telnyx.control.http.post(
            f"{telnyx.control.url}/telnyx/v2/texml_applications",
            headers={"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
            content=content,
        )
        assert (response.status_code, response.json()["errors"][0]["code"]) == (400, "10015")

    def test_form_is_415(self, telnyx: Api) -> None:
        response = telnyx.control.http.post(
            f"{telnyx.control.url}/telnyx/v2/texml_applications",
            headers={"Authorization": f"Bearer {KEY}"},
            data=TEXML,
        )
        assert (response.status_code, response.json()["errors"][0]["code"]) == (415, "10014")


class TestFindingNumbers:
    def test_filter_takes_digits_and_matches_parts(self, telnyx: Api) -> None:
        give_numbers(telnyx, "+441415555010", "+14165550100")
        rows = telnyx.rows("/phone_numbers", **{"filter[phone_number]": "1415555010"})
        assert [row["phone_number"] for row in rows] == ["+441415555010", NUMBER]

    @pytest.mark.parametrize("text", [NUMBER, "1415*", "1415 555", "١٤١٥"])
    def test_anything_but_digits_finds_nothing(self, telnyx: Api, text: str) -> None:
        assert telnyx.rows("/phone_numbers", **{"filter[phone_number]": text}) == []

    @pytest.mark.parametrize(
        "query",
        [
            {"filter[phone_number]": "14"},
            {"filter[phone_numbers]": "1415"},
            {"page[size]": "251"},
            {"page[size]": "0"},
            {"page[number]": "x"},
        ],
    )
    def test_queries_the_vendor_does_not_describe_are_refused(
        self, telnyx: Api, query: dict[str, str]
    ) -> None:
        assert telnyx.refusal("GET", "/phone_numbers", **query) == (422, "10015")

    def test_list_is_paged_newest_first(self, telnyx: Api) -> None:
        give_numbers(telnyx, *(f"+1415555{number}" for number in range(2000, 2024)))
        first = telnyx.send("GET", "/phone_numbers").json()
        last = telnyx.send("GET", "/phone_numbers", **{"page[number]": "3", "page[size]": "10"})
        assert first["meta"] == {
            "page_number": 1,
            "page_size": 20,
            "total_pages": 2,
            "total_results": 25,
        }
        assert first["data"][0]["phone_number"] == "+14155552023"
        assert [row["phone_number"] for row in last.json()["data"]][-1] == NUMBER
        assert telnyx.rows("/phone_numbers", **{"page[number]": "9"}) == []

    def test_other_filters_are_exact(self, telnyx: Api) -> None:
        give_numbers(telnyx, "+442071838750", status="port-pending", tags=["a"])
        for query in (
            {"filter[status]": "port-pending"},
            {"filter[country_iso_alpha2]": "GB,FR"},
            {"filter[tag]": "a"},
        ):
            rows = telnyx.rows("/phone_numbers", **query)
            assert [row["phone_number"] for row in rows] == ["+442071838750"]

    def test_ownership_is_exact_and_tells_only_of_active_numbers(self, telnyx: Api) -> None:
        give_numbers(telnyx, "+14155550101", status="purchase-pending")
        wanted = [NUMBER, "+1415555010", "+14155550101", "+14155550199"]
        body = {"phone_numbers": wanted}
        data = telnyx.post("/phone_numbers/actions/verify_ownership", body)
        assert data["found"] == [{"id": NUMBER_ID, "number_val_e164": NUMBER}]
        assert data["not_found"] == wanted[1:]
        (entry,) = telnyx.control.journal(operation="telnyx.*.verify_ownership")
        assert (entry["write"], entry["account"]) == (False, ACCOUNT)

    def test_ownership_wants_plus_e164(self, telnyx: Api) -> None:
        path = "/phone_numbers/actions/verify_ownership"
        body = {"phone_numbers": ["14155550100"]}
        assert telnyx.refusal("POST", path, body) == (422, "10016")
        assert telnyx.refusal("POST", path, {"phone_numbers": []}) == (422, "10004")

    def test_voice_settings_show_what_bends_calls(self, telnyx: Api) -> None:
        edit = {"set": {"forwards_to": "+14155550199", "translated_number": "x1"}}
        where = {"vendor": "telnyx", "account": ACCOUNT, "phone_number": NUMBER}
        telnyx.control.post("/edit", {**where, **edit})
        voice = telnyx.get(f"/phone_numbers/{NUMBER_ID}/voice")
        assert voice["call_forwarding"]["forwards_to"] == "+14155550199"
        assert voice["translated_number"] == "x1"


class TestRoutingNumbers:
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/texml_applications", TEXML),
            ("/call_control_applications", CALL_CONTROL),
            ("/fqdn_connections", FQDN_CONNECTION),
            ("/credential_connections", CREDENTIALS),
        ],
    )
    def test_number_points_at_any_kind_of_connection(
        self, telnyx: Api, path: str, body: dict[str, str]
    ) -> None:
        made = telnyx.post(path, body)
        number = telnyx.patch(f"/phone_numbers/{NUMBER_ID}", {"connection_id": made["id"]})
        shown = telnyx.get(f"/connections/{made['id']}")
        assert (number["connection_id"], number["connection_name"]) == (
            made["id"],
            shown["connection_name"],
        )
        assert shown["record_type"] == path[1:-1]
        back = telnyx.patch(f"/phone_numbers/{NUMBER_ID}", {"connection_id": THEIRS})
        assert back["connection_name"] == "theirs"

    def test_update_changes_only_what_is_sent(self, telnyx: Api) -> None:
        number = telnyx.patch(f"/phone_numbers/{NUMBER_ID}", {"tags": ["x"]})
        assert (number["tags"], number["connection_id"]) == (["x"], THEIRS)

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            ({"connection_id": "999"}, "10017"),
            ({"connection_id": None}, "10015"),
            ({"connection_id": ""}, "10015"),
            ({"connection_id": 2001}, "10015"),
            ({"connectionid": THEIRS}, "10015"),
            ({"tags": "x"}, "10015"),
        ],
    )
    def test_wrong_values_are_refused_and_change_nothing(
        self, telnyx: Api, body: dict[str, object], code: str
    ) -> None:
        before = telnyx.state()
        path = f"/phone_numbers/{NUMBER_ID}"
        assert telnyx.refusal("PATCH", path, {"hd_voice_enabled": True, **body}) == (422, code)
        assert telnyx.state() == before

    def test_null_unassigns_where_a_test_says_so(self, telnyx: Api) -> None:
        telnyx.seed(rules={"null_unassigns": True})
        number = telnyx.patch(f"/phone_numbers/{NUMBER_ID}", {"connection_id": None})
        assert (number["connection_id"], number["connection_name"]) == (None, None)

    def test_number_that_is_not_active_cannot_be_changed(self, telnyx: Api) -> None:
        give_numbers(telnyx, "+14155550101", id="1002", status="port-pending")
        assert telnyx.get("/phone_numbers/1002")["status"] == "port-pending"
        body = {"connection_id": THEIRS}
        assert telnyx.refusal("PATCH", "/phone_numbers/1002", body) == (422, "10001")

    def test_empty_messaging_profile_unassigns_and_null_keeps(self, telnyx: Api) -> None:
        path = f"/phone_numbers/{NUMBER_ID}/messaging"
        for body, expected in (
            ({"messaging_profile_id": OLD_PROFILE}, OLD_PROFILE),
            ({"messaging_profile_id": None}, OLD_PROFILE),
            ({}, OLD_PROFILE),
            ({"messaging_profile_id": ""}, None),
        ):
            assert telnyx.patch(path, body)["messaging_profile_id"] == expected
        body = {"messaging_profile_id": "9f0f0f0f-0000-4000-8000-000000000001"}
        assert telnyx.refusal("PATCH", path, body) == (422, "10017")

    def test_number_without_sms_says_so(self, telnyx: Api) -> None:
        give_numbers(telnyx, "+14155550101", id="1002", sms=False)
        shown = telnyx.get("/phone_numbers/1002/messaging")
        assert (shown["features"]["sms"], shown["eligible_messaging_products"]) == (None, [])
        body = {"messaging_profile_id": OLD_PROFILE}
        assert telnyx.refusal("PATCH", "/phone_numbers/1002/messaging", body) == (422, "10015")

    def test_delete_gives_the_number_away(self, telnyx: Api) -> None:
        telnyx.delete(f"/phone_numbers/{NUMBER_ID}")
        assert telnyx.refusal("GET", f"/phone_numbers/{NUMBER_ID}") == (404, "10005")
        assert telnyx.rows("/phone_numbers", **{"filter[phone_number]": NUMBER[1:]}) == []
        assert telnyx.state()["released_numbers"] == [NUMBER]
        (entry,) = telnyx.control.journal(operation="telnyx.*.delete")
        assert (entry["operation"], entry["write"]) == ("telnyx.phone_numbers.delete", True)

    def test_deletion_lock_holds_the_number(self, telnyx: Api) -> None:
        give_numbers(telnyx, "+14155550101", id="1002", deletion_lock_enabled=True)
        assert telnyx.refusal("DELETE", "/phone_numbers/1002") == (422, "10015")
        assert telnyx.state()["released_numbers"] == []


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/texml_applications", TEXML, 201),
        ("/call_control_applications", CALL_CONTROL, 201),
        ("/fqdn_connections", FQDN_CONNECTION, 201),
        ("/credential_connections", CREDENTIALS, 201),
        ("/outbound_voice_profiles", OUTBOUND, 200),
        ("/messaging_profiles", MESSAGING, 200),
    ],
)
class TestEveryKind:
    def test_is_created_listed_and_deleted(
        self, telnyx: Api, path: str, body: dict[str, object], status: int
    ) -> None:
        response = telnyx.send("POST", path, body)
        made = response.json()["data"]
        assert response.status_code == status
        assert made.items() >= body.items()
        assert telnyx.get(f"{path}/{made['id']}") == made
        assert made in telnyx.rows(path)
        assert telnyx.delete(f"{path}/{made['id']}")["id"] == made["id"]
        assert telnyx.refusal("DELETE", f"{path}/{made['id']}") == (404, "10005")

    def test_needs_its_required_fields(
        self, telnyx: Api, path: str, body: dict[str, object], status: int
    ) -> None:
        assert status in {200, 201}
        for name in body:
            rest = {key: value for key, value in body.items() if key != name}
            assert telnyx.refusal("POST", path, rest) == (422, "10004")

    def test_takes_no_field_it_does_not_know(
        self, telnyx: Api, path: str, body: dict[str, object], status: int
    ) -> None:
        assert status in {200, 201}
        assert telnyx.refusal("POST", path, {**body, "voiceUrl": VOICE}) == (422, "10015")

    def test_may_have_the_name_of_another_unless_a_test_forbids_it(
        self, telnyx: Api, path: str, body: dict[str, object], status: int
    ) -> None:
        telnyx.post(path, body)
        again = {**body, "user_name": "user2"} if "user_name" in body else body
        assert telnyx.send("POST", path, again).status_code == status
        telnyx.seed(rules={"unique_names": True})
        assert telnyx.refusal("POST", path, again) == (422, "10012")


class TestApplications:
    @pytest.mark.parametrize(
        ("path", "body"),
        [("/texml_applications", TEXML), ("/call_control_applications", CALL_CONTROL)],
    )
    def test_update_carries_name_and_url_every_time(
        self, telnyx: Api, path: str, body: dict[str, str]
    ) -> None:
        made = telnyx.post(path, {**body, "tags": ["t"]})
        where = f"{path}/{made['id']}"
        for name, value in body.items():
            assert telnyx.refusal("PATCH", where, {name: value}) == (422, "10004")
        changed = telnyx.patch(where, {**body, "active": False})
        assert (changed["active"], changed["tags"]) == (False, ["t"])

    @pytest.mark.parametrize(
        "url", ["/x", "http://localhost/x", "http://10.0.0.1/x", "ftp://v.example.com/", 7]
    )
    def test_urls_the_vendor_cannot_reach_are_refused(self, telnyx: Api, url: object) -> None:
        body = {**TEXML, "voice_url": url}
        assert telnyx.refusal("POST", "/texml_applications", body) == (400, "10003")

    def test_methods_are_lower_case(self, telnyx: Api) -> None:
        body = {**TEXML, "voice_method": "POST"}
        assert telnyx.refusal("POST", "/texml_applications", body) == (422, "10015")

    @pytest.mark.parametrize(
        ("path", "body", "name"),
        [
            ("/texml_applications", TEXML, "filter[friendly_name]"),
            (
                "/call_control_applications",
                CALL_CONTROL,
                "filter[application_name][contains]",
            ),
            ("/fqdn_connections", FQDN_CONNECTION, "filter[connection_name][contains]"),
        ],
    )
    def test_name_filter_wants_three_characters_of_any_case(
        self, telnyx: Api, path: str, body: dict[str, str], name: str
    ) -> None:
        made = telnyx.post(path, body)
        assert [row["id"] for row in telnyx.rows(path, **{name: "UNKL"})] == [made["id"]]
        assert telnyx.rows(path, **{name: "other"}) == []
        assert telnyx.refusal("GET", path, **{name: "tr"}) == (422, "10015")

    def test_list_is_newest_first_and_sorts_on_request(self, telnyx: Api) -> None:
        path = "/texml_applications"
        names = ["bbb", "aaa", "ccc"]
        for name in names:
            telnyx.post(path, {**TEXML, "friendly_name": name})

        def listed(**query: str) -> list[str]:
            return [row["friendly_name"] for row in telnyx.rows(path, **query)]

        assert listed() == names[::-1]
        assert listed(sort="created_at") == names
        assert listed(sort="-friendly_name") == ["ccc", "bbb", "aaa"]
        assert telnyx.refusal("GET", path, sort="colour") == (422, "10015")

    def test_outbound_profile_must_exist(self, telnyx: Api) -> None:
        body = {**TEXML, "outbound": {"outbound_voice_profile_id": "999"}}
        assert telnyx.refusal("POST", "/texml_applications", body) == (422, "10017")
        profile = telnyx.post("/outbound_voice_profiles", OUTBOUND)["id"]
        body["outbound"] = {"outbound_voice_profile_id": profile}
        made = telnyx.post("/texml_applications", body)
        query = {"filter[outbound_voice_profile_id]": profile}
        assert [row["id"] for row in telnyx.rows("/texml_applications", **query)] == [made["id"]]
        shown = telnyx.get(f"/outbound_voice_profiles/{profile}")
        assert shown["connections_count"] == 1

    def test_outbound_profile_is_shown_and_can_be_changed(self, telnyx: Api) -> None:
        one, two = (telnyx.post("/outbound_voice_profiles", OUTBOUND)["id"] for _ in range(2))
        body = {**TEXML, "outbound": {"outbound_voice_profile_id": one}}
        path = f"/texml_applications/{telnyx.post('/texml_applications', body)['id']}"
        assert telnyx.get(path)["outbound"]["outbound_voice_profile_id"] == one
        body["outbound"] = {"outbound_voice_profile_id": "999"}
        assert telnyx.refusal("PATCH", path, body) == (422, "10017")
        for wanted in (two, None):
            body["outbound"] = {"outbound_voice_profile_id": wanted}
            telnyx.patch(path, body)
            assert telnyx.get(path)["outbound"]["outbound_voice_profile_id"] == wanted
        for profile in (one, two):
            telnyx.delete(f"/outbound_voice_profiles/{profile}")

    def test_what_is_in_use_is_not_deleted(self, telnyx: Api) -> None:
        profile = telnyx.post("/outbound_voice_profiles", OUTBOUND)["id"]
        outbound = {"outbound_voice_profile_id": profile}
        made = telnyx.post("/texml_applications", {**TEXML, "outbound": outbound})["id"]
        telnyx.patch(f"/phone_numbers/{NUMBER_ID}", {"connection_id": made})
        path = f"/phone_numbers/{NUMBER_ID}/messaging"
        telnyx.patch(path, {"messaging_profile_id": OLD_PROFILE})
        paths = [
            f"/texml_applications/{made}",
            f"/outbound_voice_profiles/{profile}",
            f"/messaging_profiles/{OLD_PROFILE}",
        ]
        for path in paths:
            assert telnyx.refusal("DELETE", path) == (422, "10015")
        telnyx.seed(rules={"deletes_in_use": True})
        for path in paths:
            telnyx.delete(path)
        number = telnyx.get(f"/phone_numbers/{NUMBER_ID}")
        assert (number["connection_id"], number["messaging_profile_id"]) == (None, None)


class TestFqdnConnections:
    def create(self, telnyx: Api, **fields: object) -> dict[str, Any]:
        made: dict[str, Any] = telnyx.post("/fqdn_connections", {**FQDN_CONNECTION, **fields})
        return made

    def test_defaults_are_the_vendors_surprising_ones(self, telnyx: Api) -> None:
        inbound = self.create(telnyx)["inbound"]
        assert inbound["ani_number_format"] == "E.164-national"
        assert inbound["dnis_number_format"] == "e164"

    @pytest.mark.parametrize(
        "fields",
        [
            {"inbound": {"ani_number_format": "+e164"}},
            {"inbound": {"dnis_number_format": "+E.164"}},
            {"transport_protocol": "tcp"},
            {"encrypted_media": "SRTP", "transport_protocol": "TLS"},
            {"encrypted_media": "SRTP"},
            {"user_name": "u1", "password": PASSWORD},
            {"user_name": "user-1", "password": PASSWORD},
            {"user_name": "user1", "password": "short"},
            {"user_name": "user1"},
            {"active": None},
            {"outbound": []},
        ],
    )
    def test_wrong_values_are_refused(self, telnyx: Api, fields: dict[str, object]) -> None:
        before = telnyx.state()
        body = {**FQDN_CONNECTION, **fields}
        assert telnyx.refusal("POST", "/fqdn_connections", body) == (422, "10015")
        assert telnyx.state() == before

    def test_password_comes_back_in_clear_and_only_there(self, telnyx: Api) -> None:
        made = self.create(telnyx, user_name="user1", password=PASSWORD)
        path = f"/fqdn_connections/{made['id']}"
        assert telnyx.get(path)["password"] == PASSWORD
        assert telnyx.rows("/fqdn_connections")[0]["password"] == PASSWORD
        assert PASSWORD not in telnyx.control.http.get("/state").text
        assert PASSWORD not in telnyx.control.http.get("/journal").text

    def test_newer_accounts_show_a_password_once(self, telnyx: Api) -> None:
        telnyx.seed(hides_passwords=True)
        made = self.create(telnyx, user_name="user1", password=PASSWORD)
        path = f"/fqdn_connections/{made['id']}"
        assert made["password"] == PASSWORD
        assert telnyx.get(path)["password"] == "********"
        assert telnyx.patch(path, {"active": False})["password"] == "********"
        assert telnyx.patch(path, {"password": PASSWORD * 2})["password"] == PASSWORD * 2

    def test_user_name_is_taken_until_its_connection_is_gone(self, telnyx: Api) -> None:
        made = self.create(telnyx, user_name="user1", password=PASSWORD)
        other = Api(telnyx.control, OTHER_KEY)
        body = {**FQDN_CONNECTION, "user_name": "user1", "password": PASSWORD}
        assert other.refusal("POST", "/fqdn_connections", body) == (422, "10012")
        telnyx.delete(f"/fqdn_connections/{made['id']}")
        other.post("/fqdn_connections", body)

    def test_credentials_can_be_set_through_authentication(self, telnyx: Api) -> None:
        made = self.create(telnyx)
        path = f"/fqdn_connections/{made['id']}"
        body = {
            "fqdn_outbound_authentication": "credential-authentication",
            "user_name": "user1",
            "password": PASSWORD,
        }
        assert telnyx.patch(f"{path}/fqdn_authentication", body).items() >= body.items()
        shown = telnyx.get(path)
        assert (shown["user_name"], shown["password"]) == ("user1", PASSWORD)
        assert shown["outbound"]["ip_authentication_method"] == "credential-authentication"

    def test_object_that_would_lose_settings_if_replaced_is_refused(self, telnyx: Api) -> None:
        formats = {"ani_number_format": "+E.164", "dnis_number_format": "+e164"}
        made = self.create(telnyx, inbound=formats)
        path = f"/fqdn_connections/{made['id']}"
        partial = {"inbound": {"channel_limit": 5}}
        assert telnyx.refusal("PATCH", path, partial) == (422, "10015")
        inbound = telnyx.patch(path, {"inbound": {**formats, "channel_limit": 5}})["inbound"]
        assert inbound.items() >= {**formats, "channel_limit": 5}.items()

    def test_fqdn_belongs_to_a_connection_and_is_found_by_it(self, telnyx: Api) -> None:
        made = self.create(telnyx)
        host = "Project.sip.livekit.cloud"
        body = {"connection_id": made["id"], "fqdn": host, "dns_record_type": "a"}
        response = telnyx.send("POST", "/fqdns", body)
        fqdn = response.json()["data"]
        assert (response.status_code, fqdn["port"]) == (201, 5060)
        assert telnyx.rows("/fqdns", **{"filter[connection_id]": made["id"]}) == [fqdn]
        rows = telnyx.rows("/fqdn_connections", **{"filter[fqdn]": host})
        assert [row["id"] for row in rows] == [made["id"]]
        assert telnyx.rows("/fqdn_connections", **{"filter[fqdn]": host.lower()}) == []
        path = f"/fqdn_connections/{made['id']}"
        primary = {"inbound": {"default_primary_fqdn_id": fqdn["id"]}}
        assert telnyx.patch(path, primary)["inbound"]["default_primary_fqdn_id"] == fqdn["id"]
        assert telnyx.refusal("DELETE", path) == (422, "10015")
        telnyx.delete(f"/fqdns/{fqdn['id']}")
        assert telnyx.delete(path)["inbound"]["default_primary_fqdn_id"] is None

    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"connection_id": THEIRS}, "10017"),
            ({"fqdn": "sip:x.example.com"}, "10015"),
            ({"fqdn": "192.0.2.1"}, "10015"),
            ({"fqdn": "localhost"}, "10015"),
            ({"dns_record_type": "A"}, "10015"),
            ({"dns_record_type": "srv", "port": 5060}, "10015"),
            ({"port": 70000}, "10015"),
        ],
    )
    def test_wrong_fqdns_are_refused(
        self, telnyx: Api, fields: dict[str, object], code: str
    ) -> None:
        made = self.create(telnyx)
        body = {"connection_id": made["id"], "fqdn": "x.example.com", "dns_record_type": "a"}
        assert telnyx.refusal("POST", "/fqdns", {**body, **fields}) == (422, code)

    def test_primary_fqdn_must_be_the_connections_own(self, telnyx: Api) -> None:
        made = self.create(telnyx)
        body = {"inbound": {"default_primary_fqdn_id": "999"}}
        assert telnyx.refusal("PATCH", f"/fqdn_connections/{made['id']}", body) == (422, "10017")


class TestProfiles:
    @pytest.mark.parametrize(
        ("query", "count"),
        [
            ({"filter[name][eq]": "trunkline-1"}, 1),
            ({"filter[name][eq]": "trunkline"}, 0),
            ({"filter[name]": "trunkline-1"}, 1),
            ({"filter[name][contains]": "LINE"}, 2),
        ],
    )
    def test_messaging_profiles_are_found_by_name(
        self, telnyx: Api, query: dict[str, str], count: int
    ) -> None:
        telnyx.post("/messaging_profiles", MESSAGING)
        telnyx.post("/messaging_profiles", {**MESSAGING, "name": "trunkline-10"})
        assert len(telnyx.rows("/messaging_profiles", **query)) == count

    def test_outbound_profiles_are_found_by_part_of_their_name(self, telnyx: Api) -> None:
        telnyx.post("/outbound_voice_profiles", OUTBOUND)
        query = {"filter[name][contains]": "TRUNK"}
        (row,) = telnyx.rows("/outbound_voice_profiles", **query)
        assert row["whitelisted_destinations"] == ["US", "CA"]

    @pytest.mark.parametrize("wanted", [["usa"], "US", ["US", 1], ["*", "US"]])
    def test_destinations_are_country_codes(self, telnyx: Api, wanted: object) -> None:
        body = {**MESSAGING, "whitelisted_destinations": wanted}
        assert telnyx.refusal("POST", "/messaging_profiles", body) == (422, "10015")

    def test_outbound_profile_is_renamed_with_every_update(self, telnyx: Api) -> None:
        made = telnyx.post("/outbound_voice_profiles", OUTBOUND)
        path = f"/outbound_voice_profiles/{made['id']}"
        assert telnyx.refusal("PATCH", path, {"enabled": False}) == (422, "10004")
        assert telnyx.patch(path, {**OUTBOUND, "enabled": False})["enabled"] is False


class TestControl:
    def test_429_has_the_rate_limit_headers(self, telnyx: Api) -> None:
        telnyx.control.fault(
            match={"vendor": "telnyx", "account": ACCOUNT}, action="status", status=429
        )
        response = telnyx.send("GET", "/balance")
        assert response.headers["x-ratelimit-remaining"] == "0"
        assert response.headers["x-ratelimit-reset"] == "1"
        assert response.json()["errors"][0]["code"] == "10011"

    @pytest.mark.parametrize(
        ("status", "code"), [(401, "10009"), (404, "10005"), (409, "10012"), (503, "10007")]
    )
    def test_scripted_errors_have_the_vendors_codes(
        self, telnyx: Api, status: int, code: str
    ) -> None:
        telnyx.control.fault(match={"vendor": "telnyx"}, action="status", status=status)
        assert telnyx.refusal("GET", "/balance") == (status, code)

    def test_lost_answer_leaves_what_was_made(self, telnyx: Api) -> None:
        match = {"operation": "telnyx.texml_applications.create"}
        telnyx.control.fault(match=match, action="lost")
        with pytest.raises(httpx.RemoteProtocolError):
            telnyx.send("POST", "/texml_applications", TEXML)
        assert len(telnyx.rows("/texml_applications")) == 1

    def test_account_has_a_public_key_of_its_own_or_the_one_given(self, telnyx: Api) -> None:
        generated = base64.b64decode(telnyx.state()["public_key"])
        assert len(generated) == 32
        private = Ed25519PrivateKey.generate()
        given = base64.b64encode(private.private_bytes_raw()).decode()
        telnyx.seed(webhook_private_key=given)
        public = base64.b64decode(telnyx.state()["public_key"])
        assert public == private.public_key().public_bytes_raw()

    def test_account_without_an_id_is_named_by_its_key_without_showing_it(
        self, telnyx: Api
    ) -> None:
        telnyx.control.post("/seed", {"telnyx": {"accounts": [{"api_key": "KEY-third"}]}})
        Api(telnyx.control, "KEY-third").get("/balance")
        (entry,) = telnyx.control.journal(operation="telnyx.balance.retrieve")
        assert entry["account"] in telnyx.control.get("/state")["telnyx"]["accounts"]
        for name in ("/journal", "/state"):
            assert "KEY-third" not in telnyx.control.http.get(name).text

    def test_edit_takes_a_number_off_its_connection_or_away(self, telnyx: Api) -> None:
        where = {"vendor": "telnyx", "account": ACCOUNT, "phone_number": NUMBER}
        telnyx.control.post("/edit", {**where, "set": {"connection_id": None}})
        assert telnyx.get(f"/phone_numbers/{NUMBER_ID}")["connection_id"] is None
        telnyx.control.post("/edit", {**where, "remove": True})
        assert telnyx.state()["numbers"] == {}
        assert telnyx.state()["released_numbers"] == []
        assert telnyx.control.http.post("/edit", json=where).status_code == 400

    @pytest.mark.parametrize(
        "change",
        [
            {"set": {"connection_id": "999"}},
            {"set": {"messaging_profile_id": "999"}},
            {"set": {"status": "sleeping"}},
            {"set": {"status": None}},
            {"set": {"colour": "red"}},
        ],
    )
    def test_edit_refuses_what_cannot_be(self, telnyx: Api, change: dict[str, object]) -> None:
        before = telnyx.state()
        where = {"vendor": "telnyx", "account": ACCOUNT, "phone_number": NUMBER}
        assert telnyx.control.http.post("/edit", json={**where, **change}).status_code == 400
        assert telnyx.state() == before

    @pytest.mark.parametrize(
        "account",
        [
            {},
            {"api_key": OTHER_KEY, "id": ACCOUNT},
            {"api_key": KEY, "numbers": [{"phone_number": NUMBER}]},
            {"api_key": KEY, "numbers": [{"phone_number": "14155550100"}]},
            {"api_key": KEY, "numbers": [{"phone_number": "+14155550109", "status": None}]},
            {"api_key": KEY, "numbers": [{"phone_number": "+1415", "connection_id": "999"}]},
            {"api_key": KEY, "connections": [{"record_type": "no_connection"}]},
            {"api_key": KEY, "connections": [{"record_type": "texml_application"}]},
            {"api_key": KEY, "webhook_private_key": "c2hvcnQ="},
        ],
    )
    def test_seed_refuses_what_cannot_be(self, telnyx: Api, account: dict[str, object]) -> None:
        document = {"telnyx": {"accounts": [account]}}
        assert telnyx.control.http.post("/seed", json=document).status_code == 400

    @pytest.mark.parametrize(
        ("path", "call"),
        [
            ("telnyx.balance.retrieve", lambda api: api.send("GET", "/balance")),
            (
                "telnyx.phone_numbers.update",
                lambda api: api.send("PATCH", f"/phone_numbers/{NUMBER_ID}", {}),
            ),
            (
                "telnyx.phone_numbers.messaging.update",
                lambda api: api.send("PATCH", f"/phone_numbers/{NUMBER_ID}/messaging", {}),
            ),
            ("telnyx.fqdns.create", lambda api: api.send("POST", "/fqdns", {})),
            ("telnyx.connections.retrieve", lambda api: api.send("GET", "/connections/1")),
            ("telnyx.unknown", lambda api: api.send("GET", "/x")),
        ],
    )
    def test_operations_are_named_as_in_the_sdk(
        self, telnyx: Api, path: str, call: Callable[[Api], httpx.Response]
    ) -> None:
        call(telnyx)
        (entry,) = telnyx.control.journal(vendor="telnyx")
        assert (entry["operation"], entry["account"]) == (path, ACCOUNT)
        assert entry["write"] is (entry["method"] != "GET")
