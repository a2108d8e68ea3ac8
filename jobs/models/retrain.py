"""Retraining: corpora and reviewed calls in, a decision out. Nothing is promoted that is not clearly better.

    collect -> hold out test speakers -> train -> compare on the same test -> keep in the registry
            -> shadow-score last week -> promote or keep

Who tests is held out before training sees anything (`material`). Run again with the same data and settings
after a kill, and it goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.config import RetrainSettings, Settings
from callanalytics.errors import CallAnalyticsError, LockHeld, StoreError
from callanalytics.workspace import Workspace, file_lock, make_private_dir, write_whole
from ensemble.corpora import Corpus, clips_hash
from ensemble.evaluation.paired import Difference, compare_on
from ensemble.inference.card import known_speakers
from ensemble.inference.ensemble import Ensemble, load_ensemble
from jobs.active_ensemble import in_use, refuse_where_fixed, registry
from jobs.models.training_split import Material, check, collect, divide

if TYPE_CHECKING:
    from ensemble.training import Extracted, Progress, TrainSettings

SHADOW_SINCE = "7d"
N_CHANGES_SHOWN = 10
TRAINED = "trained"  # the file that says so


@dataclass(frozen=True, slots=True)
class Retrained:
    """What came of a retraining; `to_json` is a line of the history."""

    at: str
    key: str
    current_id: str
    candidate_id: str
    promoted: bool
    words: str
    margin: float
    tests: tuple[Difference, ...]
    n_training_clips: int
    n_training_speakers: int
    corpora: dict[str, int]
    shadow: dict[str, Any] | None
    card: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def decide(plan: RetrainSettings, tests: Sequence[Difference]) -> tuple[bool, str]:
    """Promote? And why, in words. The first test decides, no other may be clearly worse.

    Better means by `margin` or more, with a 95 % interval that excludes zero; the order is reviewed calls
    first, where they have speakers enough, since they are what the night hears.
    """
    usable = [test for test in tests if test.enough]
    if not usable:
        return False, "kept: no test has speakers enough to tell the two apart"
    first, *others = usable
    told = (
        f"{first.test}: UAR {first.uar_a:.1%} -> {first.uar_b:.1%}, difference {first.difference:+.1%} "
        f"[{first.low:+.1%}, {first.high:+.1%}] on {first.n_clips} clips of {first.n_speakers} speakers"
    )
    if first.low <= 0 or first.difference < plan.margin:
        return False, f"kept: not better by {plan.margin:.1%} with an interval above zero. {told}"
    for other in others:
        if other.high < 0:
            return False, f"kept: better, but clearly worse on {other.test} ({other.difference:+.1%}). {told}"
    return True, f"promoted. {told}"


def retrain(
    settings: Settings,
    workspace: Workspace,
    corpora: Sequence[Corpus],
    training: TrainSettings,
    *,
    plan: RetrainSettings,
    shadow: bool = True,
    now: datetime | None = None,
    on_news: Callable[[Progress | Extracted], None] = lambda _: None,
    say: Callable[[str], None] = lambda _: None,
) -> Retrained:
    """Train on the corpora, compare with the ensemble in use, and promote only what is clearly better.

    With `plan.reviewed` and `plan.consent` it learns from reviewed calls too. Every candidate is kept in the
    registry, promoted or not, and every decision in OUT/training/history.jsonl. The same data and settings
    again give the decision made before.

    Raises:
        UsageError: the ensemble is fixed by [emotion] ensemble, so that promoting would change nothing; no
            consent for reviewed calls, none reviewed, or nothing else to train on.
        LockHeld: another retraining is at work, or a run, which reviewed calls cannot be cut beside.
        StoreError: what was decided before cannot be read.
        ensemble.errors.EnsembleError: too little data, or training failed.
    """
    from ensemble.train_ensemble import train_from_corpora

    refuse_where_fixed(settings, "let retraining promote")
    check(workspace, corpora, reviewed=plan.reviewed, consent=plan.consent)
    work = workspace.training.folder
    make_private_dir(work)
    with file_lock(workspace.training.retrain_lock_file):
        corpora = collect(settings, workspace, corpora, reviewed=plan.reviewed, consent=plan.consent)
        current = load_ensemble(in_use(settings, workspace))
        material = divide(corpora, training.labels)
        key = _key(material, training, current, plan.start)
        folder = work / f"retrain-{key}"
        if (done := _decision(folder, plan.margin)) is not None:
            say(f"Nothing new since {done.at}: the same data and settings.")
            return done
        clips = [clip for corpus in material.train for clip in corpus.clips]
        n_training = len({c.speaker for c in clips} - material.validation)
        say(
            f"{n_training} speakers train, {len(material.validation)} validate, "
            f"{len({c.speaker for c in (*material.test, *material.own_test)})} test"
        )
        made = folder / "run" / "ensemble"
        if not (folder / TRAINED).exists():
            made = train_from_corpora(
                material.train,
                material.validation,
                training,
                folder=folder / "run",
                cache=workspace.training.cache,
                start=in_use(settings, workspace) if plan.start == "in_use" else None,
                licence=plan.licence,
                note=f"Retrained beside {current.ensemble_id}.",
                say=on_news,
            )
            (folder / TRAINED).touch()
        candidate = load_ensemble(made)
        tests = _tests(current, candidate, material)
        for test in tests:
            say(f"{test.test}: UAR {test.uar_a:.1%} -> {test.uar_b:.1%} [{test.low:+.1%}, {test.high:+.1%}]")
        promote, words = decide(plan, tests)
        words += _heard_before(current, material)
        kept = registry(workspace)
        candidate_id = kept.add(made)
        told = _shadow(settings, workspace, current, candidate_id, say) if shadow else None
        if promote:
            # Judged here, on a test that both took; the registry compares headlines of different tests.
            kept.promote(candidate_id, force=True, note=words)
        result = Retrained(
            at=(now or datetime.now(UTC)).isoformat(timespec="seconds"),
            key=key,
            current_id=current.ensemble_id,
            candidate_id=candidate_id,
            promoted=promote,
            words=words,
            margin=plan.margin,
            tests=tests,
            n_training_clips=len(clips),
            n_training_speakers=n_training,
            corpora={corpus.name: len(corpus.clips) for corpus in corpora},
            shadow=told,
            card=str(kept.folder(candidate_id) / "model-card.html"),
        )
        _remember(workspace, folder, result)
    return result


def _key(material: Material, training: TrainSettings, current: Ensemble, start: str) -> str:
    """What a training depends on: the clips, the settings, the ensemble to beat and where it starts."""
    clips = [clip for corpus in material.train for clip in corpus.clips]
    told = [clips_hash(clips), clips_hash([*material.test, *material.own_test]), current.ensemble_id, start]
    whole = json.dumps(
        [*told, asdict(replace(training, n_threads=0, device=""))], default=str, sort_keys=True
    )
    return hashlib.sha256(whole.encode()).hexdigest()[:12]


def _tests(current: Ensemble, candidate: Ensemble, material: Material) -> tuple[Difference, ...]:
    """Both ensembles on the same clips: reviewed calls as they are, corpora over the telephone."""
    tests = []
    if material.own_test:
        tests.append(compare_on("reviewed calls", current, candidate, material.own_test, "clean"))
    if material.test:
        tests.append(compare_on("corpora over the telephone", current, candidate, material.test, "telephone"))
    return tuple(tests)


def _heard_before(current: Ensemble, material: Material) -> str:
    """A warning where the ensemble in use may have been trained on the test speakers."""
    tested = frozenset(clip.speaker for clip in (*material.test, *material.own_test))
    if not (heard := known_speakers(current.card, tested)):
        return ""
    return (
        f". The ensemble in use was trained on {len(heard)} of {len(tested)} test speakers, which flatters it"
    )


def _shadow(
    settings: Settings, workspace: Workspace, current: Ensemble, candidate_id: str, say: Callable[[str], None]
) -> dict[str, Any] | None:
    """Let the candidate vote on last week, unseen, and tell which escalations would change.

    What is kept are numbers: the history outlives the calls.
    """
    from jobs.models.backfill import backfill
    from jobs.models.compare import compare_ensembles

    if candidate_id == current.ensemble_id or not workspace.database.exists():
        return None
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


def _remember(workspace: Workspace, folder: Path, result: Retrained) -> None:
    line = json.dumps(result.to_json())
    with workspace.training.history.open("a", encoding="utf-8") as history:
        history.write(line + "\n")
    write_whole(folder / "decision.json", line + "\n")
    for big in ("members", "balanced"):  # what training needed to go on
        shutil.rmtree(folder / "run" / big, ignore_errors=True)


def _decision(folder: Path, margin: float) -> Retrained | None:
    """What was decided on this training by that margin, if anything was. Raises StoreError when torn."""
    path = folder / "decision.json"
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        if told["margin"] != margin:
            return None
        return Retrained(**{**told, "tests": tuple(Difference(**test) for test in told["tests"])})
    except FileNotFoundError:
        return None
    except OSError as problem:
        raise StoreError(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None
    except (ValueError, KeyError, TypeError) as problem:
        raise StoreError(
            f"{path}: expected the decision of a retraining, found none ({problem}). Remove the file: "
            "the same retraining then judges again, without training again."
        ) from None


def read_history(workspace: Workspace) -> list[dict[str, Any]]:
    """Every retraining of an output folder and what was decided, oldest first. Raises StoreError."""
    path = workspace.training.history
    try:
        lines = path.read_bytes().splitlines()
    except FileNotFoundError:
        return []
    except OSError as problem:
        raise StoreError(f"{path}: cannot be read ({problem.strerror}). Check its permissions.") from None
    return [_row(path, number, line) for number, line in enumerate(lines, start=1) if line]


def _row(path: Path, number: int, line: bytes) -> dict[str, Any]:
    """A line of the history. Raises StoreError when it is none."""
    try:
        row: dict[str, Any] = json.loads(line)
        if not isinstance(row, dict) or not {"at", "candidate_id", "words"} <= set(row):
            raise ValueError("at, candidate_id and words are missing")
    except ValueError as problem:
        raise StoreError(
            f"{path}, line {number}: expected a retraining, found none ({problem}). Remove that line: "
            "decisions are also kept beside each training, in decision.json."
        ) from None
    return row
