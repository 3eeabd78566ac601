"""How callers may spell the id of an agent, a user or a credential.

As ours (agt_01890a5d…), as a UUID, or as the id that they gave it themselves, so that a client of
another platform goes on sending the ids that it knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from worker.domain.errors import InvalidRequest
from worker.domain.values import parse_id

#: What an external_id may be.
EXTERNAL_ID: Final = r"^[A-Za-z0-9_.:-]{1,64}$"
_EXTERNAL_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_UUID: Final = re.compile(
    r"(?:urn:uuid:)?([0-9a-f]{8})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{4})-?([0-9a-f]{12})",
    re.IGNORECASE | re.ASCII,
)
_OURS: Final = ("agt", "usr", "cred")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a text may name: it names ours first, and what the caller called so otherwise."""

    own_id: UUID | None
    external_id: str | None


def parse_reference(prefix: str, text: str) -> Reference:
    """Reads an id in any spelling; a text that is none names nothing."""
    own_id = parse_id(prefix, text)
    if own_id is not None:
        return Reference(own_id=own_id, external_id=None)
    uuid = _UUID.fullmatch(text)
    return Reference(
        own_id=None if uuid is None else UUID(hex="".join(uuid.groups())),
        # Compared as it was given: nothing is known of what upper case means in it.
        external_id=text if _EXTERNAL_ID.fullmatch(text) else None,
    )


def parse_external_id(text: str) -> str:
    """Returns an external id that can never be taken for one of ours.

    Raises:
        InvalidRequest: it has another shape, or ours.
    """
    if _EXTERNAL_ID.fullmatch(text) is None:
        raise InvalidRequest(
            "Give an external_id of 1 to 64 letters, digits, underscores, dots, colons or hyphens."
        )
    if any(parse_id(prefix, text) is not None for prefix in _OURS):
        raise InvalidRequest("Give an external_id of your own; this one looks like one of ours.")
    return text
