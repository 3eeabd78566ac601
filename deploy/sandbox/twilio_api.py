"""The 2010-04-01 API: accounts, balance, applications, SIP credential lists; numbers are beside it.

https://www.twilio.com/docs/usage/api
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from deploy.sandbox import twilio_numbers as numbers
from deploy.sandbox.twilio_fields import HOOK_PARAMETERS, Parameters, boolean, callback, checked
from deploy.sandbox.twilio_render import (
    account_document,
    application_document,
    credential_document,
    credential_list_document,
)
from deploy.sandbox.twilio_state import Application, Credential, CredentialList
from deploy.sandbox.twilio_wire import Context, created, deleted, ok, page_2010, refused
from deploy.sandbox.vendor import Route

if TYPE_CHECKING:
    from deploy.sandbox.twilio_wire import Operation
    from deploy.sandbox.vendor import Answer

_APPLICATION_PARAMETERS: Final[Parameters] = MappingProxyType(
    {
        **HOOK_PARAMETERS,
        "SmsStatusCallback": ("sms_status_callback", callback),
        "MessageStatusCallback": ("message_status_callback", callback),
        "PublicApplicationConnectEnabled": ("public_application_connect_enabled", boolean),
    }
)
_MAX_NAME: Final = 64
_MAX_USERNAME: Final = 32
_MIN_PASSWORD: Final = 12


def fetch_account(context: Context) -> Answer:
    """The account. Its auth token is shown to whoever holds the primary one, or the parent's."""
    kind = context.principal.kind
    shows_token = kind == "primary_token" or (
        kind == "secondary_token" and context.account.shows_token_to_secondary
    )
    return ok(account_document(context.account, shows_token=shows_token))


def fetch_balance(context: Context) -> Answer:
    """The balance of a parent account; subaccounts have none, how they say so is not documented."""
    account = context.account
    if account.owner_account_sid != account.sid:
        raise context.missing()
    return ok({"account_sid": account.sid, "balance": "100.00", "currency": "USD"})


def list_applications(context: Context) -> Answer:
    """Applications, by exact friendly name if given; names need not be unique."""
    wanted = context.query.get("FriendlyName")
    found = [
        application
        for application in context.account.applications.values()
        if wanted is None or application.friendly_name == wanted
    ]
    return page_2010(
        context,
        "applications",
        found,
        lambda application: application.sid,
        lambda application: application_document(context.account, application),
    )


def create_application(context: Context) -> Answer:
    """Creates an application; a second one with the same name is a second one."""
    account = context.account
    if len(account.applications) >= account.limits.applications:
        raise refused(21301, "Cannot create application: application limit exceeded")
    application = Application()
    _change_application(application, context)
    account.applications[application.sid] = application
    return created(application_document(account, application))


def fetch_application(context: Context) -> Answer:
    """One application."""
    return ok(application_document(context.account, _find_application(context)))


def update_application(context: Context) -> Answer:
    """Changes what is sent."""
    application = _find_application(context)
    _change_application(application, context)
    return ok(application_document(context.account, application))


def delete_application(context: Context) -> Answer:
    """Deletes an application; numbers that pointed at it lose that setting."""
    application = _find_application(context)
    del context.account.applications[application.sid]
    for number in context.account.numbers.values():
        if number.voice_application_sid == application.sid:
            number.voice_application_sid = ""
        if number.sms_application_sid == application.sid:
            number.sms_application_sid = ""
    return deleted()


def list_credential_lists(context: Context) -> Answer:
    """All credential lists."""
    return page_2010(
        context,
        "credential_lists",
        context.account.credential_lists.values(),
        lambda item: item.sid,
        lambda item: credential_list_document(context.account, item),
    )


def create_credential_list(context: Context) -> Answer:
    """Creates an empty list; its name must be new (/docs/api/errors/21240)."""
    account = context.account
    if len(account.credential_lists) >= account.limits.credential_lists:
        raise refused(21239, "Maximum Credential Lists Reached")
    item = CredentialList(friendly_name=_list_name(context))
    account.credential_lists[item.sid] = item
    return created(credential_list_document(account, item))


def fetch_credential_list(context: Context) -> Answer:
    """One credential list."""
    return ok(credential_list_document(context.account, _find_list(context, "sid")))


def update_credential_list(context: Context) -> Answer:
    """Renames a list."""
    item = _find_list(context, "sid")
    item.friendly_name = _list_name(context)
    item.touch()
    return ok(credential_list_document(context.account, item))


def delete_credential_list(context: Context) -> Answer:
    """Deletes a list with its credentials.

    A list that is mapped is refused: 21241 is "Credential List Dependencies Violation". Documented
    for SIP domains; that it holds for trunks too is assumed.
    """
    item = _find_list(context, "sid")
    if any(item.sid in trunk.credential_list_sids for trunk in context.account.trunks.values()):
        raise refused(21241, f"Credential List {item.sid} is still mapped to a trunk")
    del context.account.credential_lists[item.sid]
    return deleted()


def list_credentials(context: Context) -> Answer:
    """The user names of a list."""
    parent = _find_list(context, "list_sid")
    return page_2010(
        context,
        "credentials",
        parent.credentials.values(),
        lambda item: item.sid,
        lambda item: credential_document(context.account, parent, item),
    )


def create_credential(context: Context) -> Answer:
    """Adds a user name and password. https://www.twilio.com/docs/errors/21240 has the rules."""
    parent = _find_list(context, "list_sid")
    if len(parent.credentials) >= context.account.limits.credentials_per_list:
        raise refused(21242, "Maximum Credentials Reached for List")
    username = context.form.get("Username", "")
    if not 0 < len(username) <= _MAX_USERNAME:
        raise refused(21243, f"Username must have 1 to {_MAX_USERNAME} characters")
    if any(item.username == username for item in parent.credentials.values()):
        raise refused(21243, f"Username {username} already exists in this list")
    item = Credential(username=username, password=_password(context))
    parent.credentials[item.sid] = item
    return created(credential_document(context.account, parent, item))


