"""Print a command's result in the format that `--format` selects, which is a table, JSON or a Go template."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import click

from machine.cli.tables import align, table
from machine.errors import BadInputError
from machine.model.dataclass import dataclass
from machine.ops.shared.times import rfc3339

if TYPE_CHECKING:
    from machine.gotemplate import Template, Value

Document = Mapping[str, Any]

_TABLE = "table "
# These are not compiled, because a plain listing needs none of them and should be quick.
_JSON = r"\s*json\s*"
_JSON_OF_ALL = r"\s*(?:json|\{\{\s*json\s*\.?\s*\}\})\s*"
_RANGE = r"(?s)\{\{-?\s*range\s*(?:\$\w+\s*(?:,\s*\$\w+\s*)?:=\s*)?\.\s*-?\}\}.*\{\{-?\s*end\s*-?\}\}"
_WORDS = r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+"


class Form(StrEnum):
    """A kind of output. `DEFAULT` is the kind that a command prints without `--format`."""

    DEFAULT = "default"
    JSON = "json"
    TEMPLATE = "template"


def form_of(text: str | None, *, default: str | None = None, json_of_all: bool = True) -> Form:
    """Return the kind of output that the value of `--format` asks for.

    With `json_of_all`, the template `{{json .}}` prints the whole document as indented JSON. In Podman, this holds for
    commands that show a single item.

    Raises:
        BadInputError: the value is neither a known word nor a template.
    """
    if text is None or (default and text == default):
        return Form.DEFAULT
    if re.fullmatch(_JSON_OF_ALL if json_of_all else _JSON, text):
        return Form.JSON
    if re.fullmatch(r"\w+", text):
        known = ", ".join(filter(None, (default, "json")))
        raise BadInputError(
            f'unknown format "{text}"', hint=f"choose {known} or a Go template, such as '{{{{json .}}}}'"
        )
    return Form.TEMPLATE


def json_text(document: object, indent: int) -> str:
    """Encode a document as JSON. Write times as Go's encoder does."""
    return json.dumps(document, indent=indent, default=rfc3339)


# Listings


@dataclass(frozen=True, kw_only=True)
class Listing:
    """The items that a command lists, as a table for people, as fields for templates, and as documents for programs."""

    name: str
    """The name of the template in error messages."""

    type_name: str
    """The name of the items' type in error messages."""

    columns: Sequence[str]
    rows: Callable[[], Sequence[Sequence[str]]]
    fields: Sequence[str]
    """The names of the items' fields."""

    items: Callable[[], Sequence[Document]]
    documents: Callable[[], Sequence[Document]]
    indent: int = 2
    headings: Mapping[str, str] | None = None
    """The headings of those fields whose heading cannot be derived from the field's name."""

    types: Mapping[str, str] | None = None
    """The names of the fields' types in Go, by the names of the fields."""


def flat_listing(type_name: str, fields: Sequence[str], rows: Sequence[Sequence[str]]) -> Listing:
    """Return a listing for `ls`. Its columns are the fields, and its JSON has the same fields in lower case."""
    return Listing(
        name="ls",
        type_name=type_name,
        columns=[heading_of(field) for field in fields],
        rows=lambda: rows,
        fields=fields,
        items=lambda: [dict(zip(fields, row, strict=True)) for row in rows],
        documents=lambda: [dict(zip(map(str.lower, fields), row, strict=True)) for row in rows],
    )


def print_listing(listing: Listing, format_: str | None, *, heading: bool = True) -> None:
    """Print a listing in the format that the user has chosen.

    Raises:
        BadInputError: the format is an unknown word, or a template that does not fit the items.
    """
    click.echo(listing_text(listing, format_, heading=heading), nl=False)


def listing_text(listing: Listing, format_: str | None, *, heading: bool = True) -> str:
    """Return the text of a listing in the format that the user has chosen.

    Raises:
        BadInputError: the format is an unknown word, or a template that does not fit the items.
    """
    match form_of(format_, default="table", json_of_all=False):
        case Form.DEFAULT:
            rows = listing.rows()
            return table([listing.columns, *rows] if heading else rows)
        case Form.JSON:
            return json_text(listing.documents(), listing.indent) + "\n"
        case Form.TEMPLATE:
            assert format_ is not None
            return _filled_listing(listing, format_, heading=heading)


def _filled_listing(listing: Listing, format_: str, *, heading: bool) -> str:
    from machine.gotemplate import structure

    template = parse_template(listing.name, format_, ranged=True)
    content = render(template, [structure(item, listing.type_name, listing.types) for item in listing.items()])
    if not format_.startswith(_TABLE):
        return content
    return align(render(template, [_headings(listing)]) + content if heading else content)


def _headings(listing: Listing) -> dict[str, Value]:
    from machine.gotemplate import STRING_MAP, MapHeading

    names, types = listing.headings or {}, listing.types or {}
    texts = {field: names.get(field) or heading_of(field) for field in listing.fields}
    return {field: MapHeading(text) if types.get(field) == STRING_MAP else text for field, text in texts.items()}


def heading_of(field: str) -> str:
    """Return the heading of a column from the name of its field. The heading of `LastUp` is `LAST UP`."""
    return " ".join(re.findall(_WORDS, field)).upper()


# Documents


@dataclass(frozen=True, kw_only=True)
class Documents:
    """The documents that a command such as `inspect` prints, one for each machine or image."""

    name: str
    type_name: str
    documents: Sequence[Document]
    types: Mapping[str, str] | None = None
    """The names of the fields' types in Go, by the names of the fields."""

    indent: int = 2


def print_documents(found: Documents, format_: str | None) -> None:
    """Print the documents as one JSON array. If the format is a template, print its text for each document instead.

    Raises:
        BadInputError: the format is an unknown word, or a template that does not fit the documents.
    """
    if form_of(format_, json_of_all=False) is not Form.TEMPLATE:
        click.echo(json_text(found.documents, found.indent))
        return
    from machine.gotemplate import structure

    assert format_ is not None
    template = parse_template(found.name, format_, ranged=True)
    content = render(template, [structure(document, found.type_name, found.types) for document in found.documents])
    click.echo(align(content) if format_.startswith(_TABLE) else content, nl=False)


def parse_template(name: str, format_: str, *, ranged: bool) -> Template:
    r"""Parse a template as Podman does.

    `\t` and `\n` are escapes. In the template of a table, a space stands for a tab. Each item gets a line of its own.

    Raises:
        BadInputError: the text is not a valid template.
    """
    from machine.gotemplate import Template, TemplateError

    body = format_.removeprefix(_TABLE)
    is_table = body != format_
    text = body.replace("\\t", "\t").replace("\\n", "\n")
    if is_table:
        text = text.replace(" ", "\t")
    if not text.endswith("\n"):
        text += "\n"
    ranged = ranged or is_table
    try:
        return Template.parse(name, _with_range(text) if ranged else text)
    except TemplateError:
        # If a constant in the template contains such an escape, Podman uses the text as it was given.
        with _template_errors():
            return Template.parse(name, _with_range(body) if ranged else body)


def render(template: Template, data: Value) -> str:
    """Render a template with `data`, and return the text.

    Raises:
        BadInputError: the template names a field that `data` lacks, or calls a function with wrong arguments.
    """
    with _template_errors():
        return template.execute(data)


@contextlib.contextmanager
def _template_errors() -> Iterator[None]:
    from machine.gotemplate import TemplateError

    try:
        yield
    except TemplateError as error:
        raise BadInputError(str(error)) from error


def _with_range(text: str) -> str:
    return text if re.search(_RANGE, text) else f"{{{{range .}}}}{text}{{{{end -}}}}"
