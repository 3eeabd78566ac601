"""Stored provider accounts: keep one, what it holds, new secrets for it."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer

from worker.cli._core import (
    NONE,
    AsJson,
    CredentialsFile,
    Organization,
    Provider,
    acting,
    every,
    read_credentials,
    say,
    show_json,
    show_table,
    warn,
    when,
)
from worker.domain.values import format_id
from worker.service import AccountNumber, CredentialRecord

credentials = typer.Typer(help="Stored provider accounts.", no_args_is_help=True)

CredentialId = Annotated[str, typer.Argument(metavar="CRED_ID", help="Such as cred_….")]
File = Annotated[typer.FileText, CredentialsFile]

#: How many numbers of an account are asked for at once.
_PAGE: Final = 200


@credentials.command("list")
def list_credentials(organization: Organization, as_json: AsJson = False) -> None:
    """Lists the organisation's stored accounts, newest first; never their secrets.

    Exit codes: 0 done, 1 there is no such organisation, 2 wrong usage.

    Example: trunkline credentials list -o Acme
    """
    service, caller = acting(organization)
    found = every("cred", service.list_credentials, caller)
    if as_json:
        show_json([_facts(one) for one in found])
        return
    show_table(
        ("id", "provider", "account", "label", "created_at"),
        [
            (
                format_id("cred", one.id),
                one.provider,
                one.account_ref,
                one.label or NONE,
                when(one.created_at),
            )
            for one in found
        ],
    )


@credentials.command("add")
def add_credential(
    organization: Organization,
    provider: Provider,
    file: File,
    label: Annotated[str, typer.Option(help="What people call it.")] = "",
    as_json: AsJson = False,
) -> None:
    """Stores a provider account; its secrets can never be read again.

    Exit codes: 0 done, 1 refused, 2 wrong usage.

    Example: trunkline credentials add -o Acme --provider twilio --credentials account.json
    """
    values = read_credentials(file)
    service, caller = acting(organization)
    made = service.create_credential(caller, provider=provider, credentials=values, label=label)
    if as_json:
        show_json(_facts(made))
    else:
        say(format_id("cred", made.id))


@credentials.command("numbers")
def list_account_numbers(
    credential_id: CredentialId, organization: Organization, as_json: AsJson = False
) -> None:
    """Lists the numbers of a provider's account: who answers now, and which can be imported.

    Exit codes: 0 done, 1 the provider refuses or is unreachable, 2 wrong usage.

    Example: trunkline credentials numbers cred_0190… -o Acme
    """
    service, caller = acting(organization)
    found: list[AccountNumber] = []
    cursor: str | None = None
    while True:
        page = service.list_account_numbers(caller, credential_id, limit=_PAGE, cursor=cursor)
        found += page.numbers
        cursor = page.following
        if cursor is None:
            break
    if as_json:
        show_json([_number_facts(one) for one in found])
        return
    show_table(
        ("number", "answers now", "importable"),
        [
            (
                one.number.phone_number,
                str(one.number.target),
                "yes" if one.refusal is None else one.refusal.code,
            )
            for one in found
        ],
    )
    reasons = {one.refusal.code: one.refusal.message for one in found if one.refusal is not None}
    for code, message in reasons.items():
        say(f"{code}: {message}")


@credentials.command("rotate")
def rotate_credential(
    credential_id: CredentialId,
    organization: Organization,
    file: File,
    overlap: Annotated[
        int,
        typer.Option(
            min=0,
            max=86400,
            help="Seconds for which webhooks signed with the replaced secret are still answered; 0 "
            "if it has leaked.",
        ),
    ] = 3600,
    as_json: AsJson = False,
) -> None:
    """Replaces an account's secrets once the provider accepts the new ones; imports go on as is.

    Give the new token here first, then make it the primary one at the provider.

    Exit codes: 0 done, 1 refused or unreachable: nothing was changed, 2 wrong usage.

    Example: trunkline credentials rotate cred_0190… -o Acme --credentials account.json
    """
    values = read_credentials(file)
    service, caller = acting(organization)
    rotated, warnings = service.rotate_credential(
        caller, credential_id, credentials=values, label=None, overlap_seconds=overlap
    )
    if as_json:
        show_json({**_facts(rotated), "warnings": warnings})
        return
    warn(warnings)
    say(f"{format_id('cred', rotated.id)} has new secrets")


def _facts(record: CredentialRecord) -> dict[str, Any]:
    return {
        "id": format_id("cred", record.id),
        "provider": record.provider,
        "account_ref": record.account_ref,
        "label": record.label,
        "created_at": record.created_at,
        "updated_at": record.updated_at,
    }


def _number_facts(one: AccountNumber) -> dict[str, Any]:
    number, refusal = one.number, one.refusal
    return {
        "number_sid": number.id,
        "phone_number": number.phone_number,
        "country": number.country,
        "voice": number.voice,
        "sms": number.sms,
        "answered_by": str(number.target),
        "importable": refusal is None,
        "refusal": None if refusal is None else {"code": refusal.code, "message": refusal.message},
    }