def fetch_credential(context: Context) -> Answer:
    """One credential, without its password."""
    parent = _find_list(context, "list_sid")
    return ok(credential_document(context.account, parent, _find_credential(context, parent)))


def update_credential(context: Context) -> Answer:
    """Changes the password."""
    parent = _find_list(context, "list_sid")
    item = _find_credential(context, parent)
    item.password = _password(context)
    item.touch()
    return ok(credential_document(context.account, parent, item))


def delete_credential(context: Context) -> Answer:
    """Removes one user name."""
    parent = _find_list(context, "list_sid")
    del parent.credentials[_find_credential(context, parent).sid]
    return deleted()


def _change_application(application: Application, context: Context) -> None:
    for attribute, value in checked(context.form, _APPLICATION_PARAMETERS).items():
        setattr(application, attribute, value)
    application.touch()


def _find_application(context: Context) -> Application:
    application = context.account.applications.get(context.ids["sid"])
    if application is None:
        raise context.missing()
    return application


def _find_list(context: Context, name: str) -> CredentialList:
    item = context.account.credential_lists.get(context.ids[name])
    if item is None:
        raise context.missing()
    return item


def _find_credential(context: Context, parent: CredentialList) -> Credential:
    item = parent.credentials.get(context.ids["sid"])
    if item is None:
        raise context.missing()
    return item


def _list_name(context: Context) -> str:
    name = context.form.get("FriendlyName", "")
    if not 0 < len(name) <= _MAX_NAME:
        raise refused(21240, f"FriendlyName must have 1 to {_MAX_NAME} characters")
    if any(item.friendly_name == name for item in context.account.credential_lists.values()):
        raise refused(21240, f"A Credential List named {name} already exists")
    return name


def _password(context: Context) -> str:
    text = context.form.get("Password", "")
    strong = (
        len(text) >= _MIN_PASSWORD
        and any(letter.isdigit() for letter in text)
        and any(letter.islower() for letter in text)
        and any(letter.isupper() for letter in text)
    )
    if not strong:
        raise refused(
            21243, "Password must have at least 12 characters, mixed case and at least one digit"
        )
    return text


_ACCOUNT: Final = "/2010-04-01/Accounts/{account_sid}"
_NUMBERS: Final = f"{_ACCOUNT}/IncomingPhoneNumbers"
_APPLICATIONS: Final = f"{_ACCOUNT}/Applications"
_LISTS: Final = f"{_ACCOUNT}/SIP/CredentialLists"
_CREDENTIALS: Final = f"{_LISTS}/{{list_sid}}/Credentials"

#: Only `.json`: without it the vendor answers in XML, which no client of ours reads.
ROUTES: Final[tuple[Route[Operation], ...]] = (
    Route("twilio.accounts.fetch", "GET", f"{_ACCOUNT}.json", fetch_account),
    Route("twilio.balance.fetch", "GET", f"{_ACCOUNT}/Balance.json", fetch_balance),
    Route("twilio.incoming_phone_numbers.list", "GET", f"{_NUMBERS}.json", numbers.index),
    Route("twilio.incoming_phone_numbers.create", "POST", f"{_NUMBERS}.json", numbers.create),
    Route("twilio.incoming_phone_numbers.fetch", "GET", f"{_NUMBERS}/{{sid}}.json", numbers.fetch),
    Route(
        "twilio.incoming_phone_numbers.update", "POST", f"{_NUMBERS}/{{sid}}.json", numbers.update
    ),
    Route(
        "twilio.incoming_phone_numbers.delete", "DELETE", f"{_NUMBERS}/{{sid}}.json", numbers.delete
    ),
    Route("twilio.applications.list", "GET", f"{_APPLICATIONS}.json", list_applications),
    Route("twilio.applications.create", "POST", f"{_APPLICATIONS}.json", create_application),
    Route("twilio.applications.fetch", "GET", f"{_APPLICATIONS}/{{sid}}.json", fetch_application),
    Route(
        "twilio.applications.update", "POST", f"{_APPLICATIONS}/{{sid}}.json", update_application
    ),
    Route(
        "twilio.applications.delete", "DELETE", f"{_APPLICATIONS}/{{sid}}.json", delete_application
    ),
    Route("twilio.credential_lists.list", "GET", f"{_LISTS}.json", list_credential_lists),
    Route("twilio.credential_lists.create", "POST", f"{_LISTS}.json", create_credential_list),
    Route("twilio.credential_lists.fetch", "GET", f"{_LISTS}/{{sid}}.json", fetch_credential_list),
    Route(
        "twilio.credential_lists.update", "POST", f"{_LISTS}/{{sid}}.json", update_credential_list
    ),
    Route(
        "twilio.credential_lists.delete", "DELETE", f"{_LISTS}/{{sid}}.json", delete_credential_list
    ),
    Route("twilio.credentials.list", "GET", f"{_CREDENTIALS}.json", list_credentials),
    Route("twilio.credentials.create", "POST", f"{_CREDENTIALS}.json", create_credential),
    Route("twilio.credentials.fetch", "GET", f"{_CREDENTIALS}/{{sid}}.json", fetch_credential),
    Route("twilio.credentials.update", "POST", f"{_CREDENTIALS}/{{sid}}.json", update_credential),
    Route("twilio.credentials.delete", "DELETE", f"{_CREDENTIALS}/{{sid}}.json", delete_credential),
)
