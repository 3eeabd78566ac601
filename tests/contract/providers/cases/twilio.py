"""Twilio, for the suite."""

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
    AccountSuspended,
    InsufficientPermission,
    InvalidCredentials,
    NumberNotActive,
    NumberNotOwned,
    NumberNotVoiceCapable,
    SignaturesUnverifiable,
)
from worker.domain.values import ImportTag, ProviderName, ProviderTrunk, RoutingMode, TrunkPlan


def sid(prefix: str, number: int) -> str:
    """Returns an id that looks like the vendor's and is obviously made up."""
    return f"{prefix}{number:032d}"


ACCOUNT: Final = sid("AC", 1)
SUBACCOUNT: Final = sid("AC", 2)
SUSPENDED: Final = sid("AC", 3)
CLOSED: Final = sid("AC", 4)
STRANGER: Final = sid("AC", 5)
TRIAL: Final = sid("AC", 6)
OPEN: Final = sid("AC", 7)

TOKEN: Final = "sandbox-token-1"
SECONDARY_TOKEN: Final = "sandbox-token-1-secondary"
SUBACCOUNT_TOKEN: Final = "sandbox-token-2"
#: In the shape of real ones, of an account that shows its primary token to the secondary one.
OPEN_TOKEN: Final = "a" * 32
OPEN_SECONDARY_TOKEN: Final = "b" * 32

STANDARD_KEY: Final = {"api_key_sid": sid("SK", 1), "api_key_secret": "sandbox-secret-1"}
RESTRICTED_KEY: Final = {"api_key_sid": sid("SK", 2), "api_key_secret": "sandbox-secret-2"}
NUMBERS_KEY: Final = {"api_key_sid": sid("SK", 3), "api_key_secret": "sandbox-secret-3"}
OPEN_KEY: Final = {"api_key_sid": sid("SK", 5), "api_key_secret": "sandbox-secret-5"}
SUSPENDED_KEY: Final = {"api_key_sid": sid("SK", 4), "api_key_secret": "sandbox-secret-4"}

OWNED: Final = "+14155550100"
PAGED: Final = "+14155550101"
FOREIGN: Final = "+14155550102"
PARTIAL: Final = "+1415555010"
SMS_ONLY: Final = "+14155550103"
FAX: Final = "+14155550104"
PENDING: Final = "+14155550105"
NO_SMS: Final = "+14155550106"
SUBACCOUNT_NUMBER: Final = "+14155550107"

VOICE_APP: Final = sid("AP", 1)
SMS_APP: Final = sid("AP", 2)
TRUNK: Final = sid("TK", 1)
DUPLICATES: Final = (sid("TK", 8), sid("TK", 9))

_GOOD: Final = {"account_sid": ACCOUNT, "auth_token": TOKEN}
_OLD: Final = "https://old.example.com"
_URLS: Final = {
    "voice_url": f"{_OLD}/voice?key=planted-in-url",
    "voice_method": "GET",
    "voice_fallback_url": f"{_OLD}/voice-fallback",
    "voice_fallback_method": "GET",
    "voice_caller_id_lookup": True,
    "sms_url": f"{_OLD}/sms",
    "sms_method": "GET",
    "sms_fallback_url": f"{_OLD}/sms-fallback",
    "sms_fallback_method": "GET",
    "status_callback": f"{_OLD}/status",
    "status_callback_method": "GET",
}


