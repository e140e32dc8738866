"""Paging: where a list goes on, as text that a client sends back as it is."""

import base64
import binascii
import json

from app.problems import Invalid
from app.run_query import SORTS, Position, RunQuery


def cursor_after(query: RunQuery, position: Position) -> str:
    """The cursor of the page that begins after a position."""
    content = json.dumps([query.sort, query.descending, position.value, position.run_id])
    return base64.urlsafe_b64encode(content.encode()).decode().rstrip("=")


def position_of(cursor: str, query: RunQuery) -> Position:
    """The position in a cursor. Raises Invalid for what is no cursor, or one of another order."""
    try:
        content = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        sort, descending, value, run_id = json.loads(content)
        # half a surrogate pair is JSON, but no text that a database takes
        str(value).encode()
    except (binascii.Error, ValueError, TypeError, RecursionError) as error:
        raise wrong(cursor, "this is no cursor; take the `next` of a page") from error
    if (sort, descending) != (query.sort, query.descending):
        raise wrong(cursor, "this cursor is of a list in another order; begin anew without it")
    if not is_value_of(query, value) or not is_run_number(run_id):
        raise wrong(cursor, "this is no cursor; take the `next` of a page")
    return Position(value, run_id)


def is_value_of(query: RunQuery, value: object) -> bool:
    """Whether a value can be one that the list is sorted by."""
    column = SORTS[query.sort]
    if column is not None and column.type.python_type is str:
        return isinstance(value, str)
    if query.sort == "number":
        return is_run_number(value)
    return value is None or isinstance(value, float)


def is_run_number(value: object) -> bool:
    return type(value) is int and 0 < value < 2**63


def wrong(cursor: str, message: str) -> Invalid:
    return Invalid([{"field": "cursor", "message": message, "given": cursor}])
