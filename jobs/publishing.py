"""What people see of the results: clips beside the report, its pages, and publishing unless the gate holds.

A run writes clips before the rows that name them, publishes the database, then writes the pages. A note in
the work folder says which window the pages show and of which published file; without the note they count as
out of date.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from threading import Thread
from typing import Any

from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.contrast import N_NEAR, is_control
from callanalytics.audio.clips import CONTRAST_NAMES
from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.errors import StoreError
from callanalytics.records import CallRows, Clip
from callanalytics.store import Store, publish
from callanalytics.store.query import Published
from callanalytics.workspace import Workspace, make_private_dir, write_whole

# Also a run that a signal, a limit or its budget cut short, but not one that was killed, held back (8), or
# left the pages as they were since nothing was in its window.
NEWEST_RUN = """
SELECT epoch_us(least(r.since_at, min(c.started_at))), epoch_us(r.until_at), epoch_us(r.since_at)
FROM base.runs r LEFT JOIN base.analyses a USING (run_id) LEFT JOIN base.calls c USING (call_id)
WHERE r.exit_code NOT IN (4, 8) AND (r.n_found > 0 OR EXISTS
    (FROM base.calls k WHERE k.started_at >= r.since_at AND k.started_at < r.until_at))
GROUP BY r.run_id, r.since_at, r.until_at ORDER BY r.run_id DESC LIMIT 1
"""


def write_clips(workspace: Workspace, call: CallRows | CallAnalysis) -> None:
    """Put the clips of a call beside the report; each is there whole or not at all.

    A contrast clip of an earlier analysis goes: it is of what was found then.

    Raises:
        StoreError: the output folder is no longer there. Making it anew would leave voices where no purge
            looks for them.
        OSError: a clip cannot be written.
    """
    if not workspace.work_database.exists():
        raise StoreError(
            f"{workspace.folder}: the output folder was moved or removed while this job was at work. Put it "
            "back where it was and run again: what was committed is in it."
        )
    folder = workspace.clips_of(call.recording.call_id)
    if not any(clip.name in CONTRAST_NAMES for clip in call.clips):
        remove_contrast(workspace, call.recording.call_id)
    for clip in call.clips:
        make_private_dir(folder)
        write_whole(folder / clip.name, clip.content)


def remove_clips(workspace: Workspace, call_ids: Iterable[str]) -> None:
    """Remove the clips of calls that are no longer there."""
    for call_id in call_ids:
        shutil.rmtree(workspace.clips_of(call_id), ignore_errors=True)


def remove_contrast(workspace: Workspace, call_id: str) -> None:
    """Remove the contrast clip of a call, and its folder where nothing else is in it."""
    folder = workspace.clips_of(call_id)
    for name in CONTRAST_NAMES:
        (folder / name).unlink(missing_ok=True)
    with suppress(OSError):  # holds other clips, or is not there
        folder.rmdir()


_UNFLAGGED = "FROM call_summary WHERE NOT flagged AND started_at >= ? AND started_at < ?"


def keep_nearest(store: Store, window: Window) -> None:
    """Only the `N_NEAR` calls of a window that are nearest below the rule keep a contrast clip, and controls.

    Which they are is known when all of a night is analysed, and a clip is made while a call is decoded.
    """
    with_clips = [folder.name for folder in _folders_in(store.workspace.clips)]  # few of a long window
    sql = f"SELECT call_id {_UNFLAGGED} AND call_id IN (SELECT unnest(?::VARCHAR[]))"
    rows = store.rows(sql, [window.since, window.until, with_clips]) if with_clips else []
    unflagged = [call_id for (call_id,) in rows if not is_control(call_id)]
    nearest = _nearest(store, window) if unflagged else ()
    for call_id in unflagged:
        if call_id not in nearest:
            remove_contrast(store.workspace, call_id)


def _nearest(store: Store, window: Window) -> list[str]:
    """The `N_NEAR` calls that are unflagged and no control, the nearest to the rule first."""
    order = "ORDER BY frustration_score DESC NULLS LAST, call_id LIMIT ?"
    n_asked = 4 * N_NEAR  # few are controls
    while True:
        rows = store.rows(f"SELECT call_id {_UNFLAGGED} {order}", [window.since, window.until, n_asked])
        found = [call_id for (call_id,) in rows if not is_control(call_id)][:N_NEAR]
        if len(found) == N_NEAR or len(rows) < n_asked:
            return found
        n_asked *= 4


def unnamed_clips(store: Store) -> list[Path]:
    """Folders of clips whose call is in no row, published or not: of a run that was killed before it
    committed them, or before it removed those of an earlier version."""
    parent = store.workspace.clips
    folders = {path.name: path for path in _folders_in(parent)}
    sql = "SELECT call_id FROM base.calls WHERE call_id IN (SELECT unnest(?::VARCHAR[]))"
    for (call_id,) in store.rows(sql, [list(folders)]) if folders else ():
        del folders[call_id]
    if folders and store.workspace.database.exists():
        try:
            with Published(store.workspace.database) as published:
                for (call_id,) in published.connection.execute(sql, [list(folders)]).fetchall():
                    del folders[call_id]
        except StoreError:  # damaged: what it names is not known, and the next run publishes it anew
            return []
    return list(folders.values())


def _folders_in(parent: Path) -> list[Path]:
    """A link in place of a folder is not followed."""
    if not parent.is_dir():
        return []
    return [path for path in parent.iterdir() if path.is_dir() and not path.is_symlink()]


def kept_clips(workspace: Workspace, call: CallAnalysis) -> tuple[Clip, ...]:
    """The clips of a flagged call's moments that lie beside the report from an earlier analysis.

    A clip is named after the start of its moment, so that one of the same name plays the same place.
    """
    folder, found = workspace.clips_of(call.recording.call_id), call.assessment
    moments = {m.clip_name: m for e in found.escalations for m in e.evidence} if found.flagged else {}
    return tuple(
        Clip(name, moment.start_s, moment.end_s, (folder / name).read_bytes())
        for name, moment in moments.items()
        if (folder / name).is_file()
    )


def load_ahead() -> None:
    """Load what writes pages in a thread: while the workers analyse, this process waits.

    What fails there fails again, with its message, when pages are written.
    """

    def load() -> None:
        with suppress(Exception):
            import_module("reports.outputs.folder")
            import_module("reports.render").load_templates()
            import_module("reports.formatting").day(datetime.now(UTC))  # how the locale writes dates

    Thread(target=load, daemon=True).start()


@dataclass(frozen=True, slots=True)
class ReportWindow:
    """What the pages show: a window that begins before what was asked for where files came late."""

    window: Window
    asked_since: datetime


class Pages:
    """The report of a workspace, and the note of what it shows."""

    def __init__(self, workspace: Workspace, settings: Settings) -> None:
        self.workspace = workspace
        self.settings = settings

    def are_current(self, window: Window) -> bool:
        """Whether the pages are those of this window and of what is published."""
        try:
            noted, now = self._noted(), self._state(window.since)
            return self.workspace.report_index.exists() and all(noted[k] == v for k, v in now.items())
        except (OSError, ValueError, TypeError, KeyError):
            return False

    @property
    def are_whole(self) -> bool:
        """Whether nobody was about to write them anew and did not finish."""
        return self.workspace.reported.exists()

    def mark_out_of_date(self) -> None:
        """They no longer show what is published, until they are written again."""
        self.workspace.reported.unlink(missing_ok=True)

    def window(self, store: Store) -> ReportWindow | None:
        """What they show, as noted; without a note, what the newest run must have written."""
        try:
            noted = self._noted()
            since, until, asked = (
                datetime.fromisoformat(noted[name]) for name in ("drawn_since", "until", "since")
            )
            return ReportWindow(Window(since, until), asked)
        except (OSError, ValueError, TypeError, KeyError):  # none, or of an earlier version
            for row in store.rows(NEWEST_RUN):
                since, until, asked = (datetime.fromtimestamp(us / 1e6, UTC) for us in row)
                return ReportWindow(Window(since, until), asked)
        return None

    def write(self, shown: ReportWindow, *, now: datetime) -> None:
        """Write them, then note what they show. Raises ReportError, StoreError, OSError."""
        from reports.outputs.folder import build_reports

        state = self._state(shown.asked_since)
        build_reports(
            self.workspace.database,
            self.workspace.reports,
            settings=self.settings,
            window=shown.window,
            now=now,
            clips_dir=self.workspace.clips,
        )
        note = {
            **state,
            "drawn_since": shown.window.since.isoformat(),
            "until": shown.window.until.isoformat(),
        }
        write_whole(self.workspace.reported, json.dumps(note) + "\n")

    def write_again(self, shown: ReportWindow | None, *, now: datetime) -> None:
        """The same pages of what is published now, if there are any."""
        if shown is not None and self.workspace.report_index.exists():
            self.write(shown, now=now)

    def _state(self, since: datetime) -> dict[str, object]:
        """What makes the pages of a run others: the window asked for and the published file."""
        published_ns = self.workspace.database.stat().st_mtime_ns
        return {"since": since.isoformat(), "published_ns": published_ns}

    def _noted(self) -> Any:
        return json.loads(self.workspace.reported.read_text(encoding="utf-8"))


def show(store: Store, settings: Settings, *, now: datetime, pages: bool = True) -> bool:
    """Publish a change to earlier calls and write the pages again; False while the gate holds a night back.

    What the gate holds back must not get out with the change: then all of it waits in the working database.
    """
    if store.workspace.held:
        return False
    publish(store)
    if pages:
        report = Pages(store.workspace, settings)
        report.write_again(report.window(store), now=now)
    return True
