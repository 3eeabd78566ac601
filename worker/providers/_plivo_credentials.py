"""What a customer gives us to act at Plivo."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, SecretStr, field_validator

from worker.providers._core import Credentials


def _auth_id(value: str) -> str:
    if re.fullmatch(r"(M|S)A[A-Z0-9]{18}", value) is None:
        raise ValueError("must be MA or SA followed by 18 capital letters and digits")
    return value


class PlivoCredentials(Credentials):
    """Auth id and token of the account or subaccount that holds the number."""

    auth_id: Annotated[str, AfterValidator(_auth_id)]
    auth_token: SecretStr

    @field_validator("auth_token")
    @classmethod
    def _is_one_word(cls, value: SecretStr) -> SecretStr:
        if re.fullmatch(r"[!-~]+", value.get_secret_value()) is None:
            raise ValueError("must be one word without spaces or special characters")
        return value

    @property
    def account_ref(self) -> str:
        """The auth id."""
        return self.auth_id

    @property
    def can_verify_webhooks(self) -> bool:
        """Always: Plivo signs with the auth token."""
        return True
