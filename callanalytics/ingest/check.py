"""`ingest check`: what each file parses to, before any model runs."""

from __future__ import annotations

import re
import secrets
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.ingest import find_recordings
from callanalytics.ingest.recorders.phone_numbers import is_phone
from callanalytics.ingest.recorders.stamps import UUID
from callanalytics.records import CallFacts
from callanalytics.records.text import counted, display_text, optional_text

_SEPARATORS = re.compile(r"([_\-. ~+@()]+)")
_EPOCH = re.compile(r"1\d{9}")
_MOST_PARTS = 12  # a longer name is prose
# What is doubtful, in words, stands among the sources under these names.
NOTES = ("conflict", "zone_note", "sidecar_note")
# What is counted as passed over and stands with its recording.
_SHOWN_WITH_RECORDING = ("pair_part", "sidecars_unread")


@dataclass(frozen=True, slots=True)
class CheckedFile:
    """One recording, or one skipped file, as the search finds it; all text is safe to print."""

    path: str
    recorder: str = ""
    confidence: float = 0.0
    started_at: str = ""
    started_at_source: str = ""
    direction: str = ""
    agent_id: str | None = None
    queue: str | None = None
    caller_hash: str | None = None
    channel_roles: str = ""
    role_conflict: str | None = None
    sources: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pair_with: str | None = None
    skipped: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Plain values for `ingest check --json`."""
        row = asdict(self)
        return {**row, "set_aside": row.pop("skipped")}  # the key that scripts know


def check_paths(paths: Sequence[Path], settings: Settings) -> list[CheckedFile]:
    """Search without a window.

    Caller hashes hold for this one check: ten digits hashed with a salt that anybody can read would be a
    number in clear.
    """
    found = find_recordings(paths, settings, window=None, now=datetime.now(UTC), salt=secrets.token_bytes(32))
    rows = []
    for recording in (*found.recordings, *(failure.found for failure in found.failures)):
        facts, files = recording.facts, recording.recording.paths
        rows.append(
            CheckedFile(
                path=display_text(str(files[0])),
                recorder=display_text(facts.recorder),
                confidence=facts.recorder_confidence,
                started_at=facts.started_at.isoformat(timespec="seconds"),
                started_at_source=facts.started_at_source.value,
                direction=facts.direction.value,
                agent_id=optional_text(facts.agent_id),
                queue=optional_text(facts.queue),
                caller_hash=facts.caller_hash,
                channel_roles=", ".join(facts.channel_roles),
                role_conflict=_role_conflict(facts),
                sources={key: display_text(said) for key, said in facts.sources.items() if key not in NOTES},
                notes=tuple(display_text(facts.sources[key]) for key in NOTES if key in facts.sources),
                pair_with=display_text(str(files[1])) if len(files) > 1 else None,
            )
        )
    for file in found.skipped:
        if file.reason not in _SHOWN_WITH_RECORDING:
            why = display_text(f"{file.reason}: {file.detail}")
            rows.append(CheckedFile(display_text(str(file.path)), skipped=why))
    return rows


def _role_conflict(facts: CallFacts) -> str | None:
    """What each source says of the sides, where they disagree."""
    stated = [fact for fact in facts.stated_roles if fact.log_odds]
    if len({fact.log_odds > 0 for fact in stated}) < 2:
        return None
    said = (f"{', '.join(fact.roles)} by {fact.words}" for fact in stated)
    return display_text("; ".join(said))


def render_checked(rows: Sequence[CheckedFile], most: int | None = None) -> str:
    """A line or two per file, of `most` files, and how many names nothing matched."""
    lines = []
    for row in rows[:most]:
        lines.append(row.path + (f"  +  {Path(row.pair_with).name}" if row.pair_with else ""))
        if row.skipped:
            lines.append(f"    skipped: {row.skipped}")
            continue
        known = (
            ("agent", "agent_id", row.agent_id),
            ("queue", "queue", row.queue),
            ("caller", "caller_hash", row.caller_hash),
            ("channels", "channel_roles", row.channel_roles),
        )
        stated = [f"{name} {value}{_by(row, fact)}" for name, fact, value in known if value]
        who = f"{row.recorder} ({row.confidence:.0%})" if row.recorder != "none" else "no recorder matched"
        source = row.sources.get("started_at", row.started_at_source)
        lines.append(f"    {who}: {row.started_at} from {source}, {row.direction}")
        if stated:
            lines.append("    " + ", ".join(stated))
        if row.role_conflict:
            lines.append(f"    role conflict, left and right: {row.role_conflict}")
        lines += [f"    note: {note}" for note in row.notes]
    if most is not None and len(rows) > most:
        lines.append(f"and {len(rows) - most:,} more files")
    unmatched = [Path(row.path).stem for row in rows if row.recorder == "none" and not row.skipped]
    n_unmatched = len(unmatched)
    n_files = sum(row.skipped is None for row in rows)
    lines.append(
        f"{counted(n_files, 'recording')}; {n_unmatched} whose name nothing matched (dated by the file)."
    )
    if suggestion := suggested_recorder(unmatched):
        lines += ["", "For config.toml, if you know what the parts of these names are:", "", suggestion]
    elif n_unmatched:
        lines.append("Their names hold no number or id: a sidecar or a manifest may say more.")
    return "\n".join(lines)


def _by(row: CheckedFile, fact: str) -> str:
    """Which source gave a fact, in brackets."""
    return f" ({row.sources[fact]})" if fact in row.sources else ""


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
