"""Which credentials Twilio takes, and which of them do what.

https://www.twilio.com/docs/iam/api-keys, https://www.twilio.com/docs/iam/api/subaccounts
"""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import AfterValidator, SecretStr, field_validator, model_validator

from worker.providers._core import Credentials


def _sid(prefix: str) -> AfterValidator:
    def check(value: str) -> str:
        if re.fullmatch(rf"{prefix}[0-9a-fA-F]{{32}}", value) is None:
            raise ValueError(f"must be {prefix} followed by 32 hexadecimal digits")
        return value

    return AfterValidator(check)


class TwilioCredentials(Credentials):
    """An account's auth token, an API key of it, or both; or the token of its parent account.

    With both, the key makes the calls and the token verifies webhooks: Twilio signs them with the
    auth token of the account that holds the number, never with a key's secret or a parent's token.
    https://www.twilio.com/docs/usage/webhooks/webhooks-security
    """

    #: The account that holds the number.
    account_sid: Annotated[str, _sid("AC")]
    auth_token: SecretStr | None = None
    api_key_sid: Annotated[str, _sid("SK")] | None = None
    api_key_secret: SecretStr | None = None
    #: Whose auth token it is, where it is the parent's and not the account's own.
    parent_account_sid: Annotated[str, _sid("AC")] | None = None

    @field_validator("*", mode="before")
    @classmethod
    def _is_one_word(cls, value: object) -> object:
        # To a stray space Twilio says "Authenticate", which tells nobody what is wrong.
        text = value.get_secret_value() if isinstance(value, SecretStr) else value
        if text == "":
            raise ValueError("must not be empty; leave it out if there is none")
        if isinstance(text, str) and not re.fullmatch(r"[!-~]+", text):
            raise ValueError("must not contain spaces or special characters")
        return value

    @model_validator(mode="after")
    def _belongs_together(self) -> Self:
        if (self.api_key_sid is None) != (self.api_key_secret is None):
            raise ValueError("api_key_sid and api_key_secret belong together")
        if self.auth_token is None and self.api_key_sid is None:
            raise ValueError("give auth_token, or api_key_sid and api_key_secret")
        if self.parent_account_sid is not None:
            if self.auth_token is None or self.api_key_sid is not None:
                raise ValueError("with parent_account_sid give its auth_token and no API key")
            if self.parent_account_sid == self.account_sid:
                raise ValueError("account_sid must be the subaccount, not the parent account")
        return self

    @property
    def account_ref(self) -> str:
        """The SID of the account that holds the number."""
        return self.account_sid

    @property
    def can_verify_webhooks(self) -> bool:
        """Whether the account's own auth token is among them."""
        return self.auth_token is not None and self.parent_account_sid is None

    @property
    def login(self) -> tuple[str, str]:
        """User name and password of the REST API."""
        if self.api_key_sid is not None and self.api_key_secret is not None:
            return self.api_key_sid, self.api_key_secret.get_secret_value()
        assert self.auth_token is not None
        return self.parent_account_sid or self.account_sid, self.auth_token.get_secret_value()
