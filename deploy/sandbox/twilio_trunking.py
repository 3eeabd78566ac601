"""Elastic SIP Trunking v1, after https://www.twilio.com/docs/sip-trunking/api.

The account is the authenticated one: nothing in the path says whose trunks are meant.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from deploy.sandbox.twilio_fields import (
    DOMAIN_SUFFIX,
    ORIGINATION_PARAMETERS,
    TRUNK_PARAMETERS,
    checked,
)
from deploy.sandbox.twilio_numbers import change
from deploy.sandbox.twilio_render import (
    mapped_list_document,
    origination_url_document,
    trunk_document,
    trunk_number_document,
)
from deploy.sandbox.twilio_state import OriginationUrl, Trunk
from deploy.sandbox.twilio_wire import (
    Context,
    created,
    deleted,
    not_found,
    ok,
    page_v1,
    refused,
)
from deploy.sandbox.vendor import Route

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.sandbox.twilio_state import Account, CredentialList, PhoneNumber, TwilioState
    from deploy.sandbox.twilio_wire import Operation
    from deploy.sandbox.vendor import Answer


def list_trunks(context: Context) -> Answer:
    """All trunks; the vendor has no filter by name."""
    return page_v1(
        context,
        "trunks",
        context.account.trunks.values(),
        lambda trunk: trunk.sid,
        lambda trunk: trunk_document(context, trunk),
    )


def create_trunk(context: Context) -> Answer:
    """Creates a trunk."""
    account = context.account
    limit = account.limits.trunks if account.type == "Full" else 1
    if len(account.trunks) >= limit:
        raise refused(21244, "Maximum Number of Trunks reached")
    trunk = Trunk()
    _change_trunk(context.state, account, trunk, context.form)
    account.trunks[trunk.sid] = trunk
    return created(trunk_document(context, trunk))


def fetch_trunk(context: Context) -> Answer:
    """One trunk."""
    return ok(trunk_document(context, _trunk(context)))


def update_trunk(context: Context) -> Answer:
    """Changes what is sent."""
    trunk = _trunk(context)
    _change_trunk(context.state, context.account, trunk, context.form)
    return ok(trunk_document(context, trunk))


def delete_trunk(context: Context) -> Answer:
    """Deletes a trunk with its origination URLs and mappings; its domain stays reserved.

    Documented is that a trunk with subdomains cannot be deleted (/docs/api/errors/21247). What
    happens to one with numbers on it is not documented; refused, since calls to them would be lost.
    """
    trunk = _trunk(context)
    if context.account.numbers_on(trunk):
        raise refused(21247, f"Trunk {trunk.sid} still has phone numbers")
    _refuse_with_subdomains(context.state, trunk)
    context.state.reserve_domain(trunk)
    del context.account.trunks[trunk.sid]
    return deleted()


def list_origination_urls(context: Context) -> Answer:
    """The origination URLs of a trunk."""
    trunk = _trunk(context)
    return page_v1(
        context,
        "origination_urls",
        trunk.origination_urls.values(),
        lambda item: item.sid,
        lambda item: origination_url_document(context, trunk, item),
    )


def create_origination_url(context: Context) -> Answer:
    """Adds one; all five fields are required."""
    trunk = _trunk(context)
    for name in ORIGINATION_PARAMETERS:
        _required(context, name)
    if len(trunk.origination_urls) >= context.account.limits.origination_urls_per_trunk:
        raise refused(21249, "Maximum Origination URIs reached")
    values = checked(context.form, ORIGINATION_PARAMETERS)
    item = OriginationUrl(friendly_name="", sip_url="", weight=1, priority=0, enabled=True)
    _assign(item, values)
    trunk.origination_urls[item.sid] = item
    return created(origination_url_document(context, trunk, item))


def fetch_origination_url(context: Context) -> Answer:
    """One origination URL."""
    return ok(origination_url_document(context, _trunk(context), _origination_url(context)))


def update_origination_url(context: Context) -> Answer:
    """Changes what is sent."""
    item = _origination_url(context)
    _assign(item, checked(context.form, ORIGINATION_PARAMETERS))
    item.touch()
    return ok(origination_url_document(context, _trunk(context), item))


def delete_origination_url(context: Context) -> Answer:
    """Removes one."""
    item = _origination_url(context)
    del _trunk(context).origination_urls[item.sid]
    return deleted()


def list_mapped_lists(context: Context) -> Answer:
    """The credential lists that may call through the trunk."""
    trunk = _trunk(context)
    return page_v1(
        context,
        "credential_lists",
        [context.account.credential_lists[sid] for sid in trunk.credential_list_sids],
        lambda item: item.sid,
        lambda item: mapped_list_document(context, trunk, item),
    )


def map_list(context: Context) -> Answer:
    """Maps a credential list of the account; mapping it twice is 21245."""
    trunk = _trunk(context)
    sid = _required(context, "CredentialListSid")
    item = context.account.credential_lists.get(sid)
    if item is None:
        raise not_found(f"/CredentialLists/{sid}")
    if sid in trunk.credential_list_sids:
        raise refused(21245, f"Credential List {sid} already associated with Trunk {trunk.sid}")
    trunk.credential_list_sids.append(sid)
    trunk.touch()
    return created(mapped_list_document(context, trunk, item))


def fetch_mapped_list(context: Context) -> Answer:
    """One mapping."""
    trunk = _trunk(context)
    return ok(mapped_list_document(context, trunk, _mapped_list(context, trunk)))


def unmap_list(context: Context) -> Answer:
    """Removes a mapping; the list stays."""
    trunk = _trunk(context)
    trunk.credential_list_sids.remove(_mapped_list(context, trunk).sid)
    trunk.touch()
    return deleted()


def list_numbers(context: Context) -> Answer:
    """The numbers whose calls go to the trunk."""
    trunk = _trunk(context)
    return page_v1(
        context,
        "phone_numbers",
        context.account.numbers_on(trunk),
        lambda number: number.sid,
        lambda number: trunk_number_document(context, trunk, number),
    )


def attach_number(context: Context) -> Answer:
    """Sends a number's calls to the trunk and removes its voice application.

    Undocumented are a number that is on this trunk already and one that is on another trunk; both
    are refused.
    """
    trunk = _trunk(context)
    sid = _required(context, "PhoneNumberSid")
    number = context.account.numbers.get(sid)
    if number is None:
        raise not_found(f"/PhoneNumbers/{sid}")
    if number.trunk_sid:
        raise refused(21245, f"Phone number {sid} is already associated with {number.trunk_sid}")
    change(context.account, number, {"TrunkSid": trunk.sid})
    return created(trunk_number_document(context, trunk, number))


def fetch_number(context: Context) -> Answer:
    """One number of the trunk."""
    trunk = _trunk(context)
    return ok(trunk_number_document(context, trunk, _number(context, trunk)))


def detach_number(context: Context) -> Answer:
    """Takes a number off the trunk; the number stays in the account."""
    number = _number(context, _trunk(context))
    number.trunk_sid = ""
    number.touch()
    return deleted()


def add_trunk(state: TwilioState, account: Account, trunk: Trunk, form: Mapping[str, str]) -> None:
    """Puts a seeded trunk into the account, under the same rules. Raises TwilioError."""
    _change_trunk(state, account, trunk, form)
    account.trunks[trunk.sid] = trunk


def _change_trunk(
    state: TwilioState, account: Account, trunk: Trunk, form: Mapping[str, str]
) -> None:
    values = checked(form, TRUNK_PARAMETERS)
    domain = str(values.get("domain_name", trunk.domain_name)).lower()
    if domain != trunk.domain_name.lower():
        _refuse_with_subdomains(state, trunk)
        _refuse_unavailable(state, account, domain)
        state.reserve_domain(trunk)
        if domain:
            state.domains[domain] = trunk.sid
    _assign(trunk, values)
    trunk.touch()


def _refuse_unavailable(state: TwilioState, account: Account, domain: str) -> None:
    """/docs/api/errors/21245, 21247 and 21248; a deleted trunk's domain stays taken."""
    if state.domains.get(domain) in account.trunks:
        raise refused(21245, "Cannot create more than one Trunk with the same Termination URI")
    if domain in state.domains or domain in state.reserved_domains:
        raise refused(21248, "Trunk Domain already taken")
    _, _, parent = domain.removesuffix(DOMAIN_SUFFIX).partition(".")
    if parent and state.domains.get(f"{parent}{DOMAIN_SUFFIX}") not in account.trunks:
        raise refused(21247, "Cannot create subdomain because the account does not own its parent")


