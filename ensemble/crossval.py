"""Cross-validation by speaker: the figures published work is compared with.

Each fold trains every member from scratch on the other folds' speakers for a fixed number of epochs (nothing
is chosen on the test speakers) and votes on its own. A random split exists only for comparison with work that
used one, and every result says so.

:func:`crossval_heads` trains only the heads of each fold, on bodies that stay as they are: what they pool is
extracted once. A body that was trained on the corpus of the test is left out, and the result says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip
from ensemble.corpora.speakers import refuse_untrained
from ensemble.evaluation import SPEAKER_STATISTICS, interval_by_speaker, measures
from ensemble.evaluation.model_card import Row, Table, interval, percent
from ensemble.inference.card import read_card, trained_on
from ensemble.inference.device import prepare_device
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.inference.vote import Rule, calibrate_mean, count_votes, softmax
from ensemble.members import VOICE_MEMBER, load_member
from ensemble.model_errors import CorpusError, LeakError, TrainingError
from ensemble.training import Examples, News, TrainSettings, prepare, train_member
from ensemble.training.calibration import normalised, predict_logits, unweighted_recall
from ensemble.training.checkpoint import start_of
from ensemble.training.fit_heads import HeadSettings, fit_centred, fit_own_head
from ensemble.training.pooled_features import VIEWS, Features, pooled_features, voice_head
from ensemble.training.teachers import taught

Float = NDArray[np.float32]
Int = NDArray[np.int64]
WAYS = (*SPEAKER_STATISTICS, "mean")
"""How heads may know a speaker. ``mean``: minus the mean of all the speaker's clips, by heads trained for it.
Others' figures are often of this kind. In calls it is of no use, and it is not shipped."""


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
        raise TrainingError(
            f"{VOICE_MEMBER} has no body to train in folds: leave it out of --members, or give --heads"
        )
    everyone = _everyone(clips, folds)
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
        examples = taught(examples, settings.teachers, training_speakers, cache, say)
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


def _everyone(clips: Sequence[Clip], folds: Sequence[Sequence[str]]) -> frozenset[str]:
    """All speakers of the clips, once the folds are found to be of them."""
    everyone = frozenset(clip.speaker for clip in clips)
    named = [s for fold in folds for s in fold]
    if not named or len(named) != len(set(named)) or not set(named) <= everyone:
        raise CorpusError("the folds name nobody, a speaker twice, or one that has no clip; check them")
    return everyone


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
    nobody, size = np.zeros(0, dtype=np.int64), (settings.front.n_mels, len(settings.labels))
    members = []
    for name in settings.members:
        begin = start_of(start, name) if start else None
        weights = train_member(name, examples, training, nobody, settings, folder / name, say, start=begin)
        members.append(load_member(weights, name, *size))
    return members


def crossval_heads(
    clips: Sequence[Clip],
    folds: Sequence[Sequence[str]],
    settings: TrainSettings,
    *,
    start: Path,
    folder: Path,
    cache: Path,
    members: Sequence[str] | None = None,
    conditions: Sequence[str] = VIEWS,
    say: Callable[[News], None] = lambda _: None,
) -> dict[str, Any]:
    """Train and test the heads of every fold on the frozen bodies of the ensemble in ``start``.

    Each fold has new heads for every member: one for a clip alone, that sees what the body pools as it is,
    and a centred one. They are trained and they vote as the shipped ones do, by the rule and the weights of
    ``start``. Labels may be others than those of ``start``. What a body knows of other corpora is no part of
    a fold; what it may know of the tested one is refused.

    Args:
        clips: All clips, with labels of the settings. Speakers that no fold names are always trained on.
        folds: Test speakers of each fold.
        settings: Labels and seed.
        start: The ensemble whose bodies are used.
        folder: Gets ``crossval.json``.
        cache: Folder of spectrograms and features.
        members: Those of ``start`` that vote; None: all.
        conditions: Of VIEWS.
        say: Called with the progress.

    Returns:
        As :func:`crossval`, by WAYS, with ``heads_of``, ``left_out`` and ``beside``: the ensemble, members
        that were trained on the corpus of the test, and corpora that were only trained on.

    Raises:
        CorpusError: when the folds are not of these clips, or one has no usable clip.
        LeakError: when every body may know the test speakers.
        TrainingError: when there is no neutral speech to be centred on, or a label nobody is trained on.
    """
    everyone = _everyone(clips, folds)
    tested = {clip.corpus for clip in clips if any(clip.speaker in fold for fold in folds)}
    if "neutral" not in settings.labels:
        raise TrainingError("heads are centred on neutral speech, and it is not among the labels")
    bodies, left_out = _unknowing(load_ensemble(start), tested, members)
    if left_out:
        say(f"Left out, since they were trained on {', '.join(sorted(tested))}: {', '.join(left_out)}")
    settings = replace(settings, front=bodies.front, n_augmented=0, n_coded=0, speaker_norm=True)
    examples = prepare(clips, everyone, settings, cache, babble_speakers=frozenset(), say=say)
    _refuse_silent(folds, examples)
    own = voice_head(start, bodies)

    def pooled(name: str, each_alone: bool) -> Features:
        there = (examples.clips, examples.view(name), name, examples.voices)
        return pooled_features(bodies, own, *there, cache, say, each_alone=each_alone)

    by_speaker, alone = ([pooled(name, each_alone) for name in VIEWS] for each_alone in (False, True))
    pool = _Pool(examples, bodies, by_speaker, alone, settings)
    tests: list[Int] = []
    votes: dict[tuple[str, str], list[Float]] = {}
    for number, fold in enumerate(folds):
        say(f"Training the heads of fold {number + 1} of {len(folds)} ...")
        training, test = examples.of(everyone - frozenset(fold)), examples.of(frozenset(fold))
        refuse_untrained(settings.labels, [examples.clips[i] for i in training])
        tests.append(test)
        for key, rows in pool.votes_of_fold(training, test, conditions).items():
            votes.setdefault(key, []).append(rows)
    out: dict[str, Any] = {
        "split": "by speaker",
        "labels": list(settings.labels),
        "n_folds": len(folds),
        "seed": settings.seed,
        "sample_rate_hz": settings.front.sample_rate_hz,
        "speaker_norm": True,
        "begun_from": None,
        "heads_of": bodies.ensemble_id,
        "left_out": left_out,
        "beside": sorted({clip.corpus for clip in clips} - tested),
    }
    settings = replace(settings, members=bodies.member_names)
    for (condition, known), parts in votes.items():
        out.setdefault(condition, {})[known] = _pooled(
            examples, tests, parts, settings, bodies.rule, bodies.weights
        )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "crossval.json").write_text(json.dumps(out, indent=1) + "\n", encoding="utf-8")
    return out


