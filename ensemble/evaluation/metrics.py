"""How good an ensemble is: measures, intervals by speaker, and every condition side by side.

Conditions are what is heard (clean, telephone, GSM) times what is known of the
speaker (``clip``: the clip alone; ``speaker``: all the speaker's clips, no
labels; ``calm``: only the neutral and happy ones). They are never mixed.
A speaker has one line, as in a call: its level is set once for all the clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, Corpus, Unusable
from ensemble.inference.calibration import (
    coverage_curve,
    expected_calibration_error,
    perfect_calibration_error,
    reliability,
)
from ensemble.inference.card import trained_on
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.spectrogram import Statistics, hear, voice_norm
from ensemble.inference.vote import Votes, vote
from ensemble.model_errors import CorpusError
from ensemble.training.augmentation import line_level, telephone
from ensemble.training.dataset import usable_clips

Float = NDArray[np.float32]
Int = NDArray[np.int64]

NOT_CORPORA = ("ensemble_id", "labels")
"""What results hold besides one entry a corpus."""
FEWEST_SPEAKERS = 5
"""A bootstrap over fewer speakers says nothing: there is no interval then, and none is trusted."""
LINES: tuple[str, ...] = ("clean", "telephone", "gsm")
KNOWN: tuple[str, ...] = ("clip", "speaker", "calm")


def over(line: str, wave: Float, sample_rate_hz: int, line_rms: float | None = None) -> Float:
    """The clip as heard ``clean``, over the ``telephone`` (G.711 mu-law) or over ``gsm``.

    ``line_rms`` is the speech level of everything the speaker says on that line.
    """
    if line == "clean":
        return wave
    codec = {"telephone": "mu-law", "gsm": "gsm"}[line]
    return telephone(wave, codec, sample_rate_hz=sample_rate_hz, line_rms=line_rms)


def confusion(truth: Int, guess: Int, n_labels: int) -> Int:
    """Counts (k, k): row is the truth, column the guess."""
    return np.bincount(truth * n_labels + guess, minlength=n_labels**2).reshape(n_labels, n_labels)


def measures(truth: Int, guess: Int, labels: Sequence[str]) -> dict[str, Any]:
    """WA (accuracy), UAR (mean recall over labels that occur), macro-F1, per-class figures, confusion."""
    table = confusion(truth, guess, len(labels)).astype(float)
    hits, true, named = np.diag(table), table.sum(axis=1), table.sum(axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall, precision = hits / true, hits / named
        f1 = 2 * hits / (true + named)
    there = true > 0
    per_class = {
        label: {
            "precision": _plain(precision[i]),
            "recall": _plain(recall[i]),
            "f1": _plain(f1[i]),
            "n": int(true[i]),
        }
        for i, label in enumerate(labels)
    }
    return {
        "n": len(truth),
        "wa": float(hits.sum() / max(true.sum(), 1)),
        "uar": float(np.mean(recall[there])) if there.any() else None,
        "macro_f1": float(np.mean(np.nan_to_num(f1[there]))) if there.any() else None,
        "per_class": per_class,
        "confusion": table.astype(int).tolist(),
    }


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def areas(truth: Int, mean: Float, labels: Sequence[str]) -> dict[str, float]:
    """ROC-AUC of each emotion against the rest, by ranks (Mann and Whitney); absent ones are left out."""
    from scipy.stats import rankdata

    out = {}
    for k, label in enumerate(labels):
        yes = truth == k
        if yes.any() and not yes.all():
            n_yes, n_no = int(yes.sum()), int((~yes).sum())
            ranks = rankdata(mean[:, k])
            out[label] = float((ranks[yes].sum() - n_yes * (n_yes + 1) / 2) / (n_yes * n_no))
    return out


def interval_by_speaker(
    truth: Int, guess: Int, speakers: Sequence[str], n_draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of WA and UAR, drawing whole speakers with replacement (percentile bootstrap).

    None for fewer than ``FEWEST_SPEAKERS``.
    """
    names = sorted(set(speakers))
    if len(names) < FEWEST_SPEAKERS:
        return {"wa": None, "uar": None}
    rng = np.random.default_rng(seed)
    n_labels = int(max(truth.max(), guess.max())) + 1
    of = np.array([names.index(s) for s in speakers])
    tables = np.stack([confusion(truth[of == i], guess[of == i], n_labels) for i in range(len(names))])
    drawn = tables[rng.integers(0, len(names), (n_draws, len(names)))].sum(axis=1).astype(float)
    hits, true = np.diagonal(drawn, axis1=1, axis2=2), drawn.sum(axis=2)
    was = hits.sum(axis=1) / true.sum(axis=1)
    uars = np.nanmean(np.where(true > 0, hits / np.maximum(true, 1), np.nan), axis=1)
    return {name: _span(values) for name, values in (("wa", was), ("uar", uars))}