class TwilioCase:
    """The accounts, numbers and words of the Twilio sandbox."""

    name = ProviderName.TWILIO
    vendor = "twilio"
    good: Mapping[str, str] = _GOOD
    number = OWNED
    number_id = sid("PN", 1)
    secrets: Sequence[str] = (
        TOKEN,
        SECONDARY_TOKEN,
        SUBACCOUNT_TOKEN,
        OPEN_TOKEN,
        OPEN_SECONDARY_TOKEN,
        "sandbox-secret-1",
        "sandbox-secret-2",
        "sandbox-secret-3",
        "planted-in-url",
    )
    no_trunk_because: str | None = None
    parts_apart_because: str | None = None
    rate_limit_wait: float | None = None
    forbidden: Sequence[str] = (
        "twilio.incoming_phone_numbers.delete",
        "twilio.incoming_phone_numbers.create",
    )

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
            fields={"account_sid": sid("AC", 99), "auth_token": TOKEN},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="secondary_token",
            fields={**_GOOD, "auth_token": SECONDARY_TOKEN},
            expected="auth_token",
            warnings=("primary",),
        ),
        CredentialExample(
            id="shown_primary_token",
            fields={"account_sid": OPEN, "auth_token": OPEN_TOKEN},
            expected="auth_token",
        ),
        CredentialExample(
            id="secondary_token_that_is_shown_the_primary_one",
            fields={"account_sid": OPEN, "auth_token": OPEN_SECONDARY_TOKEN},
            expected=SignaturesUnverifiable,
        ),
        CredentialExample(
            id="secondary_token_that_is_shown_the_primary_one_for_trunks",
            fields={"account_sid": OPEN, "auth_token": OPEN_SECONDARY_TOKEN},
            mode=RoutingMode.SIP_TRUNK,
            expected="auth_token",
            warnings=("primary",),
        ),
        CredentialExample(
            id="api_key_and_secondary_token",
            fields={"account_sid": OPEN, "auth_token": OPEN_SECONDARY_TOKEN, **OPEN_KEY},
            expected=SignaturesUnverifiable,
        ),
        CredentialExample(
            id="trial_account",
            fields={"account_sid": TRIAL, "auth_token": "sandbox-token-6"},
            expected="auth_token",
            warnings=("trial",),
        ),
        CredentialExample(
            id="suspended_account",
            fields={"account_sid": SUSPENDED, "auth_token": "sandbox-token-3"},
            expected=AccountSuspended,
        ),
        CredentialExample(
            id="key_of_a_suspended_account",
            fields={"account_sid": SUSPENDED, **SUSPENDED_KEY},
            expected=AccountSuspended,
        ),
        CredentialExample(
            id="closed_account",
            fields={"account_sid": CLOSED, "auth_token": "sandbox-token-4"},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="api_key",
            fields={"account_sid": ACCOUNT, **STANDARD_KEY},
            expected="api_key",
            warnings=("may change the number",),
        ),
        CredentialExample(
            id="api_key_for_trunks",
            fields={"account_sid": ACCOUNT, **STANDARD_KEY},
            mode=RoutingMode.SIP_TRUNK,
            expected="api_key",
            warnings=("may change the number",),
        ),
        CredentialExample(
            id="wrong_key_secret",
            fields={"account_sid": ACCOUNT, **STANDARD_KEY, "api_key_secret": "wrong"},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="key_of_another_account",
            fields={"account_sid": SUBACCOUNT, **STANDARD_KEY},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="api_key_and_token", fields={**_GOOD, **STANDARD_KEY}, expected="api_key"
        ),
        CredentialExample(
            id="api_key_and_wrong_token",
            fields={**_GOOD, **STANDARD_KEY, "auth_token": "wrong"},
            expected=InvalidCredentials,
        ),
        CredentialExample(
            id="restricted_key_without_numbers",
            fields={"account_sid": ACCOUNT, **RESTRICTED_KEY},
            expected=InsufficientPermission,
        ),
        CredentialExample(
            id="restricted_key_with_numbers",
            fields={"account_sid": ACCOUNT, **NUMBERS_KEY},
            expected="api_key",
            warnings=("may change the number",),
        ),
        CredentialExample(
            id="restricted_key_for_trunks",
            fields={"account_sid": ACCOUNT, **NUMBERS_KEY},
            mode=RoutingMode.SIP_TRUNK,
            expected=InsufficientPermission,
        ),
        CredentialExample(
            id="subaccount_with_its_own_token",
            fields={"account_sid": SUBACCOUNT, "auth_token": SUBACCOUNT_TOKEN},
            mode=RoutingMode.SIP_TRUNK,
            expected="auth_token",
        ),
        CredentialExample(
            id="subaccount_with_the_parents_token",
            fields={**_GOOD, "account_sid": SUBACCOUNT, "parent_account_sid": ACCOUNT},
            expected="parent_auth_token",
        ),
        CredentialExample(
            id="subaccount_with_the_parents_token_for_trunks",
            fields={**_GOOD, "account_sid": SUBACCOUNT, "parent_account_sid": ACCOUNT},
            mode=RoutingMode.SIP_TRUNK,
            expected=InsufficientPermission,
        ),
        CredentialExample(
            id="parent_of_somebody_else",
            fields={**_GOOD, "account_sid": STRANGER, "parent_account_sid": ACCOUNT},
            expected=InvalidCredentials,
        ),
    )
    numbers: Sequence[NumberExample] = (
        NumberExample(id="owned", number=OWNED),
        NumberExample(id="owned_with_its_id", number=OWNED, number_id=sid("PN", 1)),
        NumberExample(
            id="id_of_another_number",
            number=OWNED,
            number_id=sid("PN", 3),
            expected=NumberNotOwned,
        ),
        NumberExample(id="on_the_second_page", number=PAGED),
        NumberExample(id="without_sms", number=NO_SMS, sms=False),
        NumberExample(id="not_owned", number=FOREIGN, expected=NumberNotOwned),
        NumberExample(id="in_a_subaccount", number=SUBACCOUNT_NUMBER, expected=NumberNotOwned),
        NumberExample(id="only_a_part_matches", number=PARTIAL, expected=NumberNotOwned),
        NumberExample(id="without_voice", number=SMS_ONLY, expected=NumberNotVoiceCapable),
        NumberExample(id="set_to_fax", number=FAX, expected=NumberNotVoiceCapable),
        NumberExample(id="pending", number=PENDING, expected=NumberNotActive),
    )
    routings: Sequence[RoutingExample] = (
        RoutingExample(id="nothing", settings={}),
        RoutingExample(
            id="vendor_demo",
            settings={
                "voice_url": "https://demo.twilio.com/welcome/voice/",
                "sms_url": "https://demo.twilio.com/welcome/sms/reply/",
            },
        ),
        RoutingExample(
            id="urls", settings=_URLS, targets={"voice": "url", "sms": "url", "status": "url"}
        ),
        RoutingExample(
            id="applications",
            settings={"voice_application_sid": VOICE_APP, "sms_application_sid": SMS_APP},
            targets={"voice": "application", "sms": "application"},
        ),
        RoutingExample(
            id="applications_over_stored_urls",
            settings={
                **_URLS,
                "voice_application_sid": VOICE_APP,
                "sms_application_sid": SMS_APP,
            },
            targets={"voice": "application", "sms": "application", "status": "url"},
        ),
        RoutingExample(id="trunk", settings={"trunk_sid": TRUNK}, targets={"voice": "trunk"}),
        RoutingExample(
            id="trunk_over_stored_urls",
            settings={**_URLS, "trunk_sid": TRUNK},
            targets={"voice": "trunk", "sms": "url", "status": "url"},
        ),
    )

    def settings(self, url: str) -> Mapping[str, object]:
        """Returns the base URL of each product."""
        return {
            "TWILIO_API_BASE_URL": f"{url}/twilio",
            "TWILIO_TRUNKING_BASE_URL": f"{url}/twilio-trunking",
            "TWILIO_NUMBERS_BASE_URL": f"{url}/twilio-numbers",
            "TWILIO_MESSAGING_BASE_URL": f"{url}/twilio-messaging",
            "TWILIO_ROUTES_BASE_URL": f"{url}/twilio-routes",
        }

    def seed(self) -> Document:
        """Returns a main account, a subaccount, and some in trouble."""
        # The filter finds all of these by the digits of PAGED, and the newest are listed first.
        crowd = [{"phone_number": f"{PAGED}{number:03d}"} for number in range(60)]
        return {
            "accounts": [
                {
                    "sid": ACCOUNT,
                    "auth_token": TOKEN,
                    "secondary_auth_token": SECONDARY_TOKEN,
                    "api_keys": [
                        _key(STANDARD_KEY, kind="standard"),
                        _key(RESTRICTED_KEY, kind="restricted"),
                        _key(
                            NUMBERS_KEY,
                            kind="restricted",
                            permissions=["twilio.incoming_phone_numbers.*"],
                        ),
                    ],
                    "applications": [{"sid": VOICE_APP}, {"sid": SMS_APP}],
                    "trunks": [
                        {
                            "sid": TRUNK,
                            "friendly_name": "trunkline-imp-1-of-the-customer",
                            "domain_name": "customer.pstn.twilio.com",
                        }
                    ],
                    "numbers": [
                        {"sid": sid("PN", 1), "phone_number": OWNED},
                        {"sid": sid("PN", 3), "phone_number": PAGED},
                        {"phone_number": SMS_ONLY, "capabilities": {"voice": False}},
                        {"phone_number": FAX, "voice_receive_mode": "fax"},
                        {"phone_number": PENDING, "status": "pending-verification"},
                        {"phone_number": NO_SMS, "capabilities": {"sms": False}},
                        *crowd,
                    ],
                },
                {
                    "sid": SUBACCOUNT,
                    "auth_token": SUBACCOUNT_TOKEN,
                    "owner_account_sid": ACCOUNT,
                    "numbers": [{"phone_number": SUBACCOUNT_NUMBER}],
                },
                {
                    "sid": SUSPENDED,
                    "auth_token": "sandbox-token-3",
                    "status": "suspended",
                    "api_keys": [_key(SUSPENDED_KEY, kind="standard")],
                },
                {"sid": CLOSED, "auth_token": "sandbox-token-4", "status": "closed"},
                {
                    "sid": STRANGER,
                    "auth_token": "sandbox-token-5",
                    "numbers": [{"phone_number": FOREIGN}],
                },
                {
                    "sid": OPEN,
                    "auth_token": OPEN_TOKEN,
                    "secondary_auth_token": OPEN_SECONDARY_TOKEN,
                    "shows_token_to_secondary": True,
                    "api_keys": [_key(OPEN_KEY, kind="standard")],
                },
                {"sid": TRIAL, "auth_token": "sandbox-token-6", "type": "Trial"},
            ]
        }

    def edit(self, settings: Mapping[str, object]) -> Document:
        """Returns a change of the owned number."""
        changes = dict(settings)
        remove = changes.pop("remove", False)
        return {"account": ACCOUNT, "phone_number": OWNED, "set": changes, "remove": remove}

    def number_state(self, state: State) -> object:
        """Returns all fields of the owned number."""
        return _account(state)["numbers"].get(OWNED)

    def made(self, state: State) -> Made:
        """Returns trunks and credential lists with all that is in them."""
        account = _account(state)
        trunks, lists = account["trunks"].values(), account["credential_lists"].values()
        return {
            "trunk": frozenset(trunk["sid"] for trunk in trunks),
            "origination": frozenset(
                url["sid"] for trunk in trunks for url in trunk["origination_urls"]
            ),
            "mapping": frozenset(
                f"{trunk['sid']}/{found}"
                for trunk in trunks
                for found in trunk["credential_list_sids"]
            ),
            "credential_list": frozenset(found["sid"] for found in lists),
            "credential": frozenset(
                credential["sid"] for found in lists for credential in found["credentials"]
            ),
            "application": frozenset(account["applications"]),
        }

    def check_trunk(
        self, state: State, tag: ImportTag, plan: TrunkPlan, trunk: ProviderTrunk
    ) -> None:
        """Looks at the trunk, its one origination URL and its one login."""
        account = _account(state)
        found = account["trunks"][trunk.objects["trunk"]]
        assert (found["friendly_name"], found["secure"]) == (tag.name, plan.secure)
        transport = "tls" if plan.secure else "tcp"
        host = plan.origination_host
        urls = [url["sip_url"] for url in found["origination_urls"] if url["enabled"]]
        assert urls == ([f"sip:{host};transport={transport}"] if host is not None else [])
        if plan.termination is None:
            assert trunk.termination_address is None
            assert found["credential_list_sids"] == []
            return
        assert trunk.termination_address == found["domain_name"]
        assert found["credential_list_sids"] == [trunk.objects["credential_list"]]
        logins = account["credential_lists"][trunk.objects["credential_list"]]["credentials"]
        fingerprint = hashlib.sha256(plan.termination.password.encode()).hexdigest()[:12]
        assert [(login["username"], login["fingerprint"]) for login in logins] == [
            (plan.termination.username, fingerprint)
        ]

    def duplicates(self, tag: ImportTag) -> Document:
        """Returns two trunks of our name; the vendor lets no two have the same domain."""
        trunks = [
            {
                "sid": found,
                "friendly_name": tag.name,
                "domain_name": f"copy-{number}.pstn.twilio.com",
            }
            for number, found in enumerate(DUPLICATES)
        ]
        return {"accounts": [{"sid": ACCOUNT, "trunks": trunks}]}

    def oldest_duplicate(self) -> str:
        """Returns the one that is listed last: the vendor lists the newest first."""
        return DUPLICATES[0]

    def use_trunk(self, trunk: ProviderTrunk) -> Document:
        """Puts another number of the account on the trunk."""
        settings = {"trunk_sid": trunk.objects["trunk"]}
        return {"account": ACCOUNT, "phone_number": PAGED, "set": settings}

    def free_trunk(self) -> Document:
        """Takes it off again."""
        return {"account": ACCOUNT, "phone_number": PAGED, "set": {"trunk_sid": ""}}


def _key(login: Mapping[str, str], **rest: object) -> dict[str, object]:
    return {"sid": login["api_key_sid"], "secret": login["api_key_secret"], **rest}


def _account(state: State) -> dict[str, Any]:
    accounts: Any = state["accounts"]
    account: dict[str, Any] = accounts[ACCOUNT]
    return account


CASE: ProviderCase = TwilioCase()
