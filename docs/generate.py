"""Write the pages that repeat what the code says: commands, settings, tables, the shipped model card.

    python docs/generate.py

`tests/test_docs.py` fails when a page is not what this would write.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
HEAD = "<!-- Written by docs/generate.py: change the code, then run `make docs`. -->\n"


def main() -> None:
    """Write every page anew."""
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Name below docs/ and text of every generated page."""
    return {
        "reference/cli.md": command_page(),
        "reference/configuration.md": settings_page((ROOT / "config.toml").read_text(encoding="utf-8")),
        "reference/tables.md": tables_page(),
        "model-card.md": shipped_card("model-card.md"),
        "model-card.html": shipped_card("model-card.html"),
    }


def row(*cells: str) -> str:
    """A line of a Markdown table."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


# Commands


def command_page() -> str:
    """Every command with its arguments and options, in the order of `--help`."""
    lines = [HEAD, "# Commands\n", "`callanalytics COMMAND --help` prints the same on the terminal.\n"]
    for words, command in commands():
        lines += _command(words, command)
    return "\n".join(lines).rstrip() + "\n"


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command and group, as (`review next`, command)."""
    from jobs.cli.main import cli

    yield from _below(cli, "")


def _below(group: click.Group, prefix: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is None:
            continue
        words = f"{prefix} {name}".strip()
        yield words, command
        if isinstance(command, click.Group):
            yield from _below(command, words)


def _command(words: str, command: click.Command) -> list[str]:
    context = click.Context(command)
    # `review CALL` is a command without a name of its own.
    shown = "review" if words == "review call" else words
    usage = " ".join(["callanalytics", shown, *command.collect_usage_pieces(context)])
    title = "review CALL" if words == "review call" else words
    depth = "###" if " " in words else "##"
    lines = [f"{depth} {title}\n", f"```text\n{usage}\n```\n"]
    lines += [_paragraph(part) + "\n" for part in (command.help or "").split("\n\n")]
    options = [option for option in command.params if isinstance(option, click.Option) and not option.hidden]
    if options:
        lines += [row("option", "value", "meaning"), row("---", "---", "---")]
        lines += [row(*_option(option)) for option in options] + [""]
    return lines


def _paragraph(text: str) -> str:
    return " ".join(text.replace("\b", "").split()).replace("<", "&lt;")


def _option(option: click.Option) -> tuple[str, str, str]:
    names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
    meaning = _paragraph(option.help or "")
    if option.required:
        meaning = f"{meaning} Required."
    elif option.show_default and not option.is_flag:
        meaning = f"{meaning} Default: `{option.default}`."
    return names, _value(option), meaning.strip()


def _value(option: click.Option) -> str:
    if option.is_flag or option.count:
        return ""
    kind = option.type
    if isinstance(kind, click.Choice):
        return ", ".join(f"`{choice}`" for choice in kind.choices)
    if option.metavar:
        return f"`{option.metavar}`"
    if isinstance(kind, click.IntRange | click.FloatRange):
        low = "" if kind.min is None else f" from {kind.min}"
        high = "" if kind.max is None else f" to {kind.max}"
        return f"number{low}{high}"
    return {"integer": "number", "float": "number"}.get(kind.name, kind.name)


# Settings


def settings_page(config: str) -> str:
    """Every table of config.toml: key, kind and default from the model, meaning from the file's comments."""
    from callanalytics.config import Settings

    notes = comments(config)
    lines = [
        HEAD,
        "# Settings: config.toml\n",
        "`callanalytics` reads `--config FILE`, else the file that `CALLANALYTICS_CONFIG` names, else "
        "`config.toml` in the current folder, else its defaults. An unknown key, a wrong type or an "
        "impossible value is refused with file, table, key and value (exit 2). Relative paths start "
        "at the file.\n",
    ]
    for name, field in Settings.model_fields.items():
        model = table_model(name, field)
        if model is None:
            continue
        heading, meaning = _summary(model)
        lines += [f"## {heading}\n", f"{meaning}\n"]
        lines += [row("key", "value", "default", "meaning"), row("---", "---", "---", "---")]
        lines += [
            row(f"`{key}`", _kind(key_field), _default(key_field), notes.get((name, key), ""))
            for key, key_field in model.model_fields.items()
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


def table_model(name: str, field: FieldInfo) -> type[BaseModel] | None:
    """The model of a table or of the entries of an array of tables; None for what is no table."""
    from callanalytics.config import RecorderSettings, RuleSettings

    model = {"recorder": RecorderSettings, "rule": RuleSettings}.get(name) or type(field.default)
    return model if issubclass(model, BaseModel) else None


def comments(config: str) -> dict[tuple[str, str], str]:
    """(table, key) -> the comment behind the key, also of keys that are themselves commented out."""
    found: dict[tuple[str, str], str] = {}
    table = ""
    for line in config.splitlines():
        if heading := re.match(r"(?:# )?\[+(\w+)\]+", line):
            table = heading[1]
        elif key := re.match(r"(?:# )?(\w+) = .*?\s# (.*)", line):
            found.setdefault((table, key[1]), _sentence(key[2]))
    return found


def _sentence(text: str) -> str:
    first = text[:1] if text.startswith("callanalytics ") else text[:1].upper()
    return first + text[1:].rstrip(".") + "."


def _summary(model: type[BaseModel]) -> tuple[str, str]:
    """Heading and first sentence of a table, from the docstring of its class."""
    first = " ".join((model.__doc__ or "").split("\n\n")[0].split())
    heading, _, meaning = first.partition(": ")
    return heading, _sentence(meaning)


def _kind(field: FieldInfo) -> str:
    bounds = {"Ge": "from", "Gt": "over", "Le": "to", "Lt": "under"}
    limits = [
        f"{word} {getattr(limit, type(limit).__name__.lower()):,}"
        for limit in field.metadata
        if (word := bounds.get(type(limit).__name__))
    ]
    return " ".join([_type(field.annotation), *limits])


def _type(annotation: Any) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f'`"{value}"`' for value in parts)
    if origin in (Union, UnionType):
        return " or ".join(_type(part) for part in parts if part is not type(None))
    if origin is tuple:
        return (
            f"list of {_type(parts[0])}"
            if get_origin(parts[0]) is not Literal
            else f"list: {_type(parts[0])}"
        )
    if origin is dict:
        return "table of text"
    if hasattr(annotation, "__metadata__"):
        return _type(annotation.__origin__)
    return {bool: "true or false", int: "whole number", float: "number", str: "text"}.get(annotation, "text")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "" if value is None else f"`{_toml(value)}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + "}"
    return f"{value}"


