"""Waveform and spectrogram of a call, from the files that the analysis left beside its clips."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from reports.call_rows import CallData
from reports.parts.call_parts import page_name
from reports.report_source import Source
from reports.timeline import ROLE_NAMES
from reports.translation import _

# More columns than any picture has; a longer list is no waveform of ours.
MAX_COLUMNS = 4000
# Full height is the loudest peak (of 255), at least this one: a quiet call is seen, bare noise stays flat.
LEAST_PEAK = 24


@dataclass(frozen=True, slots=True)
class Picture:
    """The sound of one channel: `wave` is a path in the 1000 x 100 box, `image` a relative link."""

    name: str
    wave: str
    image: str
    text: str


def read_pictures(source: Source, call: CallData) -> tuple[Picture, ...]:
    """One per channel that somebody speaks on, callers first; none where the files are not."""
    if source.clips_dir is None or not page_name(call.call_id):
        return ()
    folder = source.clips_dir / call.call_id
    by_channel = sorted({(turn["channel"], turn["role"]) for turn in call.turns})
    found = []
    for channel, group in groupby(by_channel, key=lambda pair: int(pair[0])):
        roles = [role for _channel, role in group]
        image = f"spectrogram-{channel}.png"
        peaks = _peaks(folder / f"waveform-{channel}.json")
        if peaks and (folder / image).is_file():
            name = _(ROLE_NAMES[roles[0]]) if len(roles) == 1 else _("Both sides")
            found.append((roles, name, peaks, f"../{source.clips_href}/{call.call_id}/{image}"))
    loudest = max([LEAST_PEAK, *(max(peaks) for *_names, peaks, _image in found)])
    return tuple(
        Picture(
            name=name,
            wave=_wave(peaks, loudest),
            image=image,
            text=_("Spectrogram, {side}: notes from 60 Hz at the bottom to 3.8 kHz, dark where loud").format(
                side=name
            ),
        )
        for _roles, name, peaks, image in sorted(found, key=lambda row: row[0] != ["caller"])
    )


def _peaks(path: Path) -> list[int]:
    """The columns of a waveform file, 0..255; empty when it is missing or is something else."""
    try:
        with path.open("rb") as stream:
            peaks = json.loads(stream.read(32_000))["peaks"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    if not isinstance(peaks, list) or not 0 < len(peaks) <= MAX_COLUMNS:
        return []
    return peaks if all(type(peak) is int and 0 <= peak <= 255 for peak in peaks) else []


def _wave(peaks: list[int], loudest: int) -> str:
    """The outline of the waveform, as high above the middle as below."""
    step = 1000 / len(peaks)
    up = [f"{i * step:.1f} {50 - 48 * peak / loudest:.1f}" for i, peak in enumerate(peaks)]
    down = [f"{i * step:.1f} {50 + 48 * peak / loudest:.1f}" for i, peak in enumerate(peaks)]
    return "M" + "L".join([*up, *reversed(down)]) + "Z"
