"""Training of centred heads: logistic regression on what frozen members pool, minus a drawn baseline.

The bodies stay as they are, so that this takes minutes: features of every view are extracted once and kept in
the cache, and an interrupted training goes on with those that are there. Baselines are drawn as calls give
them: the mean of 3 to 12 neutral clips of the speaker, in a quarter of the draws with a quarter of them
spoilt by other emotions. (The mean of all emotional clips scores best on acted corpora and calls nearly
nothing neutral in calls: benchmarks/RESULTS.md.) Ordinary talk counts as weakly neutral: its whole weight is
capped.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, usable_clips_cached
from ensemble.corpora.clip import content_key
from ensemble.inference.card import fingerprint, read_card
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.inference.spectrogram import voice_norm
from ensemble.inference.vote import SHRINK_S, CentredHeads, count_votes, save_heads, softmax
from ensemble.training.calibration import (
    choose_thresholds,
    expected_calibration_error,
    fit_temperature,
    unweighted_recall,
)
from ensemble.training.examples import Examples
from ensemble.training.spectrogram_cache import View, ViewCache, ViewSettings, standard_views

Float = NDArray[np.float32]
Int = NDArray[np.int64]

VIEWS = ("telephone", "clean")
"""Views in which the clips of a speaker share a channel, so that they say something of each other."""


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """How centred heads are trained; stored in the card."""

    decay: float = 0.02
    """L2 penalty of the regression, on features of deviation 1."""
    ordinary_share: float = 0.1
    """Weight of all ordinary talk together, against 1 of the labelled clips."""
    spoilt: float = 0.25
    """Share of baselines of which a quarter of the clips is not neutral."""
    seed: int = 1


@dataclass(frozen=True, slots=True)
class Features:
    """Pooled features (n, width) of each member in one view, seconds of speech (n,) and voices (n,)."""

    pooled: tuple[Float, ...]
    alone: Float
    """Members' own softmax, (m, n, k)."""
    seconds: NDArray[np.float64]
    voices: tuple[str, ...]


