"""The report of a run: clips as calls are committed, pages when they no longer show what is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.files import write_whole
from callanalytics.records import CallAnalysis, CallRows, Clip
from callanalytics.store import DATABASE_NAME, Store
from callanalytics.store.open import make_private_dir
from callanalytics.window import Window


def write_clips(out: Path, call: CallRows) -> None:
    """Put the clips of a call beside the report; each is there whole or not at all."""
    folder = _clips_of(out, call.recording.call_id)
    for clip in call.clips:
        make_private_dir(folder)
        target = folder / clip.name
        partial = target.with_suffix(".tmp")
        partial.write_bytes(clip.content)
        partial.chmod(0o600)
        partial.replace(target)


def remove_clips(out: Path, call_ids: Iterable[str]) -> None:
    """Remove the clips of calls that are no longer there."""
    for call_id in call_ids:
        shutil.rmtree(_clips_of(out, call_id), ignore_errors=True)


def kept_clips(out: Path, call: CallAnalysis) -> tuple[Clip, ...]:
    """The clips of a flagged call's moments that lie beside the report from an earlier analysis.

    A clip is named after the start of its moment, so that one of the same name plays the same place.
    """
    folder = _clips_of(out, call.recording.call_id)
    moments = {m.clip_name: m for e in call.escalations for m in e.evidence} if call.flagged else {}
    return tuple(
        Clip(name, moment.start_s, moment.end_s, (folder / name).read_bytes())
        for name, moment in moments.items()
        if (folder / name).is_file()
    )


def _clips_of(out: Path, call_id: str) -> Path:
    return out / "reports" / "clips" / call_id


def index_of(out: Path) -> Path:
    """The page to open."""
    return out / "reports" / "index.html"


def are_current(out: Path, window: Window) -> bool:
    """Whether the pages are those of this window and of what is published."""
    try:
        told = json.loads(_note(out).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return bool(told == _shown(out, window)) and index_of(out).exists()


def write_pages(out: Path, settings: Settings, window: Window, *, earliest: datetime, now: datetime) -> None:
    """Write the pages, then note what they show: until then they count as out of date.

    ``earliest`` is the start of the earliest call that the run analysed: calls whose files came late lie
    before the window, and the report shows them too.
    """
    from reports.build import build_reports

    shown = _shown(out, window)
    build_reports(
        out / DATABASE_NAME,
        index_of(out).parent,
        settings=settings,
        window=Window(min(earliest, window.since), window.until),
        now=now,
        clips_dir=index_of(out).parent / "clips",
    )
    write_whole(_note(out), json.dumps(shown) + "\n", mode=0o600)


# Of the newest run that wrote pages: not one that was killed, held back (8), or found nothing (4).
_NEWEST = """
SELECT epoch_us(r.since_at), epoch_us(r.until_at), epoch_us(coalesce(min(c.started_at), r.since_at))
FROM base.runs r LEFT JOIN base.analyses a USING (run_id) LEFT JOIN base.calls c USING (call_id)
WHERE r.exit_code NOT IN (4, 8) GROUP BY r.run_id, r.since_at, r.until_at ORDER BY r.run_id DESC LIMIT 1
"""


def rewrite_pages(out: Path, settings: Settings, store: Store, *, now: datetime) -> None:
    """Write the pages of the newest run once more, if there are any: what is published has changed."""
    newest = store.connection.execute(_NEWEST).fetchall()
    if newest and index_of(out).exists():
        since, until, earliest = (datetime.fromtimestamp(us / 1e6, UTC) for us in newest[0])
        write_pages(out, settings, Window(since, until), earliest=earliest, now=now)


def _shown(out: Path, window: Window) -> dict[str, object]:
    """What the pages of a run are made of."""
    published_ns = (out / DATABASE_NAME).stat().st_mtime_ns
    return {"since": window.since.isoformat(), "published_ns": published_ns}


def _note(out: Path) -> Path:
    return out / ".work" / "reported.json"
