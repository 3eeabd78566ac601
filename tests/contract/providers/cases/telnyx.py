"""Telnyx, for the suite."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.contract.providers.case import (
    CredentialExample,
    Document,
    Made,
    NumberExample,
    ProviderCase,
    RoutingExample,
    State,
)
from tests.vendors import TELNYX_PUBLIC_KEY
from worker.domain.errors import (
    AccountSuspended,
    InsufficientPermission,
    InvalidCredentials,
    NumberNotActive,
    NumberNotOwned,
)
from worker.domain.values import ImportTag, ProviderName, ProviderTrunk, RoutingMode, TrunkPlan


def made_up(number: int) -> str:
    """Returns an id that looks like the vendor's and is obviously made up."""
    return f"1{number:018d}"


ACCOUNT: Final = "telnyx-account"
KEY: Final = "KEY-sandbox-1"
NUMBERS_KEY: Final = "KEY-sandbox-2"
NOTHING_KEY: Final = "KEY-sandbox-3"
SUSPENDED_KEY: Final = "KEY-sandbox-4"
STRANGERS_KEY: Final = "KEY-sandbox-5"
NO_PROFILES_KEY: Final = "KEY-sandbox-6"
PUBLIC_KEY: Final = TELNYX_PUBLIC_KEY

OWNED: Final = "+14155550100"
OTHER: Final = "+14155550101"
FOREIGN: Final = "+14155550102"
PARTIAL: Final = "+1415555010"
PENDING: Final = "+14155550105"
NO_SMS: Final = "+14155550106"

CALL_CONTROL: Final = made_up(21)
TEXML: Final = made_up(22)
CREDENTIAL: Final = made_up(23)
FQDN: Final = made_up(24)
IP: Final = made_up(25)
PROFILE: Final = "00000000-0000-4000-8000-000000000001"
DUPLICATES: Final = (made_up(31), made_up(32))

_GOOD: Final = {"api_key": KEY, "public_key": PUBLIC_KEY}
_OLD: Final = "https://old.example.com"


