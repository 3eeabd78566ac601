"""Plivo, for the suite."""

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
from worker.domain.errors import (
    InsufficientPermission,
    InvalidCredentials,
    NumberNotActive,
    NumberNotOwned,
    NumberNotVoiceCapable,
)
from worker.domain.values import (
    ImportTag,
    ProviderName,
    ProviderTrunk,
    RoutingMode,
    SipLogin,
    TrunkPlan,
)


def auth_id(kind: str, number: int) -> str:
    """Returns an auth id as the vendor makes them."""
    return f"{kind}{number:018d}"


ACCOUNT: Final = auth_id("MA", 1)
TOKEN: Final = "sandbox-token-1"
SUBACCOUNT: Final = auth_id("SA", 2)
SUBACCOUNT_TOKEN: Final = "sandbox-token-2"
DISABLED: Final = auth_id("SA", 3)
STRANGER: Final = auth_id("MA", 4)
UNTRUNKED: Final = auth_id("MA", 5)
UNTRUNKED_LOGIN: Final = {"auth_id": UNTRUNKED, "auth_token": "sandbox-token-5"}

OWNED: Final = "+14155550100"
OTHER: Final = "+14155550101"
SMS_ONLY: Final = "+14155550102"
INACTIVE: Final = "+14155550103"
NO_SMS: Final = "+14155550104"
SUBACCOUNT_NUMBER: Final = "+14155550105"
FOREIGN: Final = "+14155550106"
UNROUTED: Final = "+14155550107"
PREFIX_ONLY: Final = "+1415555010"

APP: Final = "10000000000000001"
OTHER_APP: Final = "10000000000000002"
DEFAULT_APP: Final = "10000000000000003"
URI: Final = "00000000-0000-4000-8000-000000000001"
TRUNK: Final = "20000000000000001"
DUPLICATES: Final = ("20000000000000008", "20000000000000009")
DUPLICATE_URIS: Final = (f"{URI[:-1]}8", f"{URI[:-1]}9")

_GOOD: Final = {"auth_id": ACCOUNT, "auth_token": TOKEN}


