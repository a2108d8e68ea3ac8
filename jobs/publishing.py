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
from callanalytics.store import Store
from callanalytics.workspace import Workspace, make_private_dir, write_whole


def write_clips(workspace: Workspace, call: CallRows) -> None:
    """Put the clips of a call beside the report; each is there whole or not at all."""
    folder = _clips_of(workspace, call.recording.call_id)
    for clip in call.clips:
        make_private_dir(folder)
        target = folder / clip.name
        partial = target.with_suffix(".tmp")
        partial.write_bytes(clip.content)
        partial.chmod(0o600)
        partial.replace(target)


def remove_clips(workspace: Workspace, call_ids: Iterable[str]) -> None:
    """Remove the clips of calls that are no longer there."""
    for call_id in call_ids:
        shutil.rmtree(_clips_of(workspace, call_id), ignore_errors=True)


def kept_clips(workspace: Workspace, call: CallAnalysis) -> tuple[Clip, ...]:
    """The clips of a flagged call's moments that lie beside the report from an earlier analysis.

    A clip is named after the start of its moment, so that one of the same name plays the same place.
    """
    folder = _clips_of(workspace, call.recording.call_id)
    found = call.assessment
    moments = {m.clip_name: m for e in found.escalations for m in e.evidence} if found.flagged else {}
    return tuple(
        Clip(name, moment.start_s, moment.end_s, (folder / name).read_bytes())
        for name, moment in moments.items()
        if (folder / name).is_file()
    )


def _clips_of(workspace: Workspace, call_id: str) -> Path:
    return workspace.clips / call_id


def index_of(workspace: Workspace) -> Path:
    """The page to open."""
    return workspace.report_index


@dataclass(frozen=True, slots=True)
class Drawn:
    """What the pages show: a window, that begins before what was asked for where files came late."""

    window: Window
    asked_since: datetime


def are_current(workspace: Workspace, window: Window) -> bool:
    """Whether the pages are those of this window and of what is published."""
    try:
        told, shown = _told(workspace), _shown(workspace, window.since)
        return all(told[name] == value for name, value in shown.items()) and workspace.report_index.exists()
    except (OSError, ValueError, TypeError, KeyError):
        return False


def write_pages(
    workspace: Workspace, settings: Settings, window: Window, *, earliest: datetime, now: datetime
) -> None:
    """Write the pages, then note what they show: until then they count as out of date.

    ``earliest`` is the start of the earliest call that the run analysed: calls whose files came late lie
    before the window, and the report shows them too.
    """
    window_drawn = Window(min(earliest, window.since), window.until)
    _draw(workspace, settings, Drawn(window_drawn, window.since), now)


def last_drawn(workspace: Workspace, store: Store) -> Drawn | None:
    """What the pages show, as they note; without a note, what the newest run must have drawn."""
    try:
        told = _told(workspace)
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


def are_noted(workspace: Workspace) -> bool:
    """Whether the pages are whole: nobody was about to write them anew and did not finish."""
    return _note(workspace).exists()


def mark_out_of_date(workspace: Workspace) -> None:
    """The pages no longer show what is published, until they are written again."""
    _note(workspace).unlink(missing_ok=True)


def write_pages_again(
    workspace: Workspace, settings: Settings, drawn: Drawn | None, *, now: datetime
) -> None:
    """The same pages of what is published now, if there are any."""
    if drawn is not None and workspace.report_index.exists():
        _draw(workspace, settings, drawn, now)


def _draw(workspace: Workspace, settings: Settings, drawn: Drawn, now: datetime) -> None:
    from reports.outputs.folder import build_reports

    shown = {
        **_shown(workspace, drawn.asked_since),
        "drawn_since": drawn.window.since.isoformat(),
        "until": drawn.window.until.isoformat(),
    }
    build_reports(
        workspace.database,
        workspace.report_index.parent,
        settings=settings,
        window=drawn.window,
        now=now,
        clips_dir=workspace.report_index.parent / "clips",
    )
    write_whole(_note(workspace), json.dumps(shown) + "\n")


def _shown(workspace: Workspace, since: datetime) -> dict[str, object]:
    """What makes the pages of a run others."""
    return {"since": since.isoformat(), "published_ns": workspace.database.stat().st_mtime_ns}


def _told(workspace: Workspace) -> Any:
    return json.loads(_note(workspace).read_text(encoding="utf-8"))


def _note(workspace: Workspace) -> Path:
    return workspace.reported
