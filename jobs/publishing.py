"""The report of a run: clips as calls are committed, pages when they no longer show what is published."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.records import CallRows, Clip
from callanalytics.store import DATABASE_NAME, Store
from callanalytics.store.open import make_private_dir
from callanalytics.workspace import write_whole


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
    found = call.assessment
    moments = {m.clip_name: m for e in found.escalations for m in e.evidence} if found.flagged else {}
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


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the pages show: a window, that begins before what was asked for where files came late."""

    window: Window
    asked_since: datetime


def are_current(out: Path, window: Window) -> bool:
    """Whether the pages are those of this window and of what is published."""
    try:
        told, shown = _told(out), _shown(out, window.since)
        return all(told[name] == value for name, value in shown.items()) and index_of(out).exists()
    except (OSError, ValueError, TypeError, KeyError):
        return False


def write_pages(out: Path, settings: Settings, window: Window, *, earliest: datetime, now: datetime) -> None:
    """Write the pages, then note what they show: until then they count as out of date.

    ``earliest`` is the start of the earliest call that the run analysed: calls whose files came late lie
    before the window, and the report shows them too.
    """
    window_drawn = Window(min(earliest, window.since), window.until)
    _draw(out, settings, Drawn(window_drawn, window.since), now)


def last_drawn(out: Path, store: Store) -> Drawn | None:
    """What the pages show, as they note; without a note, what the newest run must have drawn."""
    try:
        told = _told(out)
        since, until = (datetime.fromisoformat(told[name]) for name in ("drawn_since", "until"))
        return Drawn(Window(since, until), datetime.fromisoformat(told["since"]))
    except (OSError, ValueError, TypeError, KeyError):  # none, or of an earlier version
        return _drawn_by_newest_run(store)


# Also one that a signal, a limit or its budget cut short, but not one that was killed, held back (8), or
# left the pages as they were since it found nothing (4).
_NEWEST = """
SELECT epoch_us(least(r.since_at, min(c.started_at))), epoch_us(r.until_at), epoch_us(r.since_at)
FROM base.runs r LEFT JOIN base.analyses a USING (run_id) LEFT JOIN base.calls c USING (call_id)
WHERE r.exit_code NOT IN (4, 8) GROUP BY r.run_id, r.since_at, r.until_at ORDER BY r.run_id DESC LIMIT 1
"""


def _drawn_by_newest_run(store: Store) -> Drawn | None:
    for row in store.rows(_NEWEST):
        since, until, asked_since = (datetime.fromtimestamp(us / 1e6, UTC) for us in row)
        return Drawn(Window(since, until), asked_since)
    return None


def are_noted(out: Path) -> bool:
    """Whether the pages are whole: nobody was about to write them anew and did not finish."""
    return _note(out).exists()


def mark_out_of_date(out: Path) -> None:
    """The pages no longer show what is published, until they are written again."""
    _note(out).unlink(missing_ok=True)


def write_pages_again(out: Path, settings: Settings, drawn: Drawn | None, *, now: datetime) -> None:
    """The same pages of what is published now, if there are any."""
    if drawn is not None and index_of(out).exists():
        _draw(out, settings, drawn, now)


def _draw(out: Path, settings: Settings, drawn: Drawn, now: datetime) -> None:
    from reports.outputs.folder import build_reports

    shown = {
        **_shown(out, drawn.asked_since),
        "drawn_since": drawn.window.since.isoformat(),
        "until": drawn.window.until.isoformat(),
    }
    build_reports(
        out / DATABASE_NAME,
        index_of(out).parent,
        settings=settings,
        window=drawn.window,
        now=now,
        clips_dir=index_of(out).parent / "clips",
    )
    write_whole(_note(out), json.dumps(shown) + "\n", mode=0o600)


def _shown(out: Path, since: datetime) -> dict[str, object]:
    """What makes the pages of a run others."""
    return {"since": since.isoformat(), "published_ns": (out / DATABASE_NAME).stat().st_mtime_ns}


def _told(out: Path) -> Any:
    return json.loads(_note(out).read_text(encoding="utf-8"))


def _note(out: Path) -> Path:
    return out / ".work" / "reported.json"
