"""A training corpus out of reviewed segments: sound cut from the recordings, and a manifest.

Speaker-safe: a speaker is the salted hash of the caller's number (of the call, where no number is known), and
which split a speaker belongs to follows from that name alone, so that no voice is ever on two sides and a
speaker stays where they are from one export to the next. Names of speakers and clips get into the cards of
ensembles, which outlive the calls: no id of a call is in them. Agents are left out: their emotions are not to
be learned from (EU AI Act, Article 5(1)(f)).
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from callanalytics.audio import decode_recording
from callanalytics.config import Settings
from callanalytics.errors import RecordingChanged, RecordingError, UsageError
from callanalytics.ingest.locate import RecordingGone, locate
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.store import open_locked
from callanalytics.store.query import open_published
from callanalytics.store.reader import known_places
from callanalytics.store.schema import fetched
from callanalytics.workspace import Workspace, folder_in_the_making, write_whole

MANIFEST = "reviewed.csv"  # its stem is the name of the corpus
COLUMNS = (
    *("path", "emotion", "speaker", "split", "call_id", "at_s", "role"),
    *("verdict", "voted", "licence", "consent"),
)
# Shares of speakers. The test speakers are never trained on: they are what ensembles are compared by.
TEST_SHARE, VALIDATION_SHARE = 0.3, 0.1
SHORTEST_S = 0.5

REVIEWED_SQL = """
SELECT r.call_id, r.segment, r.channel, r.start_s, r.end_s, r.voted::VARCHAR AS voted,
    r.verdict::VARCHAR AS verdict, r.emotion::VARCHAR AS emotion, r.role::VARCHAR AS role,
    r.caller_hash, r.recording_id, f.paths
FROM reviewed_segments r JOIN base.recordings f USING (recording_id)
ORDER BY r.call_id, r.start_s
"""


@dataclass(frozen=True, slots=True)
class Exported:
    """What an export wrote, and what it left out: reason -> how many segments."""

    manifest: str
    n_clips: int
    n_speakers: int
    emotions: dict[str, int]
    splits: dict[str, int]
    left_out: dict[str, int]

    def to_json(self) -> dict[str, Any]:
        """What `labels export --json` prints."""
        return asdict(self)


def export_labels(
    settings: Settings,
    workspace: Workspace,
    folder: Path,
    *,
    consent: bool,
    licence: str = "internal use only",
) -> Exported:
    """Write the reviewed segments of the published results as a corpus that `read_corpus` reads.

    WAV, 8 kHz, mono, 16 bit; `folder` must not exist yet or be empty, and appears whole or not at all.

    Raises:
        UsageError: no consent stated, the folder is taken, no results, or nothing to export.
        StoreError: there is no salt to name speakers with, and none can be made.
        LockHeld: a run is at work, which alone may open the database that knows the files' own names.
    """
    require_consent(consent)
    if folder.exists() and any(folder.iterdir()):
        raise UsageError(f"{folder}: is not empty. Name a folder that does not exist yet.")
    segments, known = _reviewed(workspace)
    salt = load_or_make_salt(workspace.folder / settings.privacy.salt_file)
    folder.parent.mkdir(parents=True, exist_ok=True)
    left_out: Counter[str] = Counter()
    with folder_in_the_making(folder) as arriving:
        rows = list(_cut(segments, known, settings, salt, arriving, left_out))
        if not rows:
            counts = ", ".join(f"{n} {reason}" for reason, n in sorted(left_out.items()))
            review = workspace.command("review", "next")
            why = counts or "no segment was reviewed"
            raise UsageError(f"Nothing to export: {why}. Review segments first: {review}")
        for row in rows:
            row |= {"licence": licence, "consent": "stated"}
        _write(arriving, rows, left_out, licence)
        if folder.exists():
            folder.rmdir()
        arriving.rename(folder)
    return Exported(
        manifest=str(folder / MANIFEST),
        n_clips=len(rows),
        n_speakers=len({row["speaker"] for row in rows}),
        emotions=dict(sorted(Counter(str(row["emotion"]) for row in rows).items())),
        splits=dict(sorted(Counter(str(row["split"]) for row in rows).items())),
        left_out=dict(left_out),
    )


def require_consent(consent: bool) -> None:
    """Raises UsageError unless it is stated that callers' voices may be trained on."""
    if not consent:
        raise UsageError(
            "Callers' voices are personal data: training on them needs their consent or another legal "
            "ground, for the calls exported here. Say that you have it with --consent."
        )


