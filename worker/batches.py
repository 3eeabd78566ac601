"""Many imports in one request: from JSON or CSV to one import's fields a row.

Pure: whose agent or credential a row names, :mod:`worker.service` finds out. A row that cannot be
read is refused alone; a file whose rows cannot be told apart, or whose columns mean nothing, is
refused whole. What was refused is never repeated: a secret may be in the wrong place.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import ValidationError
from pydantic.alias_generators import to_camel, to_snake

from worker.domain.errors import InvalidRequest
from worker.intake import ImportRequest, InboundSettings, SipSettings
from worker.providers import PROVIDERS

#: Rows of one batch.
MOST_ROWS: Final = 10_000
#: Columns of one file: there are some forty fields, and as many as one likes of metadata.
MOST_COLUMNS: Final = 200
#: Bytes of one row: as much as a single import may have.
LARGEST_ROW: Final = 64 * 1024
#: What the defaults may grow to, once every row has a copy.
_MOST_COPIED: Final = 64 * 1024 * 1024
#: Nobody reads more faults of a row than these.
_MOST_FAULTS: Final = 20

_DOCUMENT: Final = frozenset({"callback_url", "defaults", "items"})
_FIELDS: Final = frozenset(ImportRequest.model_fields)
#: Fields that have fields of their own, and which; None: whatever the caller likes.
_NESTED: Final[Mapping[str, frozenset[str] | None]] = {
    "sip": frozenset(SipSettings.model_fields),
    "inbound": frozenset(InboundSettings.model_fields),
    "credentials": frozenset(
        name for provider in PROVIDERS.values() for name in provider.credentials_model.model_fields
    ),
    "metadata": None,
}
_COLUMNS_NEEDED: Final = ("phone_number", "provider")
#: Columns that tell of a failure; not read, so that a file of failures can be sent again.
ERROR_COLUMNS: Final = ("error_batch", "error_line", "error_code", "error_message")
_FLAGS: Final = frozenset(
    name for name, one in ImportRequest.model_fields.items() if one.annotation is bool
)
_LISTS: Final = frozenset({("sip", "allowed_addresses")})
_TRUTH: Final = {"true": True, "false": False}
#: None of our names has a digit; a key or token in the wrong place has.
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_.-]{1,64}")
_WORDS: Final[Mapping[str, str]] = {
    "missing": "This field is required.",
    "extra_forbidden": "There is no such field.",
    "dict_type": "Must be a JSON object.",
    "model_type": "Must be a JSON object.",
}


@dataclass(frozen=True, kw_only=True)
class BatchItem:
    """One row: what it asks for, in snake_case, or why it cannot be read."""

    #: Where it begins in the file; in JSON its place in the list, from 1.
    line: int
    values: Mapping[str, Any] = field(default_factory=dict, repr=False)
    error: InvalidRequest | None = None


@dataclass(frozen=True, kw_only=True)
class BatchRequest:
    """A batch, as its caller asks for it."""

    items: Sequence[BatchItem]
    #: A digest of everything that the request says; kept in the vault only.
    fingerprint: str = field(repr=False)


def read_batch_json(document: Any) -> BatchRequest:  # noqa: ANN401 -- whatever JSON holds
    """Reads a batch from parsed JSON.

    Raises:
        InvalidRequest: the document is none; a row that is wrong is refused alone.
    """
    items, defaults = _parts(document)
    found, said = [], []
    for place, item in enumerate(items, start=1):
        try:
            values = _merged(defaults, _snake_fields(item))
            _require_size(len(json.dumps(values)))
        except InvalidRequest as error:
            found.append(BatchItem(line=place, error=error))
            said.append(item)
        else:
            found.append(BatchItem(line=place, values=values))
            said.append(values)
    plain = json.dumps(said, sort_keys=True).encode()
    return BatchRequest(items=found, fingerprint=hashlib.sha256(plain).hexdigest())


def _parts(document: Any) -> tuple[list[Any], dict[str, Any]]:  # noqa: ANN401 -- whatever JSON holds
    """Returns the items of a batch as they came, and the fields that they need not repeat."""
    if not isinstance(document, dict):
        raise InvalidRequest("Send a JSON object with `items`, a list of imports.")
    given = _snake_names(document)
    _require_known(given, _DOCUMENT, "")
    items, defaults = given.get("items"), given.get("defaults", {})
    if not isinstance(items, list):
        raise InvalidRequest("items: Must be a list of imports.")
    if not isinstance(defaults, dict):
        raise InvalidRequest("defaults: Must be a JSON object.")
    _require_count(len(items))
    defaults = _snake_fields(defaults)
    _require_known(defaults, _FIELDS, "defaults.")
    if len(json.dumps(defaults)) * len(items) > _MOST_COPIED:
        raise InvalidRequest("defaults: Too large for so many items: each gets a copy.")
    if "callback_url" in given:
        defaults = {"callback_url": given["callback_url"], **defaults}
    return items, defaults


def _require_known(given: Mapping[str, Any], known: frozenset[str], inside: str) -> None:
    for name in given:
        if name not in known:
            raise InvalidRequest(f"{inside}{_shown(name)}: There is no such field.")


def read_batch_csv(body: bytes, *, defaults: Mapping[str, Any] | None = None) -> BatchRequest:
    """Reads a batch from CSV as RFC 4180 has it, whose first row names the fields.

    Nested fields are named with a dot, an empty cell is a field that is not given, or is as the
    ``defaults``, in snake_case, have it. A cell is text: nothing in it is ever computed.

    Raises:
        InvalidRequest: the file cannot be told into rows and known columns; a row that is wrong is
            refused alone.
    """
    text = _text(body)
    rows = _rows(text)
    _, header = next(rows, (0, []))
    if not header:
        raise InvalidRequest("The file is empty: its first line must name the fields.")
    given = defaults or {}
    columns = _columns(header, given)
    found: list[BatchItem] = []
    for line, cells in rows:
        if len(found) == MOST_ROWS:
            _require_count(MOST_ROWS + 1)
        try:
            found.append(BatchItem(line=line, values=_merged(given, _row(columns, cells))))
        except InvalidRequest as error:
            found.append(BatchItem(line=line, error=error))
    _require_count(len(found))
    said = hashlib.sha256(text.encode())
    if given:
        plain = json.dumps(given, sort_keys=True).encode()
        # A digest has one length: what is the file's and what the defaults' is never in doubt.
        said = hashlib.sha256(said.digest() + plain)
    return BatchRequest(items=found, fingerprint=said.hexdigest())


def rows_of_csv(body: bytes) -> Iterator[tuple[int, list[str]]]:
    """Yields the cells of each row that is not blank, the header first, with the row's line.

    Raises:
        InvalidRequest: the file cannot be told into rows.
    """
    return _rows(_text(body))


def import_of(values: Mapping[str, Any]) -> ImportRequest:
    """Returns the import that a row asks for.

    Raises:
        InvalidRequest: names each wrong field, never its value.
    """
    try:
        request = ImportRequest.model_validate(values)
        if request.credentials is not None:
            PROVIDERS[request.provider].credentials_model.model_validate(request.credentials)
    except ValidationError as error:
        # From None: its repr may hold a credential.
        inside = ("credentials",) if error.title != ImportRequest.__name__ else ()
        raise InvalidRequest(_explained(error, inside)) from None
    return request


def _require_count(rows: int) -> None:
    if rows == 0:
        raise InvalidRequest("The batch has no numbers.")
    if rows > MOST_ROWS:
        raise InvalidRequest(f"A batch takes at most {MOST_ROWS} numbers: send several batches.")


def _require_size(size: int) -> None:
    if size > LARGEST_ROW:
        raise InvalidRequest(f"The import is larger than {LARGEST_ROW // 1024} KiB.")


# Names


def _snake(name: str) -> str:
    snake = to_snake(name)
    return snake if to_camel(snake) == name else name


def _snake_names(given: Mapping[str, Any]) -> dict[str, Any]:
    found = {_snake(name): value for name, value in given.items()}
    if len(found) != len(given):
        raise InvalidRequest("Give each field once, in snake_case or in camelCase.")
    return found


def _snake_fields(given: Any) -> dict[str, Any]:  # noqa: ANN401 -- whatever JSON holds
    if not isinstance(given, dict):
        raise InvalidRequest("Must be a JSON object.")
    found = _snake_names(given)
    for name in _NESTED.keys() & found.keys() - {"metadata"}:
        if isinstance(found[name], dict):
            found[name] = _snake_names(found[name])
    return found


def _merged(defaults: Mapping[str, Any], item: Mapping[str, Any]) -> dict[str, Any]:
    """What a row asks for with the batch's defaults; an account is never mixed from two."""
    left = dict(defaults)
    if "credentials" in item or "credential_id" in item:
        left.pop("credentials", None)
        left.pop("credential_id", None)
    for name in ("sip", "inbound"):
        if isinstance(left.get(name), dict) and isinstance(item.get(name), dict):
            item = {**item, name: {**left[name], **item[name]}}
    return {**left, **item}


