"""What the owner of a number at Plivo should know before an import: registrations that are open.

https://www.plivo.com/docs/numbers/api/account-phone-number/the-accountphonenumber-object. It leaves
out the compliance status, whose words are taken to be those of a compliance application:
https://www.plivo.com/docs/numbers/compliance
"""

from __future__ import annotations

import re
from typing import Final

from worker.providers._plivo_wire import Sdk

_COMPLIANCE: Final = (
    "Plivo shows the compliance status of the number as `{status}`. Unless it is accepted, the "
    "number may not carry calls: look under Compliance in Plivo's console."
)
_NO_10DLC: Final = (
    "The number's 10DLC registration at Plivo is not complete: SMS that it sends to phones in the "
    "US is blocked until it is. It receives SMS all the same."
)
_NO_TOLL_FREE: Final = (
    "The toll-free number is not verified at Plivo: SMS that it sends to phones in the US and "
    "Canada is rejected until it is. It receives SMS all the same."
)


def advice(row: Sdk, *, sms: bool) -> tuple[str, ...]:
    """Reads the SDK's object of a number; of what Plivo leaves out nothing is said. Pure."""
    compliance, us_local, toll_free = (
        str(getattr(row, name, None) or "")
        for name in (
            "compliance_status",
            "tendlc_registration_status",
            "toll_free_sms_verification",
        )
    )
    said = []
    if re.fullmatch(r"[A-Za-z_-]{1,40}", compliance) and compliance.lower() != "accepted":
        said.append(_COMPLIANCE.format(status=compliance))
    if sms and us_local.upper() in {"UNREGISTERED", "PROCESSING"}:
        said.append(_NO_10DLC)
    if sms and toll_free.lower() in {"unverified", "pending_verification"}:
        said.append(_NO_TOLL_FREE)
    return tuple(said)