def speaker_of(caller_hash: str | None, call_id: str, salt: bytes) -> str:
    """Name of a speaker in the corpus; nobody can go from it to a number, or without the salt to a call."""
    return f"caller-{caller_hash[:16]}" if caller_hash else f"call-{_mark(call_id, salt)}"


def _mark(call_id: str, salt: bytes) -> str:
    """What a call goes by in names that may outlive it; the same in every export of one output folder."""
    return hmac.new(salt, f"call {call_id}".encode(), hashlib.sha256).hexdigest()[:16]


def split_of(speaker: str) -> str:
    """`test`, `validation` or `train`; always the same for the same speaker."""
    position = int.from_bytes(hashlib.sha256(speaker.encode()).digest()[:8]) / 2**64
    if position < TEST_SHARE:
        return "test"
    return "validation" if position < TEST_SHARE + VALIDATION_SHARE else "train"


def _reviewed(workspace: Workspace) -> tuple[list[dict[str, Any]], dict[str, dict[Path, str]]]:
    """The reviewed segments that are published, and where the files of their recordings lay."""
    with open_published(workspace.database) as connection:
        segments: list[dict[str, Any]] = fetched(connection.sql(REVIEWED_SQL)).to_dicts()
    if not segments or not workspace.work_database.exists():
        return segments, {}
    with open_locked(workspace) as store:
        return segments, known_places(store, {str(segment["recording_id"]) for segment in segments})


def _cut(
    segments: list[dict[str, Any]],
    known: Mapping[str, Mapping[Path, str]],
    settings: Settings,
    salt: bytes,
    folder: Path,
    left_out: Counter[str],
) -> Iterator[dict[str, object]]:
    """Write the clips, one recording decoded at a time; yields their rows."""
    import soundfile as sf

    usable = [s for s in segments if not (why := _unusable(s)) or left_out.update([why])]
    for recording_id, group in groupby(usable, key=lambda s: str(s["recording_id"])):
        mine = list(group)
        try:
            paths = locate(recording_id, mine[0]["paths"], salt, settings.audio, known.get(recording_id))
            audio = decode_recording(paths, settings.audio, recording_id=recording_id)
        except (RecordingError, OSError) as problem:
            left_out[_why_not(problem)] += len(mine)
            continue
        samples, rate_hz = audio.samples, audio.sample_rate_hz
        for segment in mine:
            first, last = round(segment["start_s"] * rate_hz), round(segment["end_s"] * rate_hz)
            speaker = speaker_of(segment["caller_hash"], segment["call_id"], salt)
            name = f"{_mark(segment['call_id'], salt)}-{segment['channel']}-{first:09d}.wav"
            sound = samples[min(segment["channel"], len(samples) - 1), first:last]
            with (folder / name).open("wb") as file:
                sf.write(file, sound, rate_hz, format="WAV", subtype="PCM_16")
            (folder / name).chmod(0o600)
            yield {
                "path": name,
                "emotion": segment["emotion"],
                "speaker": speaker,
                "split": split_of(speaker),
                "call_id": segment["call_id"],
                "at_s": segment["start_s"],
                "role": segment["role"],
                "verdict": segment["verdict"],
                "voted": segment["voted"],
            }


def _unusable(segment: Mapping[str, Any]) -> str | None:
    if segment["role"] == "agent":
        return "of an agent"
    if segment["role"] is None:
        return "no segment any more: the call was analysed anew"
    if segment["verdict"] == "unsure":
        return "unsure"
    if segment["emotion"] is None:
        return "rejected without naming the emotion heard"
    return "too short" if segment["end_s"] - segment["start_s"] < SHORTEST_S else None


def _why_not(problem: Exception) -> str:
    if isinstance(problem, RecordingGone):
        return "recording gone"
    changed = isinstance(problem, RecordingChanged)
    return "recording changed since it was analysed" if changed else "recording unreadable"


def _write(folder: Path, rows: list[dict[str, object]], left_out: Mapping[str, int], licence: str) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_whole(folder / MANIFEST, text.getvalue())
    about = {
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "licence": licence,
        "consent": "stated by the person who exported",
        "n_clips": len(rows),
        "n_speakers": len({row["speaker"] for row in rows}),
        "left_out": dict(left_out),
        "contains": "voices of callers, cut from recorded calls; delete it when the consent ends",
    }
    write_whole(folder / "about.json", json.dumps(about, indent=1) + "\n")
