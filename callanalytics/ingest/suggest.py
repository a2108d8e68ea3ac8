"""A `[[recorder]]` table for names that nothing matched: the most common shape first, ready to paste."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence

from callanalytics.ingest.recorders.phone_numbers import is_phone
from callanalytics.ingest.recorders.stamps import UUID

_SEPARATORS = re.compile(r"([_\-. ~+@()]+)")
_EPOCH = re.compile(r"1\d{9}")
_MOST_PARTS = 12  # a longer name is prose


def suggested_recorder(stems: Sequence[str]) -> str | None:
    """The table for the most common shape of some names, as TOML; None when no part says anything.

    A number of ten digits that begins with 1 is taken for an epoch, other long ones for the caller's number.
    Words that all names of the shape share stay. The others may be anything: which of them is the agent only
    the reader knows.
    """
    shapes: dict[tuple[str, ...], list[list[str]]] = defaultdict(list)
    for stem in stems:
        parts = _parts(stem)
        if len(parts) <= _MOST_PARTS:
            shapes[tuple(_kind(part) for part in parts)].append(parts)
    telling = {
        shape: names for shape, names in shapes.items() if {"{EPOCH}", "{CUSTPHONE}", "{GUID}"} & {*shape}
    }
    if not telling:
        return None
    shape, names = max(telling.items(), key=lambda item: (len(item[1]), item[0]))
    fields: list[str] = []
    for kind, values in zip(shape, zip(*names, strict=True), strict=True):
        shared = kind == "{ANY}" and len(names) > 1 and len(set(values)) == 1 and values[0].isalnum()
        # A field stands in a template once.
        fields.append(
            values[0] if shared else kind if kind not in fields or _SEPARATORS.fullmatch(kind) else "{ANY}"
        )
    example = "".join(names[0])
    return "\n".join(
        (
            f"# {len(names)} such as {example}. Put AGENT, QUEUE, CALLID, DIRECTION for ANY where it is one.",
            "[[recorder]]",
            'name = "mine"',
            'kind = "template"',
            f'template = "{"".join(fields)}"',
        )
    )


def _parts(stem: str) -> list[str]:
    if found := re.search(UUID, stem):
        before, after = stem[: found.start()], stem[found.end() :]
        return [*_parts(before), found[0], *_parts(after)]
    return [part for part in _SEPARATORS.split(stem) if part]


def _kind(part: str) -> str:
    """The field that a part of a name may be, or itself, when it separates others."""
    if _SEPARATORS.fullmatch(part):
        return part
    if re.fullmatch(UUID, part):
        return "{GUID}"
    if _EPOCH.fullmatch(part):
        return "{EPOCH}"
    return (
        "{CUSTPHONE}" if part.isascii() and part.isdigit() and len(part) <= 15 and is_phone(part) else "{ANY}"
    )
