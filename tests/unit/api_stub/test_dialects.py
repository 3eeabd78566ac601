"""What the OpenAPI document says of a contract, and what each of our errors is in its words."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest

from api_stub.app import build
from api_stub.dialects.oneinbox import OneInbox, PhoneNumberCreate
from api_stub.dialects.weya import AddPhoneRequest, Weya
from tests.unit.api_stub.test_app import Stub
from worker.domain.errors import BY_CODE, ProviderRateLimited, SipLoginIncomplete
from worker.service import Service

WEYA = {"unauthenticated": 401, "forbidden": 403, "user_not_found": 404, "rate_limited": 429}


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    return build(cast("Service", Stub()), threads=4).openapi()


def _schema(openapi: dict[str, Any], where: Any) -> dict[str, Any]:
    reference = where["content"]["application/json"]["schema"]["$ref"]
    found: dict[str, Any] = openapi["components"]["schemas"][reference.rpartition("/")[2]]
    return found


def test_weyas_fields_are_the_contracts(openapi: dict[str, Any]) -> None:
    operation = openapi["paths"]["/dialects/weya/api/call/add-phone"]["post"]
    wanted = _schema(openapi, operation["requestBody"])
    fields = {"userId", "phoneNumber", "integration", "authToken", "accSId"}
    assert wanted["properties"].keys() == fields
    # Telnyx configures its own.
    assert set(wanted["required"]) == fields - {"accSId"}
    answer = _schema(openapi, operation["responses"]["201"])
    assert set(answer["required"]) == {"message", "status", "code", "errorMessage", "data"}
    record = openapi["components"]["schemas"]["PhoneRecord"]
    assert set(record["required"]) == {"_id", "userId", "phoneNumber", "integration", "createdAt"}
    assert openapi["components"]["schemas"]["Integration"]["enum"] == ["plivo", "twilio", "telnyx"]
    assert {"201", "400", "404", "500"} <= operation["responses"].keys()


def test_oneinboxs_schemas_are_the_contracts(openapi: dict[str, Any]) -> None:
    operation = openapi["paths"]["/dialects/oneinbox/v1/phone-numbers"]["post"]
    wanted = _schema(openapi, operation["requestBody"])
    assert wanted["required"] == ["phone_number", "provider", "agent_id"]
    properties = wanted["properties"]
    assert properties["phone_number"]["pattern"] == r"^\+[1-9]\d{1,14}$"
    assert properties["provider"]["enum"] == ["twilio", "telnyx"]
    assert properties["agent_id"]["format"] == "uuid"
    assert properties.keys() == set(wanted["required"]) | {
        "friendly_name",
        "provider_config",
        "inbound_routing",
        "credential_id",
    }
    config = openapi["components"]["schemas"]["SipProviderConfig"]
    assert config["additionalProperties"] is True
    assert config["properties"]["trunk_address"]["anyOf"][0]["maxLength"] == 255
    answer = _schema(openapi, operation["responses"]["201"])
    assert answer["required"] == [
        "id",
        "phone_number",
        "friendly_name",
        "provider",
        "agent_id",
        "status",
        "inbound_trunk_id",
        "outbound_trunk_id",
        "dispatch_rule_id",
        "created_at",
        "updated_at",
    ]
    assert answer["properties"]["created_at"]["format"] == "date-time"
    assert _schema(openapi, operation["responses"]["422"])["title"] == "HTTPValidationError"


@pytest.mark.parametrize("model", [AddPhoneRequest, PhoneNumberCreate])
def test_examples_fit(model: Any) -> None:
    for example in model.model_json_schema()["examples"]:
        model.model_validate(example)


@pytest.mark.parametrize("code", BY_CODE)
def test_weya_has_a_status_for_every_error(code: str) -> None:
    error = BY_CODE[code]()
    answer = Weya().refuse(error)
    said = json.loads(bytes(answer.body))
    known = 500 if error.status >= 500 or code == "provider_rate_limited" else 400
    assert answer.status_code == said["code"] == WEYA.get(code, known)
    assert said["status"] is False
    assert said["data"] is None
    assert said["errorMessage"]


@pytest.mark.parametrize("code", sorted(BY_CODE.keys() - {"invalid_phone_number"}))
def test_oneinbox_has_a_code_for_every_error(code: str) -> None:
    answer = OneInbox().refuse(BY_CODE[code]())
    said = json.loads(bytes(answer.body))["detail"]
    expected = 400 if code == "sip_trunk_provision_failed" else BY_CODE[code].status
    assert (answer.status_code, said["code"]) == (expected, code.upper())
    assert said["message"]


def test_half_a_login_is_a_trunk_that_cannot_be_provisioned() -> None:
    answer = OneInbox().refuse(SipLoginIncomplete())
    assert answer.status_code == 400
    assert json.loads(bytes(answer.body)) == {
        "detail": {
            "code": "SIP_TRUNK_PROVISION_FAILED",
            "message": "Give provider_config.trunk_address with provider_config.auth_username and "
            "provider_config.auth_password.",
        }
    }


@pytest.mark.parametrize("dialect", [Weya(), OneInbox()], ids=lambda one: one.name)
def test_a_vendors_wish_to_wait_is_passed_on(dialect: Any) -> None:
    assert dialect.refuse(ProviderRateLimited(retry_after=7)).headers["retry-after"] == "7"
