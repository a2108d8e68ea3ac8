"""CSV manifests and CDRs: a row per recording, found by its file's name or by the recorder's own id.

A CDR of years is far larger than what a night asks of it. So only the place of every row is kept, eight bytes
a key, and a row is read again when its recording is there.
"""

from __future__ import annotations

import csv
import os
import re
import weakref
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np

from callanalytics.errors import ConfigError
from callanalytics.ingest.recorders.fields import MAX_WORDS, Found, fact_named, facts_of

MAX_LINE_BYTES = 1_000_000
MAX_NUMBERED = 5  # unread lines that are named
MANIFEST_MAX_BYTES = 2_000_000_000  # places are kept in 32 bits
_BLOCK_BYTES = 1 << 18
_ROW_BYTES = 4_096  # more than most rows have
_MAX_PLAIN_CHARS = 100_000  # the csv module takes no longer cells, so that longer lines are left to it
_FILE_COLUMNS = {"file", "filename", "recording", "recordingfile", "path", "location", "recordname", "uri"}
_32_BITS = 0xFFFF_FFFF


class Manifest:
    """A CSV with a row per recording.

    A row is a line, so that a stray quote costs one row and not all that follow. `n_unread` counts the
    lines that cannot be read, `unread` holds the numbers of the first few (from 1).
    """

    def __init__(self, path: Path, zone: ZoneInfo, columns: dict[str, str]) -> None:
        """Read the table once and note where each row lies.

        Raises:
            ConfigError: the file cannot be read, or has no column that names recordings.
        """
        self.path = path
        self.n_unread = 0
        self.unread: list[int] = []
        self._zone = zone
        try:
            # Kept open: a file that is replaced during the run is not the one whose rows were noted.
            self._file = os.open(path, os.O_RDONLY)
            weakref.finalize(self, os.close, self._file)
            if os.fstat(self._file).st_size > MANIFEST_MAX_BYTES:
                raise ConfigError(f"{path}: larger than {MANIFEST_MAX_BYTES / 1e9:.0f} GB. Split it by day.")
            beginning = os.pread(self._file, _BLOCK_BYTES, 0)
            self._line_end = b"\r" if b"\r" in beginning and b"\n" not in beginning else b"\n"
            header = _cells(self._line_at(0), None) or []
            layout = _headerless(header)
            self._read_header(header if layout is None else layout, columns)
            self._entries = self._index(skip_first=layout is None)
        except OSError as problem:
            raise ConfigError(
                f"{path}: manifest cannot be read ({problem}). Check [[recorder]] manifest."
            ) from None

    def find(self, audio: Path, stem: str | None, external_id: str | None) -> Found | None:
        """Facts of one recording, by its file name (of a pair, without the side), else by its id."""
        for key in (audio.name, audio.stem, stem, external_id):
            if key is not None and (row := self._row(key)) is not None:
                stated: dict[str, object] = {}
                for fact, column in self._facts:
                    if column < len(row) and row[column]:
                        stated.setdefault(fact, row[column])
                return Found("manifest", 0.9, facts_of(stated, self._zone))
        return None

    def _read_header(self, header: Sequence[str], columns: dict[str, str]) -> None:
        """Note what each column states; of two with the same name the last counts."""
        places = {name: column for column, name in enumerate(header)}
        known = {name: found for name in places if (found := fact_named(name, columns))}
        best_first = sorted(known, key=lambda name: known[name][::-1])  # by rank among the aliases of a fact
        self._n_columns = len(header)
        self._facts = [(known[name][0], places[name]) for name in best_first]
        self._ids = [place for fact, place in self._facts if fact == "external_id"]
        self._files = [
            place
            for name, place in places.items()
            if columns.get("file") == name or _plain(name) in _FILE_COLUMNS
        ]
        if not self._files and not self._ids:
            raise ConfigError(
                f"{self.path}: no column names the recordings; found {', '.join(header[:20])}. "
                'Set manifest_columns = { file = "..." } in [[recorder]].'
            )

    def _index(self, *, skip_first: bool) -> np.ndarray[tuple[int], np.dtype[np.uint64]]:
        """uint64 (n_keys,), ascending: hash of the key in the upper half, place of its row in the lower."""
        entries = array("Q")  # grows without a second copy
        for number, (place, line) in enumerate(self._lines(), start=1):
            if number == 1 and skip_first:
                continue
            row = _cells(line, self._n_columns)
            if row is None:
                self.n_unread += 1
                if len(self.unread) < MAX_NUMBERED:
                    self.unread.append(number)
                continue
            for key in self._file_names(row):
                entries.append((hash(key) & _32_BITS) << 32 | place)
            if key := self._id(row):
                entries.append((hash(key) & _32_BITS) << 32 | place)
        index = np.frombuffer(entries, dtype=np.uint64) if entries else np.zeros(0, dtype=np.uint64)
        index.sort()
        return index

    def _file_names(self, row: Sequence[str]) -> list[str]:
        n_cells = len(row)  # damaged rows are short
        return [
            name
            for column in self._files
            if column < n_cells and row[column] and (name := _file_name(row[column]))
        ]

    def _id(self, row: Sequence[str]) -> str:
        for column in self._ids:
            if column < len(row) and row[column]:
                return row[column].strip()[:MAX_WORDS]
        return ""

    def _row(self, key: str) -> list[str] | None:
        """The last row that names this file, else the first with this id."""
        first = (hash(key) & _32_BITS) << 32
        begin, end = np.searchsorted(self._entries, np.array([first, first | _32_BITS], dtype=np.uint64))
        of_id: list[str] | None = None
        # Keys of other rows may have the same hash. The highest place of all is never a row's own.
        for entry in self._entries[begin:end][::-1].tolist():
            row = _cells(self._line_at(entry & _32_BITS), self._n_columns) or []
            if key in self._file_names(row):
                return row
            if key == self._id(row):
                of_id = row
        return of_id

    def _lines(self) -> Iterator[tuple[int, bytes]]:
        """Place and content of every line; of an endless one only the beginning."""
        place, position, n_dropped, line = 0, 0, 0, b""
        while block := os.pread(self._file, _BLOCK_BYTES, position):
            position += len(block)
            first, *others = block.split(self._line_end)
            room = MAX_LINE_BYTES - len(line)
            n_dropped += max(len(first) - room, 0)
            line += first[:room]
            for other in others:
                yield place, line
                place += len(line) + n_dropped + 1
                line, n_dropped = other[:MAX_LINE_BYTES], max(len(other) - MAX_LINE_BYTES, 0)
        if line:
            yield place, line

    def _line_at(self, place: int) -> bytes:
        n_bytes = _ROW_BYTES
        while True:
            content = os.pread(self._file, n_bytes, place)
            end = content.find(self._line_end)
            if end >= 0 or len(content) < n_bytes or n_bytes >= MAX_LINE_BYTES:
                return content[: end if end >= 0 else MAX_LINE_BYTES]
            n_bytes *= 16


