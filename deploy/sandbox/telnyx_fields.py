"""Fields of a JSON body: what each may hold, its default, and how a change is applied."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, cast

from deploy.sandbox.telnyx_wire import TelnyxError, refused
from deploy.sandbox.twilio_fields import is_public_url

if TYPE_CHECKING:
    from typing import TypeGuard

#: Takes the field's JSON pointer and value, which is not null; raises TelnyxError.
Check = Callable[[str, object], None]
Fields = Mapping[str, "Field"]

_MAX_NAME: Final = 255
_MAX_URL: Final = 2000
_MAX_PORT: Final = 65535
_USER_NAME: Final = re.compile(r"[A-Za-z0-9]{4,32}")
_PASSWORD: Final = re.compile(r"[\x21-\x7e]{8,128}")
_COUNTRY: Final = re.compile(r"[A-Z]{2}")
_HOST: Final = re.compile(r"(?=.{1,253}$)((?!-)[A-Za-z0-9-]{1,63}(?<!-)\.)+[A-Za-z]{2,63}")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a resource; an object has `children` in place of a check of its own."""

    check: Check
    default: object = None
    children: Fields | None = None
    nullable: bool = False


def text(pointer: str, value: object) -> None:
    """A text that is not empty; how long names may be is not documented."""
    if not isinstance(value, str) or not value.strip() or len(value) > _MAX_NAME:
        raise refused(pointer, f"must be a text of 1 to {_MAX_NAME} characters")


def url(pointer: str, value: object) -> None:
    """An absolute URL that the public Internet can reach; empty clears it.

    Documented (10003): malformed or longer than 2000 characters. That private and local addresses
    are refused is assumed, as is the 400, which a client was seen to get.
    """
    if not isinstance(value, str) or len(value) > _MAX_URL or (value and not is_public_url(value)):
        raise TelnyxError(HTTPStatus.BAD_REQUEST, "10003", source={"pointer": pointer})


def required_url(pointer: str, value: object) -> None:
    """As `url`, never empty."""
    if not value:
        raise refused(pointer, f"{pointer[1:]} can't be blank", "10004")
    url(pointer, value)


def boolean(pointer: str, value: object) -> None:
    """JSON true or false."""
    if not isinstance(value, bool):
        raise refused(pointer, "must be true or false")


def number(lowest: int, highest: int) -> Check:
    """A JSON number within bounds, both included."""

    def check(pointer: str, value: object) -> None:
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not is_number or not lowest <= cast("int", value) <= highest:
            raise refused(pointer, f"must be an integer from {lowest} to {highest}")

    return check


def one_of(*values: str) -> Check:
    """One of the given words, in exactly this case."""

    def check(pointer: str, value: object) -> None:
        if value not in values:
            raise refused(pointer, f"must be one of {', '.join(values)}")

    return check


def texts(pointer: str, value: object) -> None:
    """A list of texts."""
    if not _is_list_of_text(value):
        raise refused(pointer, "must be a list of texts")


def destinations(pointer: str, value: object) -> None:
    """Countries as ISO 3166-1 alpha-2; that the codes exist is not checked."""
    if not _is_list_of_text(value) or not all(_COUNTRY.fullmatch(item) for item in value):
        raise refused(pointer, "must be a list of ISO 3166-1 alpha-2 codes")


def messaging_destinations(pointer: str, value: object) -> None:
    """Countries, or `["*"]` for all of them."""
    if value != ["*"]:
        destinations(pointer, value)


def user_name(pointer: str, value: object) -> None:
    """Documented for credential connections; assumed of FQDN connections."""
    if not isinstance(value, str) or _USER_NAME.fullmatch(value) is None:
        raise refused(pointer, "must be 4 to 32 alphanumeric characters")


def password(pointer: str, value: object) -> None:
    """8 to 128 characters are documented; that spaces are refused is assumed."""
    if not isinstance(value, str) or _PASSWORD.fullmatch(value) is None:
        raise refused(pointer, "must be 8 to 128 characters")


def host(pointer: str, value: object) -> None:
    """A host name alone: no scheme, no port, no address."""
    if not isinstance(value, str) or _HOST.fullmatch(value) is None or _is_address(value):
        raise refused(pointer, "must be a fully qualified domain name")


def port(pointer: str, value: object) -> None:
    """A TCP or UDP port."""
    number(1, _MAX_PORT)(pointer, value)


def nested(children: Fields) -> Field:
    """An object whose fields have defaults of their own."""

    def check(pointer: str, value: object) -> None:
        if not isinstance(value, Mapping):
            raise refused(pointer, "must be an object")
        check_fields(children, value, pointer)

    return Field(check, children=children)


def check_fields(fields: Fields, body: Mapping[str, object], pointer: str = "") -> None:
    """Checks what is given. Raises TelnyxError.

    The vendor is said to ignore fields that it does not know. Here they are refused: a misspelt
    field must not look like a setting that took effect. Fields that are not modelled are refused
    with them.
    """
    for name, value in body.items():
        where = f"{pointer}/{name}"
        spec = fields.get(name)
        if spec is None:
            raise refused(where, f"{name} is not a known field")
        if value is not None:
            spec.check(where, value)
        elif not spec.nullable:
            raise refused(where, f"{name} can't be null")


def defaults(fields: Fields) -> dict[str, object]:
    """Every field with its default."""
    return {
        name: defaults(spec.children) if spec.children is not None else spec.default
        for name, spec in fields.items()
    }


def replaced(fields: Fields, given: Mapping[str, object]) -> dict[str, object]:
    """What is given over the defaults, at every level."""
    return merged(defaults(fields), given)


def merged(current: Mapping[str, object], given: Mapping[str, object]) -> dict[str, object]:
    """What is given over what is there, at every level."""
    result = dict(current)
    for name, value in given.items():
        before = result.get(name)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            result[name] = merged(before, value)
        else:
            result[name] = value
    return result


def changed(
    fields: Fields, current: Mapping[str, object], given: Mapping[str, object]
) -> dict[str, object]:
    """The values after a PATCH; what is not sent stays. Raises TelnyxError.

    Whether an object inside, such as `inbound`, is merged or replaced as a whole is not documented.
    A change on which the two differ is refused: whoever sends it would lose settings at one of
    them.
    """
    result = merged(current, given)
    for name, value in given.items():
        children = fields[name].children
        if (
            children is not None
            and isinstance(value, Mapping)
            and replaced(children, value) != result[name]
        ):
            raise refused(f"/{name}", f"{name} must be sent with all its settings")
    return result


def _is_list_of_text(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def _is_address(value: str) -> bool:
    try:
        ipaddress.ip_address(value)
    except ValueError:
        return False
    return True
