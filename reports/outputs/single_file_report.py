"""The report as one file to send by mail: the brief and the trends, with style, script and sounds inside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import zip_longest
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.workspace import make_private_dir
from reports.pages.brief import Brief, read_brief
from reports.pages.cards import Card
from reports.pages.trends import read_trends
from reports.render import asset, frame_for, render, write_page, writing
from reports.report_source import Source, open_source
from reports.views import Moment

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
    window: Window,
    now: datetime,
    clips_dir: Path | None,
    redact: bool = False,
) -> Path:
    """Write the report of a window as one HTML file of at most `MAX_BYTES`, readable by its owner only.

    Sounds are put in by rank, the first moment of every call before the second of any, until the file is
    full; the other moments say when, without a button.

    Args:
        database: the published file, read only.
        clips_dir: evidence clips as <clips_dir>/<call_id>/<name>.
        redact: without sound and without what names people or files.

    Raises:
        ReportError: the database cannot be read or the file cannot be written.
    """
    with open_source(
        database, settings, window, now, clips_dir=clips_dir, clips_href=CLIPS_HREF, redact=redact
    ) as source:
        text = _page(source)
    with writing(out_file):
        make_private_dir(out_file.parent)
        write_page(out_file, text)
    return out_file


def _page(source: Source) -> str:
    """The page without sounds, rendered once more with as many as there is room for."""
    brief = read_brief(source, frozenset())
    script = asset("report.js")
    views = {
        "frame": frame_for(source, "single", brief.summary.headline, single=True),
        "trends": read_trends(source, linked=False),
        "style": asset("style.css"),
        "script": script,
        "script_digest": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    }
    text = render("single.html", brief=_with_sounds(brief, {}), **views)
    sounds = _fitting(source, brief.summary.cards, MAX_BYTES - len(text.encode(errors="replace")))
    return render("single.html", brief=_with_sounds(brief, sounds), **views) if sounds else text


def _fitting(source: Source, cards: Sequence[Card], room_bytes: int) -> dict[str, str]:
    """Link of a clip -> its sound as a data URI, as many as there is room for."""
    sounds: dict[str, str] = {}
    for link in _by_importance(cards):
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
    playable = ([m.clip for m in card.call.moments if m.clip] for card in cards)
    for row in zip_longest(*playable):
        yield from (link for link in row if link)


def _with_sounds(brief: Brief, sounds: Mapping[str, str]) -> Brief:
    """The brief with these sounds in place of links; the other moments lose theirs."""

    def embedded(moment: Moment) -> Moment:
        sound = sounds.get(moment.clip, "")
        return replace(moment, clip=sound, embedded=bool(sound))

    cards = tuple(
        replace(card, call=replace(card.call, moments=tuple(map(embedded, card.call.moments))))
        for card in brief.summary.cards
    )
    return replace(brief, summary=replace(brief.summary, cards=cards))