def _span(values: NDArray[np.floating]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Clips heard over one line: spectrograms in dB and what each tells of its speaker."""

    clips: tuple[Clip, ...]
    mels: tuple[Float, ...]
    known: tuple[Statistics, ...]
    unusable: tuple[Unusable, ...]


def prepare_clips(ensemble: Ensemble, clips: Sequence[Clip], line: str) -> Prepared:
    """Decode and hear every clip whose emotion the ensemble knows; what cannot be used is listed.

    The same as in training: nothing unreadable, nothing silent, no sound twice.
    """
    rate_hz = ensemble.sample_rate_hz
    kept, waves, bad = usable_clips([c for c in clips if c.emotion in ensemble.labels], rate_hz)
    if not kept:
        raise CorpusError(f"none of {len(clips)} clips has one of the ensemble's labels and can be read")
    said: dict[str, list[Float]] = {}
    for clip, wave in zip(kept, waves, strict=True):
        said.setdefault(clip.speaker, []).append(wave)
    level = {speaker: line_level(own) for speaker, own in said.items()}
    heard = [
        hear(over(line, wave, rate_hz, level[clip.speaker]), ensemble.front)
        for clip, wave in zip(kept, waves, strict=True)
    ]
    mels, known = zip(*heard, strict=True)
    return Prepared(kept, mels, known, bad)


def member_probabilities(ensemble: Ensemble, prepared: Prepared, known: str) -> Float:
    """Each member's raw probabilities (m, n, k), with speaker statistics from ``known`` (see KNOWN)."""
    calm = {"neutral", "happy"}
    gathered: dict[str, Statistics] = {}
    for clip, statistics in zip(prepared.clips, prepared.known, strict=True):
        if ensemble.speaker_norm and (known == "speaker" or (known == "calm" and clip.emotion in calm)):
            gathered[clip.speaker] = (
                gathered[clip.speaker] + statistics if clip.speaker in gathered else statistics
            )
    mels = []
    for clip, mel, own in zip(prepared.clips, prepared.mels, prepared.known, strict=True):
        mean, deviation = voice_norm(gathered.get(clip.speaker, own), ensemble.reference, ensemble.front)
        mels.append(((mel - mean) / deviation).astype(np.float32))
    return ensemble.probabilities(mels)


def votes_of(ensemble: Ensemble, probabilities: Float, *, abstain: bool = False) -> Votes:
    """The ensemble's votes for ready member probabilities."""
    return vote(
        probabilities,
        ensemble.labels,
        ensemble.member_names,
        temperature=ensemble.temperature,
        thresholds=ensemble.thresholds if abstain else None,
        rule=ensemble.rule,
        weights=ensemble.weights,
    )


def report(ensemble: Ensemble, clips: Sequence[Clip], probabilities: Float) -> dict[str, Any]:
    """Every measure of one condition, from member probabilities (m, n, k) of ``clips``; JSON-ready."""
    truth = np.array([ensemble.labels.index(clip.emotion) for clip in clips], dtype=np.int64)
    votes = votes_of(ensemble, probabilities)
    named = votes_of(ensemble, probabilities, abstain=True).emotion_index >= 0
    right = votes.top_index == truth
    speakers = [clip.speaker for clip in clips]
    soft = votes.mean_probabilities.argmax(axis=1).astype(np.int64)
    by_speaker = {s: float(np.mean(right[[x == s for x in speakers]])) for s in sorted(set(speakers))}
    sexes = sorted({clip.sex for clip in clips if clip.sex})
    return {
        **measures(truth, votes.top_index, ensemble.labels),
        "interval_95": interval_by_speaker(truth, votes.top_index, speakers),
        "auc": areas(truth, votes.mean_probabilities, ensemble.labels),
        "ece": expected_calibration_error(votes.confidence, right),
        "ece_if_perfect": perfect_calibration_error(votes.confidence),
        "reliability": [[b.confidence, b.accuracy, b.share] for b in reliability(votes.confidence, right)],
        "coverage": coverage_curve(votes.confidence, right),
        "abstaining": {
            "coverage": float(named.mean()),
            "accuracy": float(right[named].mean()) if named.any() else None,
        },
        "tie_broken_share": float(votes.tie_broken.mean()),
        "members": {
            name: _short(truth, probabilities[m].argmax(axis=1).astype(np.int64), ensemble.labels)
            for m, name in enumerate(ensemble.member_names)
        },
        "soft": _short(truth, soft, ensemble.labels),
        "per_speaker_wa": by_speaker,
        "per_sex_wa": {sex: float(np.mean(right[[clip.sex == sex for clip in clips]])) for sex in sexes},
    }


def _short(truth: Int, guess: Int, labels: Sequence[str]) -> dict[str, float]:
    full = measures(truth, guess, labels)
    return {"wa": full["wa"], "uar": full["uar"], "macro_f1": full["macro_f1"]}


def refuse_names(corpora: Sequence[Corpus]) -> None:
    """Raise CorpusError unless each corpus has a name of its own: results and speakers go by it."""
    taken = set(NOT_CORPORA)
    for corpus in corpora:
        if corpus.name in taken:
            raise CorpusError(
                f"corpus {corpus.name!r}: results and speakers go by the name of a corpus, and this one is "
                "taken; name a manifest of your own: --corpus NAME=PATH"
            )
        taken.add(corpus.name)


def evaluate(
    ensemble: Ensemble,
    corpora: Sequence[Corpus],
    *,
    speakers: frozenset[str] | None = None,
    lines: Sequence[str] = ("clean", "telephone"),
    known: Sequence[str] = KNOWN,
) -> dict[str, Any]:
    """Reports by corpus, line and knowledge of the speaker: ``out[corpus][line][known]``.

    Only clips with a label of the ensemble count; ``unusable`` and the number
    left out are reported. ``speakers`` restricts the test. Raises CorpusError
    when nothing is left or a name stands for two things.
    """
    refuse_names(corpora)
    out: dict[str, Any] = {"ensemble_id": ensemble.ensemble_id, "labels": list(ensemble.labels)}
    for corpus in corpora:
        clips = [c for c in corpus.clips if speakers is None or c.speaker in speakers]
        rows: dict[str, Any] = {
            "n_other_labels": sum(c.emotion not in ensemble.labels for c in clips),
            "n_unusable": len(corpus.unusable),
            "trained_on": corpus.name in trained_on(ensemble.card),
        }
        for line in lines:
            prepared = prepare_clips(ensemble, clips, line)
            rows[line] = {"unusable": [f"{u.path.name}: {u.reason}" for u in prepared.unusable]}
            for which in known:
                rows[line][which] = report(
                    ensemble, prepared.clips, member_probabilities(ensemble, prepared, which)
                )
        out[corpus.name] = rows
    return out
