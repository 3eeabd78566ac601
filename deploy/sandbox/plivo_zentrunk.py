"""Zentrunk, the SIP trunking: origination URIs, credentials, access lists, trunks.

https://plivo.com/docs/sip-trunking/api/overview. All four kinds are made, listed, read, changed
and deleted in the same way; `Kind` is that way, the tables below say how they differ.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from deploy.sandbox.plivo_fields import (
    ACCESS_LIST_PARAMETERS,
    CREDENTIAL_PARAMETERS,
    TRUNK_PARAMETERS,
    URI_PARAMETERS,
    Parameters,
    checked,
)
from deploy.sandbox.plivo_render import (
    access_list_document,
    credential_document,
    trunk_document,
    uri_document,
)
from deploy.sandbox.plivo_state import AccessList, Credential, OriginationUri, Trunk
from deploy.sandbox.plivo_wire import (
    Context,
    PlivoError,
    changed,
    created,
    deleted,
    in_use,
    not_found,
    ok,
    only,
    page,
    refused,
)
from deploy.sandbox.vendor import Route

if TYPE_CHECKING:
    from deploy.sandbox.plivo_state import Account, Zentrunk
    from deploy.sandbox.plivo_wire import Operation
    from deploy.sandbox.vendor import Answer

Item = TypeVar("Item", OriginationUri, Credential, AccessList, Trunk)

_BASE: Final = "/v1/Account/{auth_id}/Zentrunk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind(Generic[Item]):
    """One kind of resource.

    Names are free: nothing is unique, and no list can be filtered by name. A create that is
    repeated makes a second one. Neither is documented otherwise.
    """

    operations: str
    segment: str
    id_name: str
    held: Callable[[Zentrunk], dict[str, Item]]
    empty: Callable[[], Item]
    parameters: Parameters
    #: Without these a create is a 422, as documented.
    required: tuple[str, ...]
    #: Raises PlivoError when the item, after the given values, is not one that may be.
    admit: Callable[[Account, Item, Mapping[str, Any]], None]
    #: Raises PlivoError when the item must stay.
    release: Callable[[Account, Item], None]
    render: Callable[[Item], dict[str, object]]
    filters: tuple[str, ...]
    created: str
    changed: str

    def index(self, context: Context) -> Answer:
        """Lists what there is; the links in `meta` have no leading slash in Zentrunk."""
        wanted = only(context, self.filters)
        found = [
            item
            for item in self.held(context.account.zentrunk).values()
            if all(_word(getattr(item, name)) == text.lower() for name, text in wanted.items())
        ]
        return page(context, found, self.render, link=context.path.removeprefix("/"))

    def create(self, context: Context) -> Answer:
        """Creates one."""
        item = self.make(context.account, context.body)
        self.held(context.account.zentrunk)[item.id] = item
        return created(self.created, **{self.id_name: item.id})

    def fetch(self, context: Context) -> Answer:
        """One of them."""
        return ok(self.render(self._find(context)))

    def update(self, context: Context) -> Answer:
        """Changes what is sent; a list is replaced as a whole."""
        item = self._find(context)
        self.amend(context.account, item, context.body)
        return changed(self.changed, **{self.id_name: item.id})

    def delete(self, context: Context) -> Answer:
        """Deletes one."""
        item = self._find(context)
        self.release(context.account, item)
        del self.held(context.account.zentrunk)[item.id]
        return deleted()

    def amend(self, account: Account, item: Item, body: Mapping[str, object]) -> None:
        """Changes what is given, all or nothing. Raises PlivoError."""
        values = checked(body, self.parameters)
        item = replace(item, **values)
        self.admit(account, item, values)
        self.held(account.zentrunk)[item.id] = item

    def make(self, account: Account, body: Mapping[str, object]) -> Item:
        """A new one, not yet in the account. Raises PlivoError."""
        values = checked(body, self.parameters)
        if missing := [name for name in self.required if name not in values]:
            raise _incomplete(*missing)
        item = replace(self.empty(), **values)
        self.admit(account, item, values)
        return item

    def routes(self) -> tuple[Route[Operation], ...]:
        """The five operations."""
        everything = f"{_BASE}/{self.segment}/"
        one = f"{everything}{{id}}/"
        return (
            Route(f"{self.operations}.list", "GET", everything, self.index),
            Route(f"{self.operations}.create", "POST", everything, self.create),
            Route(f"{self.operations}.fetch", "GET", one, self.fetch),
            Route(f"{self.operations}.update", "POST", one, self.update),
            Route(f"{self.operations}.delete", "DELETE", one, self.delete),
        )

    def _find(self, context: Context) -> Item:
        item = self.held(context.account.zentrunk).get(context.ids["id"])
        if item is None:
            raise not_found()
        return item


def _admit_anything(_account: Account, _item: object, _values: Mapping[str, Any]) -> None:
    pass


def _release_anyway(_account: Account, _item: object) -> None:
    """What a trunk refers to can be deleted, which breaks the trunk.

    Documented for access lists; for URIs and credentials it is assumed.
    """


def _admit_uri(_account: Account, item: OriginationUri, _values: Mapping[str, Any]) -> None:
    if item.authentication_needed and not (item.username and item.password):
        raise _incomplete("username", "password")


def _admit_trunk(account: Account, item: Trunk, values: Mapping[str, Any]) -> None:
    """A trunk has a name, a direction, and what its direction needs, none of what the other does.

    The documentation calls the name optional in one place and a missing one a 400 in another, says
    404 of ids that do not exist, and nothing of references that do not fit the direction.
    """
    if not item.name or not item.trunk_direction:
        raise refused("name and trunk_direction are required")
    inbound, outbound = _references(item)
    if item.trunk_direction == "inbound":
        if not item.primary_uri_uuid:
            raise refused("an inbound trunk needs primary_uri_uuid")
        misfits = outbound
    else:
        if not outbound:
            raise refused("an outbound trunk needs credential_uuid or ipacl_uuid")
        misfits = inbound
    if misfits:
        raise refused(f"not for {item.trunk_direction} trunks: {', '.join(misfits)}")
    zentrunk = account.zentrunk
    # Only what is sent is looked up: a trunk that is broken already can still be changed.
    if any(
        values[name] not in held
        for name, held in (
            ("primary_uri_uuid", zentrunk.uris),
            ("fallback_uri_uuid", zentrunk.uris),
            ("credential_uuid", zentrunk.credentials),
            ("ipacl_uuid", zentrunk.access_lists),
        )
        if name in values
    ):
        raise not_found()


def _references(item: Trunk) -> tuple[list[str], list[str]]:
    """The references that are set, by the direction that they are for."""
    is_set = {name for name, value in asdict(item).items() if name.endswith("_uuid") and value}
    inbound = is_set & {"primary_uri_uuid", "fallback_uri_uuid"}
    return sorted(inbound), sorted(is_set - inbound)


def _release_trunk(account: Account, item: Trunk) -> None:
    """What becomes of the numbers of a deleted trunk is not documented; refused."""
    if numbers := account.numbers_at(item.id):
        raise in_use(f"trunk {item.id} has numbers: {', '.join(numbers)}")


def _incomplete(*missing: str) -> PlivoError:
    return PlivoError(
        HTTPStatus.UNPROCESSABLE_ENTITY, f"missing required parameters: {', '.join(missing)}"
    )


def _word(value: object) -> str:
    return str(value).lower()


URIS: Final[Kind[OriginationUri]] = Kind(
    operations="plivo.zentrunk_uris",
    segment="URI",
    id_name="uri_uuid",
    held=lambda zentrunk: zentrunk.uris,
    empty=OriginationUri,
    parameters=URI_PARAMETERS,
    required=("uri",),
    admit=_admit_uri,
    release=_release_anyway,
    render=uri_document,
    filters=(),
    created="Origination URI created successfully.",
    changed="Origination URI updated successfully.",
)
CREDENTIALS: Final[Kind[Credential]] = Kind(
    operations="plivo.zentrunk_credentials",
    segment="Credential",
    id_name="credential_uuid",
    held=lambda zentrunk: zentrunk.credentials,
    empty=Credential,
    parameters=CREDENTIAL_PARAMETERS,
    required=("username", "password"),
    admit=_admit_anything,
    release=_release_anyway,
    render=credential_document,
    filters=(),
    created="credential created successfully.",
    changed="Credential updated successfully.",
)
ACCESS_LISTS: Final[Kind[AccessList]] = Kind(
    operations="plivo.zentrunk_ip_access_control_lists",
    segment="IPAccessControlList",
    id_name="ipacl_uuid",
    held=lambda zentrunk: zentrunk.access_lists,
    empty=AccessList,
    parameters=ACCESS_LIST_PARAMETERS,
    required=("ip_addresses",),
    admit=_admit_anything,
    release=_release_anyway,
    render=access_list_document,
    filters=(),
    created="IP access control list created successfully.",
    changed="IP access control list updated successfully.",
)
TRUNKS: Final[Kind[Trunk]] = Kind(
    operations="plivo.zentrunk_trunks",
    segment="Trunk",
    id_name="trunk_id",
    held=lambda zentrunk: zentrunk.trunks,
    empty=Trunk,
    parameters=TRUNK_PARAMETERS,
    required=(),
    admit=_admit_trunk,
    release=_release_trunk,
    render=trunk_document,
    filters=(
        "trunk_status",
        "trunk_direction",
        "secure",
        "ipacl_uuid",
        "credential_uuid",
        "primary_uri_uuid",
        "fallback_uri_uuid",
    ),
    created="Trunk created successfully.",
    changed="Trunk updated successfully.",
)

ROUTES: Final[tuple[Route[Operation], ...]] = (
    *URIS.routes(),
    *CREDENTIALS.routes(),
    *ACCESS_LISTS.routes(),
    *TRUNKS.routes(),
)
