"""Applications: shared webhooks, and what updating and deleting them takes along.

https://docs.plivo.com/docs/account/api/application
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from typing import TYPE_CHECKING, Any, Final

from deploy.sandbox.plivo_fields import (
    APPLICATION_PARAMETERS,
    app_name,
    boolean,
    checked,
    filled,
)
from deploy.sandbox.plivo_render import application_document
from deploy.sandbox.plivo_state import Application
from deploy.sandbox.plivo_wire import (
    Context,
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

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.sandbox.plivo_state import Account
    from deploy.sandbox.vendor import Answer

_DEFAULTS: Final = {
    field.name: field.default
    for field in fields(Application)
    if field.default is not MISSING and field.name not in {"app_name", "sub_account", "enabled"}
}
_FLAGS: Final = ("default_number_app", "default_endpoint_app")


def index(context: Context) -> Answer:
    """Lists applications.

    How `app_name` compares is not documented. Here it finds every name that contains it, so that
    a client has to compare for itself.
    """
    wanted = only(context, ("app_name", "subaccount"))
    found = [
        item
        for item in context.account.applications.values()
        if context.sees(item)
        and wanted.get("app_name", "") in item.app_name
        and wanted.get("subaccount", item.sub_account) == item.sub_account
    ]
    return page(context, found, lambda item: application_document(context, item), link=context.path)


def create(context: Context) -> Answer:
    """Creates an application.

    Neither is it documented whether names must be unique, nor with which status a second one is
    refused. Here it is; a client that looks before it creates never notices.
    """
    body = dict(context.body)
    name = app_name("app_name", body.pop("app_name", ""))
    if any(item.app_name == name for item in context.account.applications.values()):
        raise refused(f"app_name {name} already exists")
    application = Application(app_name=name, sub_account=context.sub_account)
    change(context.account, application, _values(context, body))
    context.account.applications[application.id] = application
    return created("created", app_id=application.id)


def fetch(context: Context) -> Answer:
    """One application."""
    return ok(application_document(context, _application(context)))


def update(context: Context) -> Answer:
    """Changes an application; what is not sent goes back to its default.

    Documented are the defaults, among the arguments of the update; the vendor's SDK always sends
    most of them. That URLs which are not sent are cleared, and that `answer_url` is required, is
    this sandbox's reading: a client has to send all it wants to keep.
    """
    application = _application(context)
    change(context.account, application, _values(context, context.body))
    return changed()


def delete(context: Context) -> Answer:
    """Deletes an application, and its endpoints unless `cascade` is false.

    What becomes of numbers that point at it is not documented; refused, since calls to them would
    be lost. Arguments of a DELETE belong into the query, says the documentation; the SDK puts them
    into the body. Both are read.
    """
    application = _application(context)
    cascade, heir = _delete_options(context, application.id)
    if numbers := context.account.numbers_at(application.id):
        raise in_use(f"application {application.id} has numbers: {', '.join(numbers)}")
    endpoints = context.account.endpoints
    for name in [name for name, owner in endpoints.items() if owner == application.id]:
        if cascade:
            del endpoints[name]
        else:
            endpoints[name] = heir
    del context.account.applications[application.id]
    return deleted()


def change(account: Account, application: Application, values: Mapping[str, Any]) -> None:
    """Applies checked values over the defaults. There is one default application of each kind."""
    for attribute, value in {**_DEFAULTS, **values}.items():
        setattr(application, attribute, value)
    application.hangup_url = application.hangup_url or application.answer_url
    for flag in (flag for flag in _FLAGS if getattr(application, flag)):
        for other in account.applications.values():
            if other is not application and other.sub_account == application.sub_account:
                setattr(other, flag, False)


def amend(account: Account, application: Application, values: Mapping[str, Any]) -> None:
    """Applies checked values and keeps the rest."""
    kept = {name: getattr(application, name) for name in _DEFAULTS}
    change(account, application, {**kept, **values})


def _values(context: Context, body: Mapping[str, object]) -> dict[str, Any]:
    values = checked(body, APPLICATION_PARAMETERS)
    if "answer_url" not in values:
        raise refused("answer_url is required")
    if (subaccount := values.get("sub_account")) and (
        context.sub_account not in {None, subaccount}
        or subaccount not in context.account.subaccounts
    ):
        raise refused(f"subaccount {subaccount} was not found")
    return values


def _delete_options(context: Context, app_id: str) -> tuple[bool, str]:
    """Whether endpoints go too, and who gets them if not."""
    options: dict[str, object] = {**context.query, **context.body}
    if options.pop("app_id", app_id) != app_id:
        raise refused("app_id does not match the path")
    cascade = options.pop("cascade", True)
    if isinstance(cascade, str):
        cascade = {"true": True, "false": False}.get(cascade.lower(), cascade)
    heir = options.pop("new_endpoint_application", "")
    if options:
        raise refused(f"unknown parameters: {', '.join(sorted(options))}")
    if heir:
        heir = filled("new_endpoint_application", heir)
        if heir == app_id or heir not in context.account.applications:
            raise refused(f"new_endpoint_application {heir} was not found")
    return boolean("cascade", cascade), str(heir)


def _application(context: Context) -> Application:
    application = context.account.applications.get(context.ids["app_id"])
    if application is None or not context.sees(application):
        raise not_found()
    return application