class TelnyxCase:
    """The accounts, numbers and words of the Telnyx sandbox."""

    name = ProviderName.TELNYX
    vendor = "telnyx"
    good: Mapping[str, str] = _GOOD
    number = OWNED
    number_id = made_up(1)
    secrets: Sequence[str] = (KEY, "planted-in-url", "Their-Password-1")
    no_trunk_because: str | None = None
    parts_apart_because: str | None = "Calls and messages of a number are two resources."
    #: As the sandbox says in x-ratelimit-reset.
    rate_limit_wait: float | None = 1.0
    forbidden: Sequence[str] = ("telnyx.phone_numbers.delete", "telnyx.unknown")

    credentials: Sequence[CredentialExample] = (
        CredentialExample(id="api_key", fields=_GOOD, expected="api_key"),
        CredentialExample(id="without_public_key", fields={"api_key": KEY}, expected="api_key"),
        CredentialExample(
            id="api_key_for_trunks",
            fields=_GOOD,
            mode=RoutingMode.SIP_TRUNK,
            expected="api_key",
        ),
        CredentialExample(
            id="wrong_key", fields={"api_key": "KEY-wrong"}, expected=InvalidCredentials
        ),
        CredentialExample(id="narrow_key", fields={"api_key": NUMBERS_KEY}, expected="api_key"),
        CredentialExample(
            id="narrow_key_for_trunks",
            fields={"api_key": NUMBERS_KEY},
            mode=RoutingMode.SIP_TRUNK,
            expected=InsufficientPermission,
        ),
        CredentialExample(
            id="key_without_voice_profiles",
            fields={"api_key": NO_PROFILES_KEY},
            expected=InsufficientPermission,
        ),
        CredentialExample(
            id="key_without_rights",
            fields={"api_key": NOTHING_KEY},
            expected=InsufficientPermission,
        ),
        CredentialExample(
            id="suspended_account", fields={"api_key": SUSPENDED_KEY}, expected=AccountSuspended
        ),
    )
    numbers: Sequence[NumberExample] = (
        NumberExample(id="owned", number=OWNED),
        NumberExample(id="owned_with_its_id", number=OWNED, number_id=made_up(1)),
        NumberExample(
            id="id_of_another_number",
            number=OWNED,
            number_id=made_up(3),
            expected=NumberNotOwned,
        ),
        NumberExample(id="without_sms", number=NO_SMS, sms=False),
        NumberExample(id="not_owned", number=FOREIGN, expected=NumberNotOwned),
        NumberExample(id="only_a_part_matches", number=PARTIAL, expected=NumberNotOwned),
        NumberExample(id="porting", number=PENDING, expected=NumberNotActive),
    )
    routings: Sequence[RoutingExample] = (
        RoutingExample(id="nothing", settings={}),
        RoutingExample(
            id="call_control",
            settings={"connection_id": CALL_CONTROL},
            targets={"voice": "application"},
        ),
        RoutingExample(
            id="texml_and_messages",
            settings={"connection_id": TEXML, "messaging_profile_id": PROFILE},
            targets={"voice": "application", "sms": "application"},
        ),
        RoutingExample(
            id="credential_connection",
            settings={"connection_id": CREDENTIAL},
            targets={"voice": "connection"},
        ),
        RoutingExample(
            id="fqdn_connection",
            settings={"connection_id": FQDN},
            targets={"voice": "connection"},
        ),
        RoutingExample(
            id="ip_connection_and_messages",
            settings={"connection_id": IP, "messaging_profile_id": PROFILE},
            targets={"voice": "connection", "sms": "application"},
        ),
    )

    def settings(self, url: str) -> Mapping[str, object]:
        """Returns the base URL, which ends in the API's version."""
        return {"TELNYX_API_BASE_URL": f"{url}/telnyx/v2"}

    def seed(self) -> Document:
        """Returns a main account, a stranger's, and one in trouble."""
        return {
            "accounts": [
                {
                    "id": ACCOUNT,
                    "api_key": KEY,
                    "api_keys": [
                        {
                            "api_key": NUMBERS_KEY,
                            "scopes": [
                                "telnyx.phone_numbers.*",
                                "telnyx.texml_applications.*",
                                "telnyx.outbound_voice_profiles.*",
                            ],
                        },
                        {
                            "api_key": NO_PROFILES_KEY,
                            "scopes": ["telnyx.phone_numbers.*", "telnyx.texml_applications.*"],
                        },
                        {"api_key": NOTHING_KEY, "scopes": []},
                    ],
                    # The other answer is in test_telnyx_only.
                    "rules": {"null_unassigns": True},
                    "messaging_profiles": [
                        {
                            "id": PROFILE,
                            "name": "trunkline-imp-1-of-the-customer",
                            "whitelisted_destinations": ["US"],
                            "webhook_url": f"{_OLD}/sms?key=planted-in-url",
                        }
                    ],
                    "connections": [
                        {
                            "id": CALL_CONTROL,
                            "record_type": "call_control_application",
                            "application_name": "theirs",
                            "webhook_event_url": f"{_OLD}/voice?key=planted-in-url",
                        },
                        {
                            "id": TEXML,
                            "record_type": "texml_application",
                            "friendly_name": "trunkline-imp-1-of-the-customer",
                            "voice_url": f"{_OLD}/voice?key=planted-in-url",
                        },
                        {
                            "id": CREDENTIAL,
                            "record_type": "credential_connection",
                            "connection_name": "theirs",
                            "user_name": "their1",
                            "password": "Their-Password-1",
                        },
                        {
                            "id": FQDN,
                            "record_type": "fqdn_connection",
                            "connection_name": "trunkline-imp-1-of-the-customer",
                        },
                        {"id": IP, "record_type": "ip_connection", "connection_name": "theirs"},
                    ],
                    "fqdns": [
                        {
                            "connection_id": FQDN,
                            "fqdn": "their.sip.example.com",
                            "dns_record_type": "srv",
                        }
                    ],
                    "numbers": [
                        {"id": made_up(1), "phone_number": OWNED},
                        {"id": made_up(3), "phone_number": OTHER},
                        {"phone_number": PENDING, "status": "port-pending"},
                        {"phone_number": NO_SMS, "sms": False},
                    ],
                },
                {"api_key": STRANGERS_KEY, "numbers": [{"phone_number": FOREIGN}]},
                {"api_key": SUSPENDED_KEY, "status": "suspended"},
            ]
        }

    def edit(self, settings: Mapping[str, object]) -> Document:
        """Returns a change of the owned number: what is not named is taken off it."""
        changes = {"connection_id": None, "messaging_profile_id": None, **settings}
        remove = changes.pop("remove", False)
        return {"account": ACCOUNT, "phone_number": OWNED, "set": changes, "remove": remove}

    def number_state(self, state: State) -> object:
        """Returns all fields of the owned number."""
        return _account(state)["numbers"].get(OWNED)

    def made(self, state: State) -> Made:
        """Returns whatever the adapter can make."""
        account = _account(state)
        connections = account["connections"].values()
        profiles = account["outbound_voice_profiles"].values()
        return {
            "connection": frozenset(
                found["id"] for found in connections if "application" not in found["record_type"]
            ),
            "application": frozenset(
                found["id"] for found in connections if "application" in found["record_type"]
            ),
            "fqdn": frozenset(account["fqdns"]),
            "application_voice_profile": frozenset(
                found["id"] for found in profiles if found["name"].endswith("-application")
            ),
            "outbound_voice_profile": frozenset(
                found["id"] for found in profiles if not found["name"].endswith("-application")
            ),
            "messaging_profile": frozenset(account["messaging_profiles"]),
        }

    def check_trunk(
        self, state: State, tag: ImportTag, plan: TrunkPlan, trunk: ProviderTrunk
    ) -> None:
        """Looks at the connection, its one FQDN, its login and its voice profile."""
        account = _account(state)
        found = account["connections"][trunk.objects["connection"]]
        assert (found["connection_name"], found["active"]) == (tag.name, True)
        assert found["transport_protocol"] == ("TLS" if plan.secure else "TCP")
        assert found["inbound"]["ani_number_format"] == "+E.164"
        assert found["inbound"]["dnis_number_format"] == "+e164"
        leads_to = [
            f"{fqdn['fqdn']}:{fqdn['port']}"
            for fqdn in account["fqdns"].values()
            if fqdn["connection_id"] == found["id"]
        ]
        host = plan.origination_host
        if host is not None and ":" not in host:
            host = f"{host}:{5061 if plan.secure else 5060}"
        assert leads_to == ([host] if host is not None else [])
        if plan.termination is None:
            assert trunk.termination_address is None
            assert found["outbound"]["outbound_voice_profile_id"] is None
            return
        assert trunk.termination_address == "sip.telnyx.com"
        profile = account["outbound_voice_profiles"][trunk.objects["outbound_voice_profile"]]
        assert (profile["name"], profile["enabled"]) == (tag.name, True)
        assert found["outbound"]["outbound_voice_profile_id"] == profile["id"]
        assert found["outbound"]["ip_authentication_method"] == "credential-authentication"
        fingerprint = hashlib.sha256(plan.termination.password.encode()).hexdigest()[:12]
        assert (found["user_name"], found["auth_fingerprint"]) == (
            plan.termination.username,
            fingerprint,
        )

    def duplicates(self, tag: ImportTag) -> Document:
        """Returns two connections of our name."""
        connections = [
            {"id": found, "record_type": "fqdn_connection", "connection_name": tag.name}
            for found in DUPLICATES
        ]
        return {"accounts": [{"api_key": KEY, "id": ACCOUNT, "connections": connections}]}

    def oldest_duplicate(self) -> str:
        """Returns the one that is listed last: the vendor lists the newest first."""
        return DUPLICATES[0]

    def use_trunk(self, trunk: ProviderTrunk) -> Document:
        """Puts another number of the account on the connection."""
        settings = {"connection_id": trunk.objects["connection"]}
        return {"account": ACCOUNT, "phone_number": OTHER, "set": settings}

    def free_trunk(self) -> Document:
        """Takes it off again."""
        return {"account": ACCOUNT, "phone_number": OTHER, "set": {"connection_id": None}}


def _account(state: State) -> dict[str, Any]:
    accounts: Any = state["accounts"]
    account: dict[str, Any] = accounts[ACCOUNT]
    return account


CASE: ProviderCase = TelnyxCase()