def _shown(name: str) -> str:
    return name if _PLAIN_NAME.fullmatch(name) else "(name not shown)"


def _explained(error: ValidationError, inside: tuple[str, ...]) -> str:
    found = []
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    for fault in faults[:_MOST_FAULTS]:
        place = ".".join(
            str(part) if isinstance(part, int) else _shown(part)
            for part in (*inside, *fault["loc"])
        )
        message = _WORDS.get(fault["type"], fault["msg"].removeprefix("Value error, "))
        found.append(f"{place}: {message}" if place else message)
    return "; ".join(found)


# CSV


def _text(body: bytes) -> str:
    try:
        return body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise InvalidRequest(f"The file is not UTF-8: line {line} is not.") from None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yields each row that is not blank, with the line that it begins on."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error:
            # Not this row alone: where a quote is wrong, so is every end of a row after it.
            raise InvalidRequest(
                f"The file cannot be read from line {line} on: a quoted cell there is not closed, "
                'or a quote inside one is not doubled ("").'
            ) from None
        if cells:
            yield line, cells


def _columns(header: Sequence[str], defaults: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Reads the names of the columns, each a field, a field of a field, or nothing to read."""
    if len(header) > MOST_COLUMNS:
        raise InvalidRequest(f"The file may have at most {MOST_COLUMNS} columns.")
    found: list[tuple[str, ...]] = []
    for place, text in enumerate(header, start=1):
        if text.strip() in ERROR_COLUMNS:
            found.append(())
            continue
        outer, dot, inner = text.strip().partition(".")
        outer = _snake(outer)
        known = outer in _FIELDS
        if outer in _NESTED:
            allowed = _NESTED[outer]
            inner = inner if allowed is None else _snake(inner)
            known = bool(inner) if allowed is None else inner in allowed
        elif dot:
            known = False
        if not known or "\0" in text:
            raise InvalidRequest(
                f"Column {place}, {_shown(text.strip())}: There is no such field. The first line "
                "must name the fields, separated by commas."
            )
        name = (outer, inner) if dot else (outer,)
        if name in found:
            raise InvalidRequest(f"Column {place}, {_shown(text.strip())}: It is there twice.")
        found.append(name)
    for needed in _COLUMNS_NEEDED:
        if (needed,) not in found and needed not in defaults:
            raise InvalidRequest(f"The file has no column {needed}.")
    return found


def _row(columns: Sequence[tuple[str, ...]], cells: Sequence[str]) -> dict[str, Any]:
    if len(cells) != len(columns):
        raise InvalidRequest(
            f"The row has {len(cells)} cells where the first line has {len(columns)}. Put a cell "
            "that holds a comma in quotes."
        )
    _require_size(sum(map(len, cells)))
    found: dict[str, Any] = {}
    for name, cell in zip(columns, cells, strict=True):
        if not (name and cell):
            continue
        if "\0" in cell:
            raise InvalidRequest(f"{_shown('.'.join(name))}: It holds a NUL character.")
        value = _value(name, cell)
        if len(name) == 1:
            found[name[0]] = value
        else:
            found.setdefault(name[0], {})[name[1]] = value
    return found


def _value(name: tuple[str, ...], cell: str) -> Any:  # noqa: ANN401 -- whatever a field holds
    if len(name) == 1 and name[0] in _FLAGS:
        if cell.lower() not in _TRUTH:
            raise InvalidRequest(f"{name[0]}: Must be true or false.")
        return _TRUTH[cell.lower()]
    return re.split(r"[\s,;]+", cell.strip()) if name in _LISTS else cell