def _file_name(stated: str) -> str:
    """The name of the file in a path, of Windows too, or in a URL."""
    return stated.partition("?")[0].replace("\\", "/").rstrip("/").rpartition("/")[2]


def _cells(line: bytes, n_columns: int | None) -> list[str] | None:
    """The cells of one line, None when its quotes do not fit.

    FreeSWITCH does not double the quotes in a caller's name: such a line is read when it still has
    `n_columns` cells (None: any).
    """
    text = line.decode("utf-8-sig", errors="replace").rstrip("\r\n")
    if '"' not in text and "\r" not in text and len(text) <= _MAX_PLAIN_CHARS:
        return text.split(",")
    for strict in (True, False):
        try:
            cells = next(csv.reader([text], strict=strict), [])
        except csv.Error:
            continue
        if strict or n_columns is None or len(cells) == n_columns:
            return cells
    return None


# CDRs that begin with data, by the first column that holds a date. Orders of Asterisk's cdr_csv, of its
# cdr_custom sample and of the "example" template of FreeSWITCH's mod_cdr_csv.
_HEADERLESS = {
    9: "accountcode src dst dcontext clid channel dstchannel lastapp lastdata start answer end duration "
    "billsec disposition amaflags uniqueid userfield",
    8: "clid src dst dcontext channel dstchannel lastapp lastdata start answer end duration billsec "
    "disposition amaflags accountcode uniqueid userfield",
    4: "caller_id_name caller_id_number destination_number context start_stamp answer_stamp end_stamp "
    "duration billsec hangup_cause uuid bleg_uuid accountcode read_codec write_codec",
}
_DATED = re.compile(r"\s*\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}")


def _headerless(row: Sequence[str]) -> list[str] | None:
    """Column names of a CDR whose first line is data, None when that line names columns."""
    first = next((i for i, value in enumerate(row) if _DATED.match(value)), None)
    return _HEADERLESS[first].split() if first in _HEADERLESS else None


def _plain(name: str) -> str:
    return "".join(ch for ch in name.lower() if ch.isalnum())