def _refuse_with_subdomains(state: TwilioState, trunk: Trunk) -> None:
    ending = f".{trunk.domain_name.lower()}"
    if trunk.domain_name and any(domain.endswith(ending) for domain in state.domains):
        raise refused(21247, "Cannot delete or rename a trunk while it has subdomains")


def _assign(item: Trunk | OriginationUrl, values: Mapping[str, str | bool | int]) -> None:
    for attribute, value in values.items():
        setattr(item, attribute, value)


def _required(context: Context, name: str) -> str:
    if not context.form.get(name):
        raise refused(20001, f"Missing required parameter {name} in the post body")
    return context.form[name]


def _trunk(context: Context) -> Trunk:
    trunk = context.account.trunks.get(context.ids["trunk_sid"])
    if trunk is None:
        raise context.missing()
    return trunk


def _origination_url(context: Context) -> OriginationUrl:
    item = _trunk(context).origination_urls.get(context.ids["sid"])
    if item is None:
        raise context.missing()
    return item


def _mapped_list(context: Context, trunk: Trunk) -> CredentialList:
    if context.ids["sid"] not in trunk.credential_list_sids:
        raise context.missing()
    return context.account.credential_lists[context.ids["sid"]]


def _number(context: Context, trunk: Trunk) -> PhoneNumber:
    number = context.account.numbers.get(context.ids["sid"])
    if number is None or number.trunk_sid != trunk.sid:
        raise context.missing()
    return number


