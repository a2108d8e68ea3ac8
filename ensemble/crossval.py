"""Cross-validation by speaker: the figures published work is compared with.

Each fold trains every member from scratch on the other folds' speakers for a
fixed number of epochs (nothing is chosen on the test speakers) and votes on
its own. A random split exists only for comparison with work that used one,
and every result says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip
from ensemble.evaluation.metrics import interval_by_speaker, measures
from ensemble.inference.card import read_card, trained_on
from ensemble.inference.device import prepare_device
from ensemble.inference.vote import calibrate_mean, count_votes, softmax
from ensemble.members import make_member
from ensemble.model_errors import CorpusError, LeakError
from ensemble.training import (
    Examples,
    Listened,
    Progress,
    TrainSettings,
    normalised,
    predict_logits,
    prepare,
    start_of,
    train_member,
)

Int = NDArray[np.int64]


def crossval(
    clips: Sequence[Clip],
    folds: Sequence[Sequence[str]],
    settings: TrainSettings,
    *,
    folder: Path,
    cache: Path,
    split: Literal["speaker", "random"] = "speaker",
    lines: Sequence[str] = ("clean", "telephone"),
    start: Path | None = None,
    say: Callable[[Progress | Listened], None] = lambda _: None,
) -> dict[str, Any]:
    """Pooled test results over ``folds`` (each the test speakers of one fold), JSON-ready.

    ``out[line][known]`` has WA, UAR, macro-F1 and confusion over all test
    clips, intervals by speaker, UAR per fold, and each member's UAR. ``start``
    is the folder of an ensemble that each fold begins from, trained on other
    corpora; one that has heard any of these is refused. ``split`` "random" draws
    the clips of as many folds by chance: speakers leak, and ``out["split"]``
    says so. Goes on after a kill. Raises LeakError, CorpusError, TrainingError,
    DeviceMissing.
    """
    prepare_device(settings.device)
    everyone = frozenset(clip.speaker for clip in clips)
    named = [s for fold in folds for s in fold]
    if len(named) != len(set(named)) or not set(named) <= everyone:
        raise CorpusError("the folds name a speaker twice, or one that has no clip; check them")
    if start is not None:
        corpora = trained_on(read_card(start))
        if not corpora or corpora & {clip.corpus for clip in clips}:
            told = ", ".join(sorted(corpora)) or "corpora that its card does not name"
            raise LeakError(f"{start} was trained on {told}: it knows the test speakers")
    guesses: dict[tuple[str, str], list[tuple[Int, NDArray[np.float32]]]] = {}
    examples = None
    for number, fold in enumerate(folds):
        # A random split draws clips, not speakers: then everybody is in training.
        test_speakers = frozenset(fold) if split == "speaker" else frozenset()
        # No babble: a fold's test voices must not be heard in training, and the hearings are shared.
        examples = prepare(clips, everyone - test_speakers, settings, cache, babblers=frozenset(), say=say)
        if split == "speaker":
            _refuse_silent(folds, examples)
            training, test = examples.of(everyone - test_speakers), examples.of(test_speakers)
        else:
            drawn = np.random.default_rng(settings.seed).permutation(len(examples.clips)) % len(folds)
            training, test = np.flatnonzero(drawn != number), np.flatnonzero(drawn == number)
        part = folder / f"fold-{number}"
        for key, rows in _fold(examples, training, test, settings, part, lines, start, say):
            guesses.setdefault(key, []).append((test, rows))
    if examples is None:
        raise CorpusError("cross-validation needs at least one fold")
    out: dict[str, Any] = {
        "split": "by speaker" if split == "speaker" else "RANDOM: speakers are in training and test",
        "labels": list(settings.labels),
        "n_folds": len(folds),
        "seed": settings.seed,
        "sample_rate_hz": settings.front.sample_rate_hz,
        "speaker_norm": settings.speaker_norm,
        "begun_from": str(read_card(start).get("ensemble_id")) if start else None,
    }
    for (line, known), parts in guesses.items():
        out.setdefault(line, {})[known] = _pooled(examples, parts, settings)
    (folder / "crossval.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return out


def _refuse_silent(folds: Sequence[Sequence[str]], examples: Examples) -> None:
    for fold in folds:
        if not len(examples.of(frozenset(fold))):
            raise CorpusError(
                f"no clip of {', '.join(fold)} can be used, so that their fold tests nothing: "
                "mend the clips or leave these speakers out"
            )


def _fold(
    examples: Examples,
    training: Int,
    test: Int,
    settings: TrainSettings,
    folder: Path,
    lines: Sequence[str],
    start: Path | None,
    say: Callable[[Progress | Listened], None],
) -> list[tuple[tuple[str, str], NDArray[np.float32]]]:
    """Member probabilities (m, n, k) of the test clips for each line and knowledge of the speaker."""
    from safetensors.torch import load_file

    nobody = np.zeros(0, dtype=np.int64)
    models = []
    for name in settings.members:
        begin = start_of(start, name) if start else None
        weights = train_member(name, examples, training, nobody, settings, folder / name, say, start=begin)
        model = make_member(name.partition("-")[0], settings.front.n_mels, len(settings.labels))
        model.load_state_dict(load_file(weights))
        models.append(model)
    rows = []
    for line in lines:
        for known in ("clip", "speaker", "calm"):
            mels = normalised(examples, examples.hearing(line), test, known, settings)
            rows.append(((line, known), np.stack([softmax(predict_logits(m, mels)) for m in models])))
    return rows


def _pooled(
    examples: Examples, parts: Sequence[tuple[Int, NDArray[np.float32]]], settings: TrainSettings
) -> dict[str, Any]:
    indices = np.concatenate([test for test, _ in parts])
    probabilities = np.concatenate([rows for _, rows in parts], axis=1)
    truth = examples.truth[indices]
    top, _, _ = count_votes(probabilities, calibrate_mean(probabilities, 1.0))
    speakers = [examples.clips[i].speaker for i in indices]
    fold_of = np.repeat(np.arange(len(parts)), [len(test) for test, _ in parts])
    return {
        **measures(truth, top, settings.labels),
        "interval_95": interval_by_speaker(truth, top, speakers),
        "uar_per_fold": [
            measures(truth[fold_of == f], top[fold_of == f], settings.labels)["uar"]
            for f in range(len(parts))
        ],
        "member_uar": {
            name: measures(truth, rows.argmax(axis=1).astype(np.int64), settings.labels)["uar"]
            for name, rows in zip(settings.members, probabilities, strict=True)
        },
        "soft_uar": measures(truth, probabilities.mean(axis=0).argmax(axis=1), settings.labels)["uar"],
    }


def fold_table(result: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Heading and one row per condition: the vote, its folds, its members; percent."""
    members = list(next(_conditions(result))[2]["member_uar"])
    head = ["line", "speaker known by", "n", "WA", "UAR", "95 %", "per fold", *members, "soft"]
    rows = [
        [
            line,
            known,
            str(r["n"]),
            _percent(r["wa"]),
            _percent(r["uar"]),
            "-".join(map(_percent, r["interval_95"]["uar"] or ())) or "-",
            " ".join(map(_percent, r["uar_per_fold"])),
            *(_percent(r["member_uar"][m]) for m in members),
            _percent(r["soft_uar"]),
        ]
        for line, known, r in _conditions(result)
    ]
    return head, rows


def median_table(results: Sequence[Mapping[str, Any]]) -> tuple[list[str], list[list[str]]]:
    """Median and range over seeds of the vote's WA and UAR; percent."""
    rows = []
    for line, known, _ in _conditions(results[0]):
        each = [[r[line][known][measure] for r in results] for measure in ("wa", "uar")]
        spread = f"{_percent(min(each[1]))}-{_percent(max(each[1]))}"
        rows.append([line, known, *(_percent(float(np.median(values))) for values in each), spread])
    return ["line", "speaker known by", "WA", "UAR", "UAR range"], rows


def _conditions(result: Mapping[str, Any]) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
    for line, by_known in result.items():
        if isinstance(by_known, Mapping):
            for known, found in by_known.items():
                yield line, known, found


def _percent(share: float) -> str:
    return f"{100 * share:.1f}"
