"""What a number is pointed at besides a SIP trunk: TeXML application and messaging profile.

Pointing a number at them is left to ``telnyx``, with which settings each of these is made to
``_telnyx_settings``, and how it is found, adopted and deleted to ``_telnyx_objects``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from worker.domain.errors import UndoFailed, WebhookSetupFailed
from worker.domain.values import Fields, ImportTag, Objects
from worker.providers import _telnyx_settings as settings
from worker.providers._core import Record
from worker.providers._telnyx_objects import ImportObjects, name_of, noting

_PROFILE: Final = "application_voice_profile"


def prepare_application(
    made: ImportObjects, tag: ImportTag, planned: Mapping[str, Fields], *, record: Record
) -> Objects:
    """Makes what is planned, the application's outbound voice profile before the application."""
    objects: dict[str, str] = {}
    note = noting(objects, record)
    refused = WebhookSetupFailed
    for kind in planned:
        wanted = settings.sent(kind, planned, objects)
        made.have(kind, name_of(kind, tag), wanted, refused=refused, note=note)
    if _PROFILE in objects:
        # Only now: until it was set anew, the application may have used one of these.
        made.keep_only(objects[_PROFILE], _PROFILE, name_of(_PROFILE, tag), refused=refused)
    return objects


def remove_application(made: ImportObjects, tag: ImportTag, objects: Objects) -> None:
    """Deletes application, its outbound voice profile, and messaging profile.

    Whether Telnyx refuses to delete a profile in use is not documented: in this order it is not.
    """
    for kind in ("application", _PROFILE, "messaging_profile"):
        for found in made.ids(kind, name_of(kind, tag), objects):
            made.delete(kind, found, UndoFailed)