def _unknowing(
    ensemble: Ensemble, tested: set[str], members: Sequence[str] | None
) -> tuple[Ensemble, list[str]]:
    """The members whose bodies were not trained on the corpora of the test, and the names of the others.

    The voice network was trained by others, to tell speakers apart, so that it always stays.
    """
    wanted = ensemble.member_names if members is None else members
    if strange := [name for name in wanted if name not in ensemble.member_names]:
        raise TrainingError(
            f"ensemble {ensemble.ensemble_id} has no member {', '.join(strange)}; it has "
            f"{', '.join(ensemble.member_names)}"
        )
    corpora = trained_on(ensemble.card)
    knows = not corpora or bool(corpora & tested)
    kept = [
        m
        for m, name in enumerate(ensemble.member_names)
        if name in wanted and (ensemble.on_voice[m] or not knows)
    ]
    if not kept:
        names = ", ".join(sorted(corpora)) or "corpora that its card does not name"
        raise LeakError(f"ensemble {ensemble.ensemble_id} was trained on {names}: it knows the test speakers")
    entries: Any = ensemble.card["members"]
    narrowed = replace(
        ensemble,
        member_names=tuple(ensemble.member_names[m] for m in kept),
        card={**ensemble.card, "members": [entries[m] for m in kept]},
        weights=ensemble.weights[kept],
        members=tuple(ensemble.members[m] for m in kept),
        on_voice=tuple(ensemble.on_voice[m] for m in kept),
        heads=None,
    )
    return narrowed, [name for name in wanted if name not in narrowed.member_names]


@dataclass(frozen=True, slots=True)
class _Pool:
    """What frozen bodies pool of all clips, in the order of VIEWS: by the speaker's clips, and each alone."""

    examples: Examples
    bodies: Ensemble
    by_speaker: Sequence[Features]
    alone: Sequence[Features]
    settings: TrainSettings

    def votes_of_fold(
        self, training: Int, test: Int, conditions: Sequence[str]
    ) -> dict[tuple[str, str], Float]:
        """Softmax (m, n, k) of new heads for the test clips, by condition and way."""
        labels = self.settings.labels
        settings, neutral = HeadSettings(seed=self.settings.seed), labels.index("neutral")
        truth = self.examples.truth
        twice = np.tile(truth[training], len(VIEWS))
        own: list[list[Float]] = [[] for _ in VIEWS]
        for m, is_voice in enumerate(self.bodies.on_voice):
            x = np.concatenate([view.pooled[m][training] for view in self.alone])
            decay = settings.voice_decay if is_voice else settings.decay
            weight, bias = fit_own_head(x, twice, decay, len(labels))
            for view, answers in zip(self.alone, own, strict=True):
                answers.append(softmax(view.pooled[m] @ weight.T + bias))
        # How calm a clip is, is told by the clip alone.
        known = [replace(view, alone=np.stack(rows)) for view, rows in zip(self.by_speaker, own, strict=True)]
        fitted = [
            fit_centred(
                *(known, (), truth, training, (len(labels), neutral), self.bodies.on_voice, settings),
                against_all=against_all,
            )
            for against_all in (False, True)
        ]
        voices = [self.examples.clips[i].speaker for i in test]
        told = {"speaker": None, "calm": truth[test] == neutral, "mean": np.ones(len(test), dtype=bool)}
        found = {}
        for condition in conditions:
            view = known[VIEWS.index(condition)]
            found[condition, "clip"] = view.alone[:, test]
            likely = view.alone[:, test, neutral].mean(axis=0, dtype=np.float64)
            for way, calm in told.items():
                heads = fitted[way == "mean"]
                offsets = [heads.offsets(m, pooled[test]) for m, pooled in enumerate(view.pooled)]
                stacked = np.stack(offsets).astype(np.float64)
                logits, centred = heads.centre(stacked, view.seconds[test], likely, voices, calm)
                found[condition, way] = np.where(centred[None, :, None], softmax(logits), view.alone[:, test])
        return found


def _pooled(
    examples: Examples,
    tested: Sequence[Int],
    parts: Sequence[Float],
    settings: TrainSettings,
    rule: Rule = "majority",
    weights: NDArray[np.float64] | None = None,
) -> dict[str, Any]:
    """Scores over the clips of all folds; ``parts`` are member probabilities (m, n, k) of each fold."""
    indices, probabilities = np.concatenate(tested), np.concatenate(parts, axis=1)
    truth = examples.truth[indices]
    each = weights if rule == "weighted" else None
    mean = calibrate_mean(probabilities, 1.0, each)
    top, _, _ = count_votes(probabilities, mean, rule, each)
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
        "soft_uar": unweighted_recall(truth, mean.argmax(axis=1)),
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