class PlivoCase:
    """The accounts, numbers and words of the Plivo sandbox."""

    name = ProviderName.PLIVO
    vendor = "plivo"
    good: Mapping[str, str] = _GOOD
    number = OWNED
    number_id = OWNED.removeprefix("+")
    secrets: Sequence[str] = (TOKEN, SUBACCOUNT_TOKEN, "planted-in-url")
    no_trunk_because: str | None = None
    parts_apart_because: str | None = None
    rate_limit_wait: float | None = None
    forbidden: Sequence[str] = ("plivo.numbers.delete", "plivo.numbers.buy")

    credentials: Sequence[CredentialExample] = (
        CredentialExample(id="auth_token", fields=_GOOD, expected="auth_token"),
        CredentialExample(
            id="auth_token_for_trunks",
            fields=_GOOD,
            mode=RoutingMode.SIP_TRUNK,
            expected="auth_token",
        ),
        CredentialExample(
            id="wrong_token",
            fields={**_GOOD, "auth_token": "wrong"},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="token_of_another_account",
            fields={**_GOOD, "auth_token": SUBACCOUNT_TOKEN},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="no_such_account",
            fields={"auth_id": auth_id("MA", 99), "auth_token": TOKEN},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="subaccount",
            fields={"auth_id": SUBACCOUNT, "auth_token": SUBACCOUNT_TOKEN},
            expected="auth_token",
        ),
        CredentialExample(
            id="subaccount_for_trunks",
            fields={"auth_id": SUBACCOUNT, "auth_token": SUBACCOUNT_TOKEN},
            mode=RoutingMode.SIP_TRUNK,
            expected=InsufficientPermission,
        ),
        CredentialExample(
            id="disabled_subaccount",
            fields={"auth_id": DISABLED, "auth_token": "sandbox-token-3"},
            expected=InvalidCredentials,
        ),
        CredentialExample(id="without_trunking", fields=UNTRUNKED_LOGIN, expected="auth_token"),
        CredentialExample(
            id="without_trunking_for_trunks",
            fields=UNTRUNKED_LOGIN,
            mode=RoutingMode.SIP_TRUNK,
            expected=InsufficientPermission,
        ),
    )
    numbers: Sequence[NumberExample] = (
        NumberExample(id="owned", number=OWNED),
        NumberExample(id="owned_with_its_id", number=OWNED, number_id=number_id),
        NumberExample(
            id="id_of_another_number",
            number=OWNED,
            number_id=OTHER.removeprefix("+"),
            expected=NumberNotOwned,
        ),
        NumberExample(id="of_a_subaccount", number=SUBACCOUNT_NUMBER),
        NumberExample(id="without_sms", number=NO_SMS, sms=False),
        NumberExample(id="not_owned", number=FOREIGN, expected=NumberNotOwned),
        NumberExample(id="only_a_part_matches", number=PREFIX_ONLY, expected=NumberNotOwned),
        NumberExample(id="without_voice", number=SMS_ONLY, expected=NumberNotVoiceCapable),
        NumberExample(id="inactive", number=INACTIVE, expected=NumberNotActive),
    )
    #: None without an application: it could not come back (test_plivo_only.py).
    routings: Sequence[RoutingExample] = (
        RoutingExample(id="as_seeded", settings={}, targets={"voice": "application"}),
        RoutingExample(
            id="application", settings={"app_id": OTHER_APP}, targets={"voice": "application"}
        ),
        # Its id is given as app_id too, and nothing depends on telling the two apart.
        RoutingExample(id="trunk", settings={"app_id": TRUNK}, targets={"voice": "application"}),
    )

    def settings(self, url: str) -> Mapping[str, object]:
        """Returns the base URL."""
        return {"PLIVO_API_BASE_URL": f"{url}/plivo"}

    def seed(self) -> Document:
        """Returns a main account, subaccounts, a stranger, and one without trunking."""
        # More than a page of each kind, so that ours have to be looked for.
        crowd = [{"app_name": f"crowd-{number}"} for number in range(25)]
        logins = [
            {"name": f"crowd-{number}", "username": f"u{number}", "password": "sandbox-password"}
            for number in range(25)
        ]
        return {
            "accounts": [
                {
                    "auth_id": ACCOUNT,
                    "auth_token": TOKEN,
                    "default_app": DEFAULT_APP,
                    "applications": [
                        {
                            "app_id": APP,
                            "app_name": "customer",
                            "answer_url": "https://old.example.com/voice?key=planted-in-url",
                        },
                        {"app_id": OTHER_APP, "app_name": "trunkline-imp-1-of-the-customer"},
                        {"app_id": DEFAULT_APP, "app_name": "default"},
                        *crowd,
                    ],
                    "zentrunk": {
                        "uris": [{"uri_uuid": URI, "name": "customer", "uri": "sip.example.com"}],
                        "credentials": logins,
                        "trunks": [
                            {
                                "trunk_id": TRUNK,
                                "name": "trunkline-imp-1-of-the-customer",
                                "trunk_direction": "inbound",
                                "primary_uri_uuid": URI,
                            }
                        ],
                    },
                    "numbers": [
                        {"number": digits(OWNED), "app_id": APP},
                        {"number": digits(OTHER), "app_id": APP},
                        {"number": digits(SMS_ONLY), "voice_enabled": False},
                        {"number": digits(INACTIVE), "active": False},
                        {"number": digits(NO_SMS), "sms_enabled": False},
                        {"number": digits(UNROUTED)},
                        *({"number": f"1415555{number}"} for number in range(1000, 1025)),
                    ],
                },
                {
                    "auth_id": SUBACCOUNT,
                    "auth_token": SUBACCOUNT_TOKEN,
                    "main": ACCOUNT,
                    "numbers": [{"number": digits(SUBACCOUNT_NUMBER)}],
                },
                {
                    "auth_id": DISABLED,
                    "auth_token": "sandbox-token-3",
                    "main": ACCOUNT,
                    "enabled": False,
                },
                {
                    "auth_id": STRANGER,
                    "auth_token": "sandbox-token-4",
                    "numbers": [{"number": digits(FOREIGN)}],
                },
                {**UNTRUNKED_LOGIN, "sip_trunking": False},
            ]
        }

    def edit(self, settings: Mapping[str, object]) -> Document:
        """Returns a change of the owned number."""
        changes = dict(settings)
        remove = changes.pop("remove", False)
        return {"account": ACCOUNT, "number": OWNED, "set": changes, "remove": remove}

    def number_state(self, state: State) -> object:
        """Returns all fields of the owned number."""
        return account_of(state)["numbers"].get(digits(OWNED))

    def made(self, state: State) -> Made:
        """Returns everything of Zentrunk, trunks by their direction, and applications."""
        account = account_of(state)
        trunks = account["zentrunk"]["trunks"].values()
        return {
            "application": frozenset(account["applications"]),
            "origination_uri": frozenset(account["zentrunk"]["uris"]),
            "credential": frozenset(account["zentrunk"]["credentials"]),
            **{
                f"{direction}_trunk": frozenset(
                    trunk["id"] for trunk in trunks if trunk["trunk_direction"] == direction
                )
                for direction in ("inbound", "outbound")
            },
        }

    def check_trunk(
        self, state: State, tag: ImportTag, plan: TrunkPlan, trunk: ProviderTrunk
    ) -> None:
        """Looks at the trunk of each direction and at what it refers to."""
        zentrunk, made = account_of(state)["zentrunk"], trunk.objects
        expected = set()
        if plan.origination_host is not None:
            expected |= {"origination_uri", "inbound_trunk"}
            inbound = zentrunk["trunks"][made["inbound_trunk"]]
            assert inbound["primary_uri_uuid"] == made["origination_uri"]
            _check_trunk(inbound, f"{tag.name}-inbound", plan)
            uri = zentrunk["uris"][made["origination_uri"]]
            transport = "tls" if plan.secure else "tcp"
            assert uri["name"] == tag.name
            assert uri["uri"] == f"{plan.origination_host};transport={transport}"
            assert uri["authentication_needed"] is (plan.origination_login is not None)
            if plan.origination_login is not None:
                _check_login(uri, plan.origination_login)
        if plan.termination is None:
            assert trunk.termination_address is None
        else:
            expected |= {"credential", "outbound_trunk"}
            outbound = zentrunk["trunks"][made["outbound_trunk"]]
            assert outbound["credential_uuid"] == made["credential"]
            _check_trunk(outbound, f"{tag.name}-outbound", plan)
            assert trunk.termination_address == f"{made['outbound_trunk']}.zt.plivo.com"
            _check_login(zentrunk["credentials"][made["credential"]], plan.termination)
        assert made.keys() == expected

    def duplicates(self, tag: ImportTag) -> Document:
        """Returns two inbound trunks of our name, each with its URI."""
        uris = [
            {"uri_uuid": found, "name": tag.name, "uri": "stale.example.com"}
            for found in DUPLICATE_URIS
        ]
        trunks = [
            {
                "trunk_id": found,
                "name": f"{tag.name}-inbound",
                "trunk_direction": "inbound",
                "primary_uri_uuid": uri,
            }
            for found, uri in zip(DUPLICATES, DUPLICATE_URIS, strict=True)
        ]
        return {"accounts": [{"auth_id": ACCOUNT, "zentrunk": {"uris": uris, "trunks": trunks}}]}

    def oldest_duplicate(self) -> str:
        """Returns the one that is listed last: the sandbox lists the newest first."""
        return DUPLICATES[0]

    def use_trunk(self, trunk: ProviderTrunk) -> Document:
        """Puts another number of the account on the trunk."""
        return move(OTHER, trunk.objects["inbound_trunk"])

    def free_trunk(self) -> Document:
        """Takes it off again."""
        return move(OTHER, APP)


def move(number: str, target: str) -> Document:
    """Returns an edit that points a number at an application or a trunk."""
    return {"account": ACCOUNT, "number": number, "set": {"app_id": target}}


def digits(number: str) -> str:
    """Returns a number as the vendor calls it."""
    return number.removeprefix("+")


def account_of(state: State) -> dict[str, Any]:
    """Returns the main account."""
    accounts: Any = state["accounts"]
    account: dict[str, Any] = accounts[ACCOUNT]
    return account


def _check_trunk(found: Mapping[str, object], name: str, plan: TrunkPlan) -> None:
    assert (found["name"], found["secure"]) == (name, plan.secure)
    assert (found["trunk_status"], found["broken"]) == ("enabled", False)


def _check_login(found: Mapping[str, object], login: SipLogin) -> None:
    fingerprint = hashlib.sha256(login.password.encode()).hexdigest()[:12]
    assert (found["username"], found["fingerprint"]) == (login.username, fingerprint)


CASE: ProviderCase = PlivoCase()