# Tables


def tables_page() -> str:
    """Every view and table of the published database with the comments of its columns."""
    from callanalytics.store import open_work, publish
    from callanalytics.store.query import describe_schema
    from callanalytics.workspace import Workspace

    with tempfile.TemporaryDirectory() as folder:
        with open_work(Workspace(Path(folder))) as store:
            published = publish(store)
        described = describe_schema(published)
    lines = [
        HEAD,
        "# Views and tables\n",
        "`callanalytics schema` prints the same of your own database. Views are kept stable; the tables in "
        "the schema `base` may change with a version. [Questions in SQL](sql.md) shows them at work.\n",
    ]
    for relation in described:
        lines += [f"## {relation['name']}\n", f"{relation['comment'] or ''}\n"]
        lines += [row("column", "type", "meaning"), row("---", "---", "---")]
        lines += [
            row(f"`{column['name']}`", f"`{column['type']}`", _paragraph(column["comment"] or ""))
            for column in relation["columns"]
        ]
        lines.append("")
    return "\n".join(lines).rstrip() + "\n"


# The shipped ensemble


def shipped_card(name: str) -> str:
    """The model card of the shipped weights, from their card and what `evaluate --card` measured."""
    from ensemble.evaluation.model_card import card_page

    card, results = (
        json.loads((ROOT / path).read_text(encoding="utf-8"))
        for path in ("ensemble/weights/card.json", "benchmarks/shipped-results.json")
    )
    return card_page(name, card, results)


if __name__ == "__main__":
    main()
