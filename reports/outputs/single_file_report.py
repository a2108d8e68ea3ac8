"""The report as one file to send by mail: the brief and the trends, with style, script and sounds inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from callanalytics.config import Settings
from reports import formatting as words
from reports.pages.brief import read_brief
from reports.pages.trends import read_trends
from reports.render import asset, frame_for, render, replace_private
from reports.report_source import Source, WindowLike, open_source
from reports.views import Brief, Card, Moment

# What mail servers still pass on together with a message.
MAX_BYTES = 5_000_000
CLIPS_HREF = "clips"
_MEDIA_TYPES = {".mp3": "audio/mpeg", ".wav": "audio/wav"}
# What a play button adds to a page besides its sound.
BUTTON_BYTES = 400


def build_single_file(
    database: Path,
    out_file: Path,
    *,
    settings: Settings,
    window: WindowLike,
    now: datetime,
    clips_dir: Path | None,
    redact: bool = False,
) -> Path:
    """Write the report of a window as one HTML file of at most `MAX_BYTES`, readable by its owner only.

    Sounds are put in by rank, the first moment of every call before the second of any, until the file is
    full; the other moments say when, without a button. redact: no sound and no names (source.py).

    Raises:
        ReportError: the database cannot be read or the file cannot be written.
    """
    with (
        open_source(
            database, settings, window, now, clips_dir=clips_dir, clips_href=CLIPS_HREF, redact=redact
        ) as source,
        words.localised(settings.report.locale),
    ):
        text = _single(source)
    replace_private(out_file, text)
    return out_file


def _single(source: Source) -> str:
    found = read_brief(source, frozenset())
    silent = replace(found, cards=tuple(_with_clips(card, {}) for card in found.cards))
    trends = read_trends(source, linked=False)
    script = asset("report.js")
    page = {
        "frame": frame_for(source, "single", found.headline, single=True),
        "trends": trends,
        "style": asset("style.css"),
        "script": script,
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    text = render("single.html", brief=silent, **page)
    sounds = _fitting(source, found, MAX_BYTES - len(text.encode(errors="replace")))
    if not sounds:
        return text
    loud = replace(found, cards=tuple(_with_clips(card, sounds) for card in found.cards))
    return render("single.html", brief=loud, **page)


def _fitting(source: Source, brief: Brief, room_bytes: int) -> dict[str, str]:
    """Link of a clip -> its sound as a data URI, as many as there is room for."""
    sounds: dict[str, str] = {}
    for link in _by_importance(brief.cards):
        if link in sounds or source.clips_dir is None:
            continue
        path = source.clips_dir.joinpath(*link.split("/")[1:])
        n_bytes = -(-path.stat().st_size // 3) * 4 + BUTTON_BYTES
        if n_bytes <= room_bytes:
            room_bytes -= n_bytes
            content = base64.b64encode(path.read_bytes()).decode()
            sounds[link] = f"data:{_MEDIA_TYPES[path.suffix]};base64,{content}"
    return sounds


def _by_importance(cards: Sequence[Card]) -> Iterator[str]:
    """Links of clips: the first of every card by rank, then the second ones."""
    playable = ([m.clip for m in card.moments if m.clip] for card in cards)
    for row in zip_longest(*playable):
        yield from (link for link in row if link)


def _with_clips(card: Card, sounds: dict[str, str]) -> Card:
    moments = (_with_clip(moment, sounds.get(moment.clip, "")) for moment in card.moments)
    return replace(card, moments=tuple(moments))


def _with_clip(moment: Moment, sound: str) -> Moment:
    return replace(moment, clip=sound, embedded=bool(sound))