def fit_heads(
    folder: Path,
    examples: Examples,
    training: Int,
    validation: Int,
    *,
    cache: Path,
    settings: HeadSettings | None = None,
    ordinary: Sequence[Clip] = (),
    precision: float = 0.8,
    chosen: Mapping[str, Any] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> str | None:
    """Give the ensemble in ``folder`` centred heads and write them into its card; returns its new id.

    None, and nothing is changed, where there is nothing to be centred on: without neutral speech among the
    labels, or where every clip is normalised alone.

    Args:
        folder: The ensemble whose bodies are used.
        examples: Clips with their views.
        training: Indices of the clips to learn from.
        validation: Indices of the clips that choose temperature and thresholds.
        cache: Folder of the feature cache.
        settings: How to train.
        ordinary: Segments of unlabelled talk; ``speaker`` is one voice in one recording.
        precision: As of :func:`choose_thresholds`.
        chosen: Card of the same training without the validation speakers: its temperature and thresholds are
            taken where nobody is left to choose them.
        say: Called with lines for a person.
    """
    settings = settings or HeadSettings()
    ensemble = load_ensemble(folder)
    if "neutral" not in ensemble.labels or not ensemble.speaker_norm:
        return None
    neutral = ensemble.labels.index("neutral")
    views = [name for name in VIEWS if name in examples.names]
    known = [
        _features(ensemble, examples.clips, examples.view(v), v, examples.voices, cache, say) for v in views
    ]
    talk = _of_ordinary(ensemble, ordinary, views, cache, say) if len(ordinary) else []
    rows = _rows_by_voice(known[0].voices, training)
    calm = {voice: _calm_of(i, examples.truth, known[0], neutral) for voice, i in rows.items()}
    heads = _fit(ensemble, known, talk, examples.truth, rows, calm, settings)
    card = read_card(folder)
    if len(validation):
        heads, about = _calibrated(heads, ensemble, known[0], examples.truth, validation, precision)
        card |= about
        card["scores"]["headline"]["uar"] = about["centred"]["uar_speaker"]
    elif chosen is not None:
        heads = replace(heads, temperature=chosen["heads"]["temperature"])
        card |= {key: chosen[key] for key in ("thresholds", "centred", "scores")}
    path = save_heads(heads, ensemble.member_names, folder)
    card["heads"] = {
        "safetensors": path.name,
        "safetensors_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "temperature": heads.temperature,
        "calm_s": heads.calm_s,
        "shrink_s": heads.shrink_s,
    }
    card["ordinary_talk"] = {
        "n_segments": len(ordinary),
        "n_voices": len({clip.speaker for clip in ordinary}),
    }
    card["ensemble_id"] = fingerprint(card)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    return str(card["ensemble_id"])


def _fit(
    ensemble: Ensemble,
    known: Sequence[Features],
    talk: Sequence[Features],
    truth: Int,
    rows: dict[str, Int],
    calm: dict[str, Int],
    settings: HeadSettings,
) -> CentredHeads:
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(settings.seed)
    neutral = ensemble.labels.index("neutral")
    own = np.concatenate(list(rows.values()))
    origins = [known[0].pooled[m][own].mean(axis=0) for m in range(len(ensemble.members))]
    parts: list[list[Float]] = [[] for _ in ensemble.members]
    labels: list[Int] = []
    weights: list[NDArray[np.float64]] = []
    for view in known:
        for voice, i in rows.items():
            _append(parts, view, i, _drawn(calm[voice], i, settings.spoilt, rng), origins)
            labels.append(truth[i])
            weights.append(np.full(len(i), 1 / (len(own) * len(known))))
    n_talk = sum(len(view.seconds) for view in talk)
    for view in talk:
        for i in _rows_by_voice(view.voices, np.arange(len(view.seconds))).values():
            _append(parts, view, i, rng.permutation(i)[: int(rng.integers(2, 13))], origins)
            labels.append(np.full(len(i), neutral, dtype=np.int64))
            weights.append(np.full(len(i), settings.ordinary_share / n_talk))
    target, weight = np.concatenate(labels), np.concatenate(weights)
    found, biases = [], []
    for each in parts:
        x = np.concatenate(each)
        deviation = x.std(axis=0) + 1e-2
        model = LogisticRegression(C=1 / settings.decay, max_iter=300, tol=1e-4)
        model.fit(x / deviation, target, sample_weight=weight)
        matrix, bias = model.coef_, model.intercept_
        if len(matrix) < len(ensemble.labels):  # two labels are one row for the second of them
            matrix, bias = np.concatenate([-matrix, matrix]) / 2, np.concatenate([-bias, bias]) / 2
        found.append((matrix / deviation).astype(np.float32))
        biases.append(bias.astype(np.float32))
    return CentredHeads(tuple(found), tuple(origins), np.stack(biases), 1.0)


def _calm_of(rows: Int, truth: Int, view: Features, neutral: int) -> Int:
    """A speaker's neutral clips; where there are none, the half that the members find most neutral."""
    found: Int = rows[truth[rows] == neutral]
    if not len(found):
        likely = view.alone[:, rows, neutral].mean(axis=0)
        found = rows[np.argsort(-likely, kind="stable")][: -(-len(rows) // 2)]
    return found


def _drawn(calm: Int, rows: Int, spoilt: float, rng: np.random.Generator) -> Int:
    """Clips that make a baseline: 3 to 12 calm ones, sometimes a quarter of them others."""
    chosen: Int = rng.permutation(calm)[: int(rng.integers(3, 13))]
    if rng.random() < spoilt:
        n = max(1, len(chosen) // 4)
        chosen = np.concatenate([chosen[n:], rng.permutation(rows)[:n]])
    return chosen


def _append(
    parts: list[list[Float]], view: Features, rows: Int, reference: Int, origins: Sequence[Float]
) -> None:
    """Add a voice's centred features of each member."""
    n_s = float(view.seconds[reference].sum())
    for each, pooled, origin in zip(parts, view.pooled, origins, strict=True):
        baseline = (pooled[reference].mean(axis=0) - origin) * (n_s / (n_s + SHRINK_S))
        each.append((pooled[rows] - origin - baseline).astype(np.float32))


def _calibrated(
    heads: CentredHeads, ensemble: Ensemble, view: Features, truth: Int, validation: Int, precision: float
) -> tuple[CentredHeads, dict[str, Any]]:
    """Heads with their temperature; for the card the thresholds and the scores on validation, telephone."""
    neutral = ensemble.labels.index("neutral")
    offsets = np.stack([heads.offsets(m, pooled[validation]) for m, pooled in enumerate(view.pooled)])
    seconds, voices = view.seconds[validation], [view.voices[i] for i in validation]
    likely = view.alone[:, validation, neutral].mean(axis=0, dtype=np.float64)
    is_neutral = truth[validation] == neutral
    pooled = {
        how: softmax(heads.centre(offsets.astype(np.float64), seconds, likely, voices, calm)[0])
        for how, calm in (("speaker", None), ("calm", is_neutral))
    }
    both = np.concatenate(list(pooled.values()), axis=1)
    twice = np.tile(truth[validation], 2)
    temperature = fit_temperature(both, twice)
    thresholds = choose_thresholds(both, twice, temperature, precision)
    scores: dict[str, Any] = {"n_clips": len(validation)}
    for how, rows in pooled.items():
        mean = softmax(np.log(np.maximum(rows.mean(axis=0, dtype=np.float64), 1e-9)) / temperature)
        top, _, _ = count_votes(rows, mean)
        confidence = mean[np.arange(len(top)), top]
        scores[f"uar_{how}"] = unweighted_recall(truth[validation], top)
        scores[f"ece_{how}"] = expected_calibration_error(confidence, top == truth[validation])
    kept = {key: getattr(thresholds, key) for key in ("confidence", "agreement", "precision")}
    limits = {"shortest_s": ensemble.thresholds.shortest_s, "quietest_db": ensemble.thresholds.quietest_db}
    return replace(heads, temperature=temperature), {"thresholds": {**kept, **limits}, "centred": scores}


def _rows_by_voice(voices: Sequence[str], rows: Int) -> dict[str, Int]:
    found: dict[str, list[int]] = {}
    for i in rows.tolist():
        found.setdefault(voices[i], []).append(i)
    return {voice: np.array(own, dtype=np.int64) for voice, own in sorted(found.items())}


def _of_ordinary(
    ensemble: Ensemble, clips: Sequence[Clip], names: Sequence[str], cache: Path, say: Callable[[str], None]
) -> list[Features]:
    """Features of ordinary talk in the same views: nothing but how people speak parts it from the corpora."""
    kept, waves, _ = usable_clips_cached(clips, ensemble.sample_rate_hz, cache)
    everybody = frozenset(clip.speaker for clip in kept)
    views = ViewCache(kept, ensemble.front, cache, everybody)
    wanted: dict[str, ViewSettings] = {view.name: view for view in standard_views(0, 0)}
    rows = _rows_by_voice([clip.speaker for clip in kept], np.arange(len(kept)))
    return [
        _features(ensemble, kept, views.read_or_extract(wanted[name], waves), name, rows, cache, say)
        for name in names
    ]


def _features(
    ensemble: Ensemble,
    clips: Sequence[Clip],
    view: View,
    name: str,
    voices: dict[str, Int],
    cache: Path,
    say: Callable[[str], None],
) -> Features:
    """Pooled features of all clips in a view, normalised by all the speaker's clips; kept in ``cache``."""
    bodies = [member["onnx_sha256"] for member in ensemble.card["members"]]  # type: ignore[attr-defined]
    mark = hashlib.sha256(view.n_active.tobytes() + view.total.tobytes()).hexdigest()
    depends_on = [
        content_key(clips),
        name,
        mark,
        bodies,
        ensemble.card["reference"],
        ensemble.front.to_card(),
    ]
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"pooled-{name}-{key}.npz"
    seconds = view.n_active * ensemble.front.hop_s
    by_clip = tuple(clip.speaker for clip in clips)
    if path.is_file():
        say(f"Features of {len(clips)} clips ({name}) are there from before.")
    else:
        say(f"Extracting features of {len(clips)} clips ({name}) ...")
        norms = {
            voice: voice_norm(view.statistics(i), ensemble.reference, ensemble.front)
            for voice, i in voices.items()
        }
        lengths = np.diff(view.starts).tolist()
        logits, pooled = ensemble.pooled(
            lengths, lambda i: (view.clip(i) - norms[by_clip[i]][0]) / norms[by_clip[i]][1]
        )
        unfinished = path.with_suffix(".part.npz")
        arrays = {f"pooled-{m}": rows.astype(np.float16) for m, rows in enumerate(pooled)}
        np.savez(unfinished, alone=softmax(logits), **arrays)  # type: ignore[arg-type]
        unfinished.replace(path)  # a kill at any moment leaves no half of it
    with np.load(path) as held:
        pooled = tuple(held[f"pooled-{m}"].astype(np.float32) for m in range(len(ensemble.members)))
        return Features(pooled, held["alone"], seconds, by_clip)
