"""Retraining: corpora and reviewed calls in, a decision out. Nothing is promoted that is not clearly better.

    collect -> hold out test speakers -> train -> compare on the same test -> keep in the registry
            -> shadow-score last week -> promote or keep

Test speakers are held out before training begins (`splits`). Run again with the same data and
settings after a kill, and it goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.config import RetrainSettings, Settings
from callanalytics.errors import CallAnalyticsError, LockHeld, StoreError
from callanalytics.workspace import TrainingFolder, Workspace, file_lock, make_private_dir, write_whole
from ensemble.corpora import Clip, Corpus, clips_hash
from ensemble.evaluation.paired import Difference, compare_on
from ensemble.inference.card import known_speakers
from ensemble.inference.ensemble import Ensemble, load_ensemble
from jobs.active_ensemble import in_use, refuse_where_fixed, registry
from jobs.models.ordinary import ordinary_talk
from jobs.models.splits import TrainingSplit, collect, require_corpora, split_speakers

if TYPE_CHECKING:
    from ensemble.training import News, TrainSettings

SHADOW_SINCE = "7d"
N_CHANGES_SHOWN = 10
TRAINED = "trained"  # the file that says so
DECISION = "decision.json"


@dataclass(frozen=True, slots=True)
class Retrained:
    """What came of a retraining; `to_json` is a line of the history."""

    at: str
    key: str
    current_id: str
    candidate_id: str
    promoted: bool
    reason: str
    margin: float
    tests: tuple[Difference, ...]
    n_training_clips: int
    n_training_speakers: int
    corpora: dict[str, int]
    shadow: dict[str, int] | None
    card: str

    def to_json(self) -> dict[str, Any]:
        """Plain values; there `reason` is called `words`."""
        return {"words" if name == "reason" else name: value for name, value in asdict(self).items()}


def decide(margin: float, tests: Sequence[Difference]) -> tuple[bool, str]:
    """Promote? And why, as text. The first test decides, no other may be clearly worse.

    Better means by `margin` or more, with a 95 % interval that excludes zero; the order is reviewed calls
    first, where they have speakers enough, since they are what the night classifies.
    """
    usable = [test for test in tests if test.enough]
    if not usable:
        return False, "kept: no test has speakers enough to tell the two apart"
    first, *others = usable
    found = (
        f"{first.test}: UAR {first.uar_a:.1%} -> {first.uar_b:.1%}, difference {first.difference:+.1%} "
        f"[{first.low:+.1%}, {first.high:+.1%}] on {first.n_clips} clips of {first.n_speakers} speakers"
    )
    if first.low <= 0 or first.difference < margin:
        return False, f"kept: not better by {margin:.1%} with an interval above zero. {found}"
    for other in others:
        if other.high < 0:
            worse = f"{other.test} ({other.difference:+.1%})"
            return False, f"kept: better, but clearly worse on {worse}. {found}"
    return True, f"promoted. {found}"


def retrain(
    settings: Settings,
    workspace: Workspace,
    corpora: Sequence[Corpus],
    training: TrainSettings,
    *,
    plan: RetrainSettings,
    shadow: bool = True,
    now: datetime | None = None,
    on_news: Callable[[News], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Retrained:
    """Train on the corpora, compare with the ensemble in use, and promote only what is clearly better.

    With `plan.reviewed` and `plan.consent` it learns from reviewed calls too. Every candidate is kept in the
    registry, promoted or not, and every decision in OUT/training/history.jsonl. The same data and settings
    again give the decision made before.

    Args:
        training: How to train.
        plan: What to learn from, and when the result is put to use.
        shadow: Also score last week's calls with the candidate.
        on_news: Called with the progress of the training.
        say: Called with lines for a person.

    Raises:
        UsageError: the ensemble is fixed by [emotion] ensemble, so that promoting would change nothing; no
            consent for reviewed calls, none reviewed, or nothing else to train on.
        LockHeld: another retraining is at work, or a run, which reviewed calls cannot be cut beside.
        StoreError: what was decided before cannot be read.
        ensemble.model_errors.EnsembleError: too little data, or training failed.
    """
    from ensemble.train_ensemble import train_from_corpora, train_heads

    refuse_where_fixed(settings, "let retraining promote")
    require_corpora(workspace, corpora, plan)
    make_private_dir(workspace.training.folder)
    with file_lock(workspace.training.retrain_lock_file):
        finished = _finish_decided(workspace, say)
        corpora = collect(settings, workspace, corpora, plan)
        current_folder = in_use(settings, workspace)
        current = load_ensemble(current_folder)
        split = split_speakers(corpora, training.labels)
        places = [settings.folder / path for path in plan.ordinary]
        ordinary = ordinary_talk(places, settings, workspace, consent=plan.consent, say=say)
        key_against = partial(_key, split, ordinary, training, "heads" if plan.only_heads else plan.start)
        for decided in finished:
            if decided.key == key_against(decided.current_id):  # what was asked for
                return decided
        key = key_against(current.ensemble_id)
        folder = workspace.training.folder / f"retrain-{key}"
        run = TrainingFolder(folder).run
        if (done := _decision(folder, plan.margin)) is not None:
            say(f"Nothing new since {done.at}: the same data and settings.")
            return done
        n_training, n_test = len(split.training_speakers), len(split.test_speakers)
        say(f"{n_training} speakers train, {len(split.validation)} validate, {n_test} test")
        made = run / "ensemble"
        if (folder / TRAINED).exists():
            say("Trained before on the same data: compares and decides.")
        elif run.exists() and any(run.iterdir()):
            say("Goes on with a retraining of the same data that was interrupted.")
        if not (folder / TRAINED).exists():
            run.mkdir(parents=True, exist_ok=True)
            more: dict[str, Any] = {
                "folder": run,
                "cache": workspace.training.cache,
                "licence": plan.licence,
                "note": f"Retrained beside {current.ensemble_id}.",
                "ordinary": ordinary,
                "say": on_news,
            }
            if plan.only_heads:
                say(
                    f"Learns the centred heads on the bodies of {current.ensemble_id}; --no-heads trains all."
                )
                made = train_heads(split.train, split.validation, training, start=current_folder, **more)
            else:
                start = current_folder if plan.start == "in_use" else None
                made = train_from_corpora(split.train, split.validation, training, start=start, **more)
            (folder / TRAINED).touch()
        tests = _tests(current, load_ensemble(made), split)
        for test in tests:
            say(f"{test.test}: UAR {test.uar_a:.1%} -> {test.uar_b:.1%} [{test.low:+.1%}, {test.high:+.1%}]")
        promote, reason = decide(plan.margin, tests)
        reason += _warning_of_known_speakers(current, split)
        kept = registry(workspace)
        candidate_id = kept.add(made)
        scored = shadow and candidate_id != current.ensemble_id and workspace.database.exists()
        changes = _score_last_week(settings, workspace, current, candidate_id, say) if scored else None
        result = Retrained(
            at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
            key=key,
            current_id=current.ensemble_id,
            candidate_id=candidate_id,
            promoted=promote,
            reason=reason,
            margin=plan.margin,
            tests=tests,
            n_training_clips=len(split.training_clips),
            n_training_speakers=n_training,
            corpora={corpus.name: len(corpus.clips) for corpus in corpora},
            shadow=changes,
            card=str(kept.folder(candidate_id) / "model-card.html"),
        )
        write_whole(folder / DECISION, json.dumps(result.to_json()) + "\n", durable=True)
        _carry_out(workspace, result)
    return result


def _key(
    split: TrainingSplit, ordinary: Sequence[Clip], training: TrainSettings, start: str, current_id: str
) -> str:
    """What a training depends on: the clips, the settings, the ensemble to beat and where it starts."""
    clips = [clips_hash(split.training_clips), clips_hash([*split.test, *split.reviewed_test])]
    if ordinary:
        clips.append(clips_hash(ordinary))
    # The same decision follows with any number of threads and on any device.
    same = asdict(replace(training, n_threads=0, device=""))
    whole = json.dumps([*clips, current_id, start, same], default=str, sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def _tests(current: Ensemble, candidate: Ensemble, split: TrainingSplit) -> tuple[Difference, ...]:
    """Both ensembles on the same clips: reviewed calls as they are, corpora over the telephone."""
    tests = (
        ("reviewed calls", split.reviewed_test, "clean"),
        ("corpora over the telephone", split.test, "telephone"),
    )
    return tuple(
        compare_on(name, current, candidate, clips, condition) for name, clips, condition in tests if clips
    )


def _warning_of_known_speakers(current: Ensemble, split: TrainingSplit) -> str:
    """A sentence where the ensemble in use may have been trained on test speakers; else nothing."""
    tested = split.test_speakers
    if not (known := known_speakers(current.card, tested)):
        return ""
    return (
        f". The ensemble in use was trained on {len(known)} of {len(tested)} test speakers, which flatters it"
    )


def _score_last_week(
    settings: Settings, workspace: Workspace, current: Ensemble, candidate_id: str, say: Callable[[str], None]
) -> dict[str, int] | None:
    """Let the candidate vote on last week's calls, unseen, and say which flags would change.

    Returns:
        Counts only, since the history outlives the calls; None when the calls could not be scored.
    """
    from jobs.models.backfill import backfill
    from jobs.models.compare import compare_ensembles

    try:
        scored = backfill(settings, workspace, candidate_id, shadow=True, since=SHADOW_SINCE)
        if not scored.published:
            say("Last week was shadow-scored but not compared: the gate holds a night back.")
            return None
        found = compare_ensembles(workspace.database, current.ensemble_id, candidate_id)
    except LockHeld:
        say("Last week was not shadow-scored: a run is at work.")
        return None
    except CallAnalyticsError as problem:
        say(f"Last week could not be shadow-scored: {problem}")
        return None
    say(
        f"Last week, {found.n_calls} calls: {found.n_flagged_a} flagged now, {found.n_flagged_b} by the "
        f"candidate; {len(found.newly_flagged)} would be new, {len(found.no_longer_flagged)} would go."
    )
    for sign, changes in (("+", found.newly_flagged), ("-", found.no_longer_flagged)):
        for change in changes[:N_CHANGES_SHOWN]:
            say(f"  {sign} {change.call_id} {change.started_local}: {'; '.join(change.reasons)}")
    return {
        "n_calls": found.n_calls,
        "n_flagged": found.n_flagged_a,
        "n_flagged_by_candidate": found.n_flagged_b,
        "n_newly_flagged": len(found.newly_flagged),
        "n_no_longer_flagged": len(found.no_longer_flagged),
    }


def _carry_out(workspace: Workspace, decided: Retrained) -> None:
    """Promote, if that was decided, and note it in the history. A kill in between is made good by
    `_finish_decided`: the history comes last."""
    kept, history = registry(workspace), workspace.training.history
    wanted = (decided.candidate_id, decided.reason)
    if decided.promoted and wanted not in {(p.ensemble_id, p.note) for p in kept.history()[-1:]}:
        # Compared here, on a test that both took; the registry compares headlines of different tests.
        kept.promote(decided.candidate_id, force=True, note=decided.reason)
    line = json.dumps(decided.to_json()) + "\n"
    write_whole(history, b"".join(_whole_lines(_content(history))) + line.encode(), durable=True)
    run = TrainingFolder(workspace.training.folder / f"retrain-{decided.key}").run
    for big in ("members", "balanced"):  # what training needed to go on
        shutil.rmtree(run / big, ignore_errors=True)


def _finish_decided(workspace: Workspace, say: Callable[[str], None]) -> list[Retrained]:
    """Carry out decisions that are in no history: their retraining was killed in that moment."""
    finished = []
    known = {(row.get("key"), row["at"]) for row in read_history(workspace)}
    for path in sorted(workspace.training.folder.glob(f"retrain-*/{DECISION}")):
        with suppress(StoreError):  # whoever asks for that retraining again is told
            decided = _read_decision(path)
            if (decided.key, decided.at) not in known:
                say(f"Finishes the retraining of {decided.at}, interrupted when it had decided.")
                _carry_out(workspace, decided)
                finished.append(decided)
    return finished


def _content(path: Path) -> bytes:
    """A file's bytes, none when there is no file. Raises StoreError."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
    except OSError as problem:
        raise StoreError(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None


def _whole_lines(content: bytes) -> list[bytes]:
    """Lines with their ends, without the beginning of one that a full disk or a kill has cut."""
    return [line for line in content.splitlines(keepends=True) if line.endswith(b"\n")]


def _decision(folder: Path, margin: float) -> Retrained | None:
    """What was decided on this training by that margin, if anything was. Raises StoreError when torn."""
    path = folder / DECISION
    if not path.exists():
        return None
    decision = _read_decision(path)
    return decision if decision.margin == margin else None


def _read_decision(path: Path) -> Retrained:
    try:
        row = json.loads(_content(path))
        tests = tuple(Difference(**test) for test in row.pop("tests"))
        return Retrained(reason=row.pop("words"), tests=tests, **row)
    except (ValueError, KeyError, TypeError, AttributeError) as problem:
        raise StoreError(
            f"{path}: expected the decision of a retraining, found none ({problem}). Remove the file: "
            "the same retraining then decides again, without training again."
        ) from None


def read_history(workspace: Workspace) -> list[dict[str, Any]]:
    """Every retraining of an output folder and what was decided, oldest first. Raises StoreError."""
    path = workspace.training.history
    rows = []
    for number, line in enumerate(_whole_lines(_content(path)), start=1):
        try:
            row = json.loads(line) if line.strip() else None
            if row is not None and (
                not isinstance(row, dict) or not {"at", "candidate_id", "words"} <= set(row)
            ):
                raise ValueError("at, candidate_id and words are missing")
        except ValueError as problem:
            raise StoreError(
                f"{path}, line {number}: expected a retraining, found none ({problem}). Remove that line: "
                "decisions are also kept beside each training, in decision.json."
            ) from None
        rows += [row] if row else []
    return rows