_TRUNKS: Final = "/v1/Trunks"
_TRUNK: Final = f"{_TRUNKS}/{{trunk_sid}}"
_URLS: Final = f"{_TRUNK}/OriginationUrls"
_LISTS: Final = f"{_TRUNK}/CredentialLists"
_NUMBERS: Final = f"{_TRUNK}/PhoneNumbers"

ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("twilio.trunks.list", "GET", _TRUNKS, list_trunks),
    Route("twilio.trunks.create", "POST", _TRUNKS, create_trunk),
    Route("twilio.trunks.fetch", "GET", _TRUNK, fetch_trunk),
    Route("twilio.trunks.update", "POST", _TRUNK, update_trunk),
    Route("twilio.trunks.delete", "DELETE", _TRUNK, delete_trunk),
    Route("twilio.origination_urls.list", "GET", _URLS, list_origination_urls),
    Route("twilio.origination_urls.create", "POST", _URLS, create_origination_url),
    Route("twilio.origination_urls.fetch", "GET", f"{_URLS}/{{sid}}", fetch_origination_url),
    Route("twilio.origination_urls.update", "POST", f"{_URLS}/{{sid}}", update_origination_url),
    Route("twilio.origination_urls.delete", "DELETE", f"{_URLS}/{{sid}}", delete_origination_url),
    Route("twilio.trunk_credential_lists.list", "GET", _LISTS, list_mapped_lists),
    Route("twilio.trunk_credential_lists.create", "POST", _LISTS, map_list),
    Route("twilio.trunk_credential_lists.fetch", "GET", f"{_LISTS}/{{sid}}", fetch_mapped_list),
    Route("twilio.trunk_credential_lists.delete", "DELETE", f"{_LISTS}/{{sid}}", unmap_list),
    Route("twilio.trunk_phone_numbers.list", "GET", _NUMBERS, list_numbers),
    Route("twilio.trunk_phone_numbers.create", "POST", _NUMBERS, attach_number),
    Route("twilio.trunk_phone_numbers.fetch", "GET", f"{_NUMBERS}/{{sid}}", fetch_number),
    Route("twilio.trunk_phone_numbers.delete", "DELETE", f"{_NUMBERS}/{{sid}}", detach_number),
)
