"""JSON files beside a recording, and CSV manifests or CDRs over many."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from callanalytics.errors import ConfigError
from callanalytics.recorders.found import Found, fact_named, facts_of

# `{name}` is the file name with, `{stem}` without its extension.
BESIDE = ("{name}.json", "{stem}.json", "{name}_metadata.json", "{stem}_metadata.json")
MAX_DEPTH = 6
MAX_KEYS = 2000
MANIFEST_MAX_BYTES = 2_000_000_000
_FILE_COLUMNS = {"file", "filename", "recording", "recordingfile", "path", "location", "recordname", "uri"}


def read_sidecar(audio: Path, zone: ZoneInfo, *, max_bytes: int, template: str | None = None) -> Found | None:
    """Facts of the JSON beside a recording; None when there is none or it is no JSON object.

    Too large, too deep or damaged sidecars are passed over: they never stop a call.
    """
    patterns = (template,) if template else BESIDE
    for pattern in patterns:
        path = audio.parent / pattern.format(name=audio.name, stem=audio.stem)
        try:
            if not path.is_file() or path.stat().st_size > max_bytes:
                continue
            document = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError):
            continue
        if isinstance(document, dict):
            return Found("sidecar", 0.95, facts_of(_stated(document), zone))
    return None


def _stated(document: dict[str, Any]) -> dict[str, object]:
    """Known keys of a JSON object, also inside objects: the best alias wins, then the shallowest."""
    best: dict[str, tuple[int, int, object]] = {}
    for n_seen, (depth, key, value) in enumerate(_flat(document)):
        if n_seen >= MAX_KEYS:
            break
        named = fact_named(key)
        if named is not None and isinstance(value, (str, int, float)):
            fact, rank = named
            if fact not in best or (rank, depth) < best[fact][:2]:
                best[fact] = (rank, depth, _without_scheme(value))
    return {fact: value for fact, (_, _, value) in best.items()}


def _flat(document: dict[str, Any]) -> Iterator[tuple[int, str, object]]:
    level = [document]
    for depth in range(MAX_DEPTH):
        below: list[dict[str, Any]] = []
        for table in level:
            for key, value in table.items():
                if isinstance(value, dict):
                    below.append(value)
                else:
                    yield depth, key, value
        level = below


def _without_scheme(value: str | float) -> str | float:
    return value.split(":", 1)[1] if isinstance(value, str) and value.startswith(("tel:", "sip:")) else value


class Manifest:
    """A CSV with a row per recording, found by file name or by the recorder's own id."""

    def __init__(self, path: Path, zone: ZoneInfo, columns: dict[str, str]) -> None:
        """Read the whole table.

        Raises:
            ConfigError: the file cannot be read, or has no column that names recordings.
        """
        self._by_key: dict[str, dict[str, object]] = {}
        try:
            if path.stat().st_size > MANIFEST_MAX_BYTES:
                raise ConfigError(f"{path}: larger than {MANIFEST_MAX_BYTES / 1e9:.0f} GB. Split it by day.")
            with path.open(newline="", encoding="utf-8-sig", errors="replace") as stream:
                self._read(csv.DictReader(stream), path, zone, columns)
        except (OSError, csv.Error) as problem:
            raise ConfigError(
                f"{path}: manifest cannot be read ({problem}). Check [[recorder]] manifest."
            ) from None

    def _read(self, rows: csv.DictReader[str], path: Path, zone: ZoneInfo, columns: dict[str, str]) -> None:
        header = [name for name in rows.fieldnames or [] if name]
        named = sorted((found[1], found[0], name) for name in header if (found := fact_named(name, columns)))
        files = [n for n in header if columns.get("file") == n or _plain(n) in _FILE_COLUMNS]
        if not files and "external_id" not in {fact for _, fact, _ in named}:
            raise ConfigError(
                f"{path}: no column names the recordings; found {', '.join(header[:20])}. "
                'Set manifest_columns = { file = "..." } in [[recorder]].'
            )
        for row in rows:
            stated: dict[str, object] = {}
            for _, fact, name in named:
                if row.get(name):
                    stated.setdefault(fact, row[name])
            values = facts_of(stated, zone)
            for name in files:
                if row.get(name):
                    self._by_key[Path(row[name].split("?")[0]).name] = values
            if "external_id" in values:
                self._by_key.setdefault(str(values["external_id"]), values)

    def find(self, audio: Path, external_id: str | None) -> Found | None:
        """Facts of one recording, by its file name, else by the id that its name gave."""
        for key in (audio.name, audio.stem, external_id):
            if key is not None and key in self._by_key:
                return Found("manifest", 0.9, self._by_key[key])
        return None


def _plain(name: str) -> str:
    return "".join(ch for ch in name.lower() if ch.isalnum())
