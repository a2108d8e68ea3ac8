"""Cross-validation by speaker: the figures published work is compared with.

Each fold trains every member from scratch on the other folds' speakers for a fixed number of epochs (nothing
is chosen on the test speakers) and votes on its own. A random split exists only for comparison with work that
used one, and every result says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip
from ensemble.evaluation import SPEAKER_STATISTICS, interval_by_speaker, measures
from ensemble.evaluation.model_card import Row, Table, interval, percent
from ensemble.inference.card import read_card, trained_on
from ensemble.inference.device import prepare_device
from ensemble.inference.vote import calibrate_mean, count_votes, softmax
from ensemble.members import VOICE_MEMBER, load_member
from ensemble.model_errors import CorpusError, LeakError, TrainingError
from ensemble.training import Examples, News, TrainSettings, prepare, train_member
from ensemble.training.calibration import normalised, predict_logits, unweighted_recall
from ensemble.training.checkpoint import start_of

Float = NDArray[np.float32]
Int = NDArray[np.int64]


def crossval(
    clips: Sequence[Clip],
    folds: Sequence[Sequence[str]],
    settings: TrainSettings,
    *,
    folder: Path,
    cache: Path,
    split: Literal["speaker", "random"] = "speaker",
    conditions: Sequence[str] = ("clean", "telephone"),
    start: Path | None = None,
    say: Callable[[News], None] = lambda _: None,
) -> dict[str, Any]:
    """Train and test every fold; goes on after a kill.

    Args:
        clips: All clips, with labels of the settings.
        folds: Test speakers of each fold.
        settings: How to train.
        folder: Gets the members of every fold and ``crossval.json``.
        cache: Folder of the spectrogram cache.
        split: ``random`` draws the clips of as many folds by chance: speakers leak, and ``out["split"]``
            says so.
        conditions: Channel conditions to test in.
        start: Folder of an ensemble that each fold begins from, trained on other corpora.
        say: Called with the progress.

    Returns:
        JSON-ready; ``out[condition][known]`` has WA, UAR, macro-F1 and confusion over all test clips,
        intervals by speaker, UAR per fold, and each member's UAR.

    Raises:
        CorpusError: when the folds are not of these clips, or one has no usable clip.
        LeakError: when ``start`` was trained on one of these corpora.
        TrainingError: when a training cannot start or go on.
        DeviceMissing: when torch does not see the device.
    """
    prepare_device(settings.device)
    if settings.trained != settings.members:
        raise TrainingError(f"{VOICE_MEMBER} has no body to train in folds: leave it out of --members")
    everyone = frozenset(clip.speaker for clip in clips)
    named = [s for fold in folds for s in fold]
    if not named or len(named) != len(set(named)) or not set(named) <= everyone:
        raise CorpusError("the folds name nobody, a speaker twice, or one that has no clip; check them")
    if start is not None:
        corpora = trained_on(read_card(start))
        if not corpora or corpora & {clip.corpus for clip in clips}:
            names = ", ".join(sorted(corpora)) or "corpora that its card does not name"
            raise LeakError(f"{start} was trained on {names}: it knows the test speakers")
    tested: list[Int] = []
    votes: dict[tuple[str, str], list[Float]] = {}
    for number, fold in enumerate(folds):
        # A random split draws clips, not speakers: then everybody is in training.
        test_speakers = frozenset(fold) if split == "speaker" else frozenset()
        training_speakers = everyone - test_speakers
        # No babble: all folds share the views, and no test voice of a fold may be part of its training.
        examples = prepare(clips, training_speakers, settings, cache, babble_speakers=frozenset(), say=say)
        if split == "speaker":
            _refuse_silent(folds, examples)
            training, test = examples.of(training_speakers), examples.of(test_speakers)
        else:
            fold_of = np.random.default_rng(settings.seed).permutation(len(examples.clips)) % len(folds)
            training, test = np.flatnonzero(fold_of != number), np.flatnonzero(fold_of == number)
        members = _train_fold(examples, training, settings, folder / f"fold-{number}", start, say)
        tested.append(test)
        for condition in conditions:
            for known in SPEAKER_STATISTICS:
                mels = normalised(examples, condition, test, known, settings)
                rows = np.stack([softmax(predict_logits(member, mels)) for member in members])
                votes.setdefault((condition, known), []).append(rows)
    out: dict[str, Any] = {
        "split": "by speaker" if split == "speaker" else "RANDOM: speakers are in training and test",
        "labels": list(settings.labels),
        "n_folds": len(folds),
        "seed": settings.seed,
        "sample_rate_hz": settings.front.sample_rate_hz,
        "speaker_norm": settings.speaker_norm,
        "begun_from": str(read_card(start).get("ensemble_id")) if start else None,
    }
    for (condition, known), parts in votes.items():
        out.setdefault(condition, {})[known] = _pooled(examples, tested, parts, settings)
    (folder / "crossval.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return out


def _refuse_silent(folds: Sequence[Sequence[str]], examples: Examples) -> None:
    for fold in folds:
        if not len(examples.of(frozenset(fold))):
            raise CorpusError(
                f"no clip of {', '.join(fold)} can be used, so that their fold tests nothing: "
                "repair the clips or leave these speakers out"
            )


def _train_fold(
    examples: Examples,
    training: Int,
    settings: TrainSettings,
    folder: Path,
    start: Path | None,
    say: Callable[[News], None],
) -> list[Any]:
    """The members of one fold, trained."""
    nobody = np.zeros(0, dtype=np.int64)
    size = (settings.front.n_mels, len(settings.labels))
    members = []
    for name in settings.members:
        begin = start_of(start, name) if start else None
        weights = train_member(name, examples, training, nobody, settings, folder / name, say, start=begin)
        members.append(load_member(weights, name, *size))
    return members


def _pooled(
    examples: Examples, tested: Sequence[Int], parts: Sequence[Float], settings: TrainSettings
) -> dict[str, Any]:
    """Scores over the clips of all folds; ``parts`` are member probabilities (m, n, k) of each fold."""
    indices, probabilities = np.concatenate(tested), np.concatenate(parts, axis=1)
    truth = examples.truth[indices]
    top, _, _ = count_votes(probabilities, calibrate_mean(probabilities, 1.0))
    speakers = [examples.clips[i].speaker for i in indices]
    ends = np.cumsum([len(test) for test in tested])[:-1]
    choices = probabilities.argmax(axis=2)
    return {
        **measures(truth, top, settings.labels),
        "interval_95": interval_by_speaker(truth, top, speakers),
        "uar_per_fold": [
            unweighted_recall(*part) for part in zip(np.split(truth, ends), np.split(top, ends), strict=True)
        ],
        "member_uar": {
            name: unweighted_recall(truth, choice)
            for name, choice in zip(settings.members, choices, strict=True)
        },
        "soft_uar": unweighted_recall(truth, probabilities.mean(axis=0).argmax(axis=1)),
    }


def fold_table(result: Mapping[str, Any]) -> Table:
    """The vote, its folds and its members, one row per channel condition and speaker statistics; percent."""
    members = list(next(_reports(result))[2]["member_uar"])
    head = ("condition", "speaker known by", "n", "WA", "UAR", "95 %", "per fold", *members, "soft")
    return head, [
        (
            *(condition, known, str(r["n"]), percent(r["wa"]), percent(r["uar"])),
            *(interval(r["interval_95"]["uar"]), " ".join(map(percent, r["uar_per_fold"]))),
            *(percent(r["member_uar"][m]) for m in members),
            percent(r["soft_uar"]),
        )
        for condition, known, r in _reports(result)
    ]


def median_table(results: Sequence[Mapping[str, Any]]) -> Table:
    """Median and range over seeds of the vote's WA and UAR; percent."""
    rows: list[Row] = []
    for condition, known, _ in _reports(results[0]):
        was, uars = ([r[condition][known][measure] for r in results] for measure in ("wa", "uar"))
        medians = (percent(float(np.median(values))) for values in (was, uars))
        rows.append((condition, known, *medians, interval((min(uars), max(uars)))))
    return ("condition", "speaker known by", "WA", "UAR", "UAR range"), rows


def _reports(result: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for condition, by_known in result.items():
        if isinstance(by_known, Mapping):
            for known, found in by_known.items():
                yield condition, known, found
