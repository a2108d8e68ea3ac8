"""Apply the rules of config.toml to calls that other rules judged, without inference."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

from callanalytics.analysis.assess import assess
from callanalytics.analysis.call import CallAnalysis, cut_again
from callanalytics.config import Settings
from callanalytics.config.window import parse_stored_window
from callanalytics.errors import RecordingError
from callanalytics.ingest.locate import locate
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.records.text import counted, display_text
from callanalytics.store import Store, open_locked
from callanalytics.store.reader import known_places, read_analyses
from callanalytics.store.rule_sets import (
    JudgedAnalysis,
    judged_otherwise,
    judged_the_same,
    n_judged,
    note_rules,
    write_assessments,
)
from callanalytics.workspace import Workspace
from jobs.night import OnProgress, quiet
from jobs.night.limits import StopWatch
from jobs.publishing import kept_clips, show, write_clips

CHUNK_CALLS = 256  # read, judged and committed at a time


@dataclass(frozen=True, slots=True)
class ChangedCall:
    """A call whose flag or reasons are others now. `path` is its file by its name for people."""

    call_id: str
    path: str
    started_at: datetime
    flagged: bool
    reasons: tuple[str, ...]
    reasons_before: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rejudged:
    """What judging again did, or with `dry_run` would do."""

    rules_id: str
    since: datetime
    until: datetime
    n_calls: int  # judged again, of those that people see
    n_already: int  # judged by these rules before
    came: tuple[ChangedCall, ...]  # flagged now and not before
    went: tuple[ChangedCall, ...]  # flagged before and not now
    reworded: tuple[ChangedCall, ...]  # flag as before, other reasons
    n_without_clips: int  # newly flagged whose recording is gone
    dry_run: bool
    published: bool  # not while the gate holds a night back, nor in a dry run
    exit_code: int
    wall_s: float

    def to_json(self) -> dict[str, object]:
        """The object that `rejudge --json` prints."""
        calls = {
            name: [
                {**asdict(call), "started_at": call.started_at.isoformat()} for call in getattr(self, name)
            ]
            for name in ("came", "went", "reworded")
        }
        return {**asdict(self), "since": self.since.isoformat(), "until": self.until.isoformat(), **calls}


def rejudge(
    settings: Settings,
    workspace: Workspace,
    *,
    since: str | None = None,
    until: str | None = None,
    dry_run: bool = False,
    now: datetime | None = None,
    on_progress: OnProgress = quiet,
) -> Rejudged:
    """Apply `[[rule]]` and `[frustration]` to stored calls, publish, and write the pages again.

    The result is that of a forced run with these settings on the same recordings: measures, curve, flags,
    reasons and moments follow from what is stored. Other tables of config.toml (`[emotion]`, `[segments]`,
    `[audio]`) are about what was heard, and only a run can apply them. Clips of newly flagged calls are cut
    from their recordings where these are still there. Calls that these rules judged before are left, so
    that doing it again changes nothing and an interrupted one goes on. Analyses by ensembles that are not
    shown are judged too.

    Args:
        since: Start of the window of calls, as in `run --since`; None for all.
        until: Its end, exclusive; None for none: a clock that was set back leaves no call out.
        dry_run: Say what would change and write nothing.

    Raises:
        UsageError: no results here, or a window that says no time.
        LockHeld: a run is at work.
        StoreError, ReportError: results cannot be written.
    """
    started = time.monotonic()
    now = now or datetime.now(UTC)
    window = parse_stored_window(since, until, zone=settings.time.zone_info, now=now)
    workspace.require_results("judge again")
    rule_set = settings.rule_set
    with open_locked(workspace) as store:
        n_already = n_judged(store, window, rule_set.rules_id)
        same = judged_the_same(store, window, settings)
        todo = [
            before
            for before in judged_otherwise(store, window, rule_set.rules_id)
            if before.analysis_key not in same
        ]
        work = _Rejudging(settings, store, dry_run, n_calls=sum(same.values()))
        on_progress("judge", 0, len(todo), "")
        with StopWatch() as watch:
            if same and not dry_run:
                note_rules(store, list(same), rule_set)
            n_seen = 0
            while n_seen < len(todo) and not watch.requested():
                chunk = todo[n_seen : n_seen + CHUNK_CALLS]
                work.judge(chunk)
                n_seen += len(chunk)
                on_progress("judge", n_seen, len(todo), "")
            exit_code = watch.exit_code(len(todo) - n_seen) or 0
        published = not dry_run  # what is there is shown, where nothing has changed
        if not dry_run and (same or n_seen or store.unpublished):
            on_progress("publish", 0, 0, "")
            published = show(store, settings, now=now)
    return Rejudged(
        rules_id=rule_set.rules_id,
        since=window.since,
        until=window.until,
        n_calls=work.n_calls,
        n_already=n_already,
        came=tuple(work.came),
        went=tuple(work.went),
        reworded=tuple(work.reworded),
        n_without_clips=work.n_without_clips,
        dry_run=dry_run,
        published=published,
        exit_code=exit_code,
        wall_s=round(time.monotonic() - started, 3),
    )


@dataclass(slots=True)
class _Rejudging:
    """Judging again in progress: the only writer of its output folder."""

    settings: Settings
    store: Store
    dry_run: bool
    n_calls: int = 0
    n_without_clips: int = 0
    came: list[ChangedCall] = field(default_factory=list)
    went: list[ChangedCall] = field(default_factory=list)
    reworded: list[ChangedCall] = field(default_factory=list)

    def judge(self, chunk: Sequence[JudgedAnalysis]) -> None:
        """Assess some analyses, note what changes and commit them in one transaction."""
        calls = read_analyses(self.store, [before.analysis_key for before in chunk], opinions=False)
        judged = {}
        for before in chunk:
            call = calls[before.analysis_key]
            found = assess(
                call.audio.duration_s,
                call.speech,
                call.segments,
                call.features,
                call.votes,
                self.settings,
                call.words,
            )
            judged[before.analysis_key] = self._noted(before, replace(call, assessment=found))
        if not self.dry_run:
            write_assessments(self.store, judged)

    def _noted(self, before: JudgedAnalysis, call: CallAnalysis) -> CallAnalysis:
        """The call with its clips, after its change is noted where people see it."""
        flagged = call.assessment.flagged
        reasons = tuple(display_text(found.reason) for found in call.assessment.escalations)
        kept = replace(call, clips=kept_clips(self.store.workspace, call))
        if not before.visible:
            return kept
        self.n_calls += 1
        if (flagged, reasons) == (before.flagged, before.reasons):
            return kept
        changed = ChangedCall(
            call.recording.call_id,
            call.recording.shown,
            call.facts.started_at,
            flagged,
            reasons,
            before.reasons,
        )
        if flagged == before.flagged:
            self.reworded.append(changed)
        else:
            (self.came if flagged else self.went).append(changed)
        return self._with_clips(kept) if flagged and not self.dry_run else kept

    def _with_clips(self, kept: CallAnalysis) -> CallAnalysis:
        """The call with clips cut from its recording; those that are kept when it is gone."""
        stored = kept.recording
        places = known_places(self.store, [stored.recording_id]).get(stored.recording_id)
        salt = load_or_make_salt(self.store.workspace.folder / self.settings.privacy.salt_file)
        shown = tuple(map(str, stored.paths))
        try:
            paths = locate(stored.recording_id, shown, salt, self.settings.audio, places)
            cut = cut_again(replace(kept, recording=replace(stored, paths=paths)), self.settings)
        except RecordingError:
            self.n_without_clips += not kept.clips
            return kept
        write_clips(self.store.workspace, cut)
        return replace(cut, recording=stored)


def render_rejudged(done: Rejudged) -> str:
    """Which flags come and go, and why, as lines for a person."""
    would = "would be " if done.dry_run else ""
    lines = [
        f"{counted(done.n_calls, 'call')} {would}judged by the rules of config.toml"
        f" ({done.n_already:,} {'is' if done.n_already == 1 else 'are'} already):"
        f" {len(done.came):,} newly flagged, {len(done.went):,} no longer flagged,"
        f" {len(done.reworded):,} with other reasons."
    ]
    for what, calls in (
        ("Newly flagged", done.came),
        ("No longer flagged", done.went),
        ("Other reasons", done.reworded),
    ):
        lines += [f"{what}:"] if calls else []
        for call in calls[:MAX_NAMED]:
            why = call.reasons if call.flagged or call.reasons else call.reasons_before
            was = "" if call.flagged or call.reasons else "was: "
            lines.append(f"  {call.call_id}  {call.path}  {was}{'; '.join(why) or 'no reason left'}")
        lines += [f"  and {len(calls) - MAX_NAMED:,} more; all with --json"] if len(calls) > MAX_NAMED else []
    if done.n_without_clips:
        calls_text = counted(done.n_without_clips, "call")
        lines.append(f"{calls_text} newly flagged without clips: the recording is gone.")
    if done.dry_run:
        lines.append("Nothing was written: leave --dry-run out to apply the rules.")
    return "\n".join(lines)


MAX_NAMED = 20
