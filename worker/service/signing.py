"""What an organisation checks our notifications with."""

from __future__ import annotations

from worker.domain.access import Caller, Permission
from worker.domain.values import format_id
from worker.notifications import SigningSecret, SigningSecrets
from worker.service._core import Part


class Signing(Part):
    """Requests about the secret that notifications are signed with."""

    def signing_secret(self, caller: Caller) -> SigningSecret:
        """Returns the organisation's secret, made if this is its first use.

        Safe to repeat: yes, and all get the same one.
        """
        caller.require(Permission.CREATE_NUMBERS)
        found = self._signing().get(caller.organization_id)
        self._audit(caller, "signing_secret.read", format_id("org", caller.organization_id))
        return found

    def rotate_signing_secret(self, caller: Caller) -> SigningSecret:
        """Replaces the secret; the old one goes on signing beside the new one for a day.

        Safe to repeat: no. A second rotation within the day ends what the first one replaced.
        """
        caller.require(Permission.CREATE_NUMBERS)
        rotated = self._signing().rotate(caller.organization_id)
        self._audit(caller, "signing_secret.rotate", format_id("org", caller.organization_id))
        return rotated

    def _signing(self) -> SigningSecrets:
        return SigningSecrets(self._notifications, self._vault)
