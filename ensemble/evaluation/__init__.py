"""Scores of an ensemble: measures, intervals by speaker, and every report side by side.

A report is of one channel condition (clean, telephone, GSM) and one kind of speaker statistics (``clip``: of
the clip alone; ``speaker``: of all the speaker's clips, no labels; ``calm``: the same, and which of them are
neutral is known).
They are never mixed. A speaker has one channel, as in a call: its level is set once for all the clips.

Measures are scikit-learn's. The expected calibration error (:mod:`ensemble.training.calibration`) and the
bootstrap by speaker are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, Corpus, Unusable, usable_clips
from ensemble.inference.card import trained_on
from ensemble.inference.ensemble import Ensemble
from ensemble.inference.spectrogram import Spectra, Statistics, extract, voice_norm, voice_spectra
from ensemble.model_errors import CorpusError
from ensemble.training.augmentation import channel_level, telephone
from ensemble.training.calibration import (
    coverage_curve,
    expected_calibration_error,
    perfect_calibration_error,
    reliability,
    unweighted_recall,
)

Float = NDArray[np.float32]
Int = NDArray[np.int64]
Bool = NDArray[np.bool_]
Answered = dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
"""Logits and offsets of members, by what they saw."""

NOT_CORPORA = ("ensemble_id", "labels", "ordinary_calls")
"""Entries of results beside one for each corpus."""
FEWEST_SPEAKERS = 5
"""A bootstrap over fewer speakers says nothing: there is no interval then, and none is trusted."""
CONDITIONS: tuple[str, ...] = ("clean", "telephone", "gsm")
SPEAKER_STATISTICS: tuple[str, ...] = ("clip", "speaker", "calm")


def through_channel(
    condition: str, wave: Float, sample_rate_hz: int, channel_rms: float | None = None
) -> Float:
    """The clip ``clean``, over the ``telephone`` (G.711 mu-law) or over ``gsm``.

    ``channel_rms`` is the speech level of everything the speaker says in that channel.
    """
    if condition == "clean":
        return wave
    codec = {"telephone": "mu-law", "gsm": "gsm"}[condition]
    return telephone(wave, codec, sample_rate_hz=sample_rate_hz, channel_rms=channel_rms)


def measures(truth: Int, guess: Int, labels: Sequence[str]) -> dict[str, Any]:
    """WA (accuracy), UAR, macro-F1 (both over labels that occur), figures per class, confusion.

    ``truth`` and ``guess`` (n,) index ``labels``. A figure that is not defined (of a class that never occurs
    or is never named) is None. Row of the confusion: truth.
    """
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

    every = np.arange(len(labels))
    figures = precision_recall_fscore_support(truth, guess, labels=every, zero_division=np.nan)
    per_class = {
        label: {"precision": _plain(p), "recall": _plain(r), "f1": _plain(f1), "n": int(n)}
        for label, p, r, f1, n in zip(labels, *figures, strict=True)
    }
    return {
        "n": len(truth),
        **_short(truth, guess),
        "per_class": per_class,
        "confusion": confusion_matrix(truth, guess, labels=every).tolist(),
    }


def _short(truth: Int, guess: Int) -> dict[str, float]:
    from sklearn.metrics import f1_score

    f1 = f1_score(truth, guess, labels=np.unique(truth), average="macro")
    wa = float(np.mean(guess == truth))
    return {"wa": wa, "uar": unweighted_recall(truth, guess), "macro_f1": float(f1)}


def _plain(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def areas(truth: Int, mean: Float, labels: Sequence[str]) -> dict[str, float]:
    """ROC-AUC of each emotion against the rest by its probabilities (n, k); without those that are absent."""
    from sklearn.metrics import roc_auc_score

    return {
        label: float(roc_auc_score(truth == k, mean[:, k]))
        for k, label in enumerate(labels)
        if 0 < np.count_nonzero(truth == k) < len(truth)
    }


def tables_by_speaker(truth: Int, guess: Int, speakers: Sequence[str], n_labels: int) -> Int:
    """Confusion (speakers, k, k) of each speaker in sorted order; row: truth."""
    names, of = np.unique(np.asarray(speakers), return_inverse=True)
    tables = np.zeros((len(names), n_labels, n_labels), dtype=np.int64)
    np.add.at(tables, (of, truth, guess), 1)
    return tables


def recall_of_tables(tables: NDArray[np.integer]) -> NDArray[np.float64]:
    """UAR of each confusion table (n, k, k): thousands of draws at once."""
    hits, true = np.diagonal(tables, axis1=1, axis2=2), tables.sum(axis=2)
    return np.asarray(np.nanmean(np.where(true > 0, hits / np.maximum(true, 1), np.nan), axis=1))


def interval_by_speaker(
    truth: Int, guess: Int, speakers: Sequence[str], n_draws: int = 1000, seed: int = 0
) -> dict[str, tuple[float, float] | None]:
    """95 % intervals of WA and UAR, drawing whole speakers with replacement (percentile bootstrap).

    None for fewer than ``FEWEST_SPEAKERS``.
    """
    tables = tables_by_speaker(truth, guess, speakers, int(max(truth.max(), guess.max())) + 1)
    n_speakers = len(tables)
    if n_speakers < FEWEST_SPEAKERS:
        return {"wa": None, "uar": None}
    draws = np.random.default_rng(seed).integers(0, n_speakers, (n_draws, n_speakers))
    drawn = tables[draws].sum(axis=1)
    was = np.trace(drawn, axis1=1, axis2=2) / drawn.sum(axis=(1, 2))
    return {"wa": _span(was), "uar": _span(recall_of_tables(drawn))}


def _span(values: NDArray[np.floating]) -> tuple[float, float]:
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


@dataclass(frozen=True, slots=True)
class Prepared:
    """Clips in one channel condition: spectrograms (n_frames, n_mels) in dB, statistics of each clip."""

    clips: tuple[Clip, ...]
    waves: tuple[Float, ...]
    """What the voice network's spectrograms are made of."""
    mels: tuple[Float, ...]
    known: tuple[Statistics, ...]
    unusable: tuple[Unusable, ...]


Usable = tuple[tuple[Clip, ...], tuple[Float, ...], tuple[Unusable, ...]]
"""What :func:`usable_clips` gives."""


def known_clips(ensemble: Ensemble, clips: Sequence[Clip]) -> Usable:
    """Decode every clip whose emotion the ensemble knows; what cannot be used is listed.

    The same as in training: nothing unreadable, nothing silent, no sound twice.

    Raises:
        CorpusError: when no clip is left.
    """
    found = usable_clips([c for c in clips if c.emotion in ensemble.labels], ensemble.sample_rate_hz)
    if not found[0]:
        raise CorpusError(f"none of {len(clips)} clips has one of the ensemble's labels and can be read")
    return found


def prepare_clips(ensemble: Ensemble, usable: Usable, condition: str) -> Prepared:
    """Extract the clips of :func:`known_clips` in a channel condition."""
    kept, waves, bad = usable
    rate_hz = ensemble.sample_rate_hz
    said: dict[str, list[Float]] = {}
    for clip, wave in zip(kept, waves, strict=True):
        said.setdefault(clip.speaker, []).append(wave)
    level = {speaker: channel_level(own) for speaker, own in said.items()}
    sent, extracted = [], []
    for clip, wave in zip(kept, waves, strict=True):
        through = through_channel(condition, wave, rate_hz, level[clip.speaker])
        sent.append(through)
        extracted.append(extract(through, ensemble.front))
    mels, known = zip(*extracted, strict=True)
    return Prepared(kept, tuple(sent), mels, known, bad)


def member_probabilities(
    ensemble: Ensemble, prepared: Prepared, known: str, answered: Answered | None = None
) -> tuple[Float, Bool]:
    """Each member's raw probabilities (m, n, k) and whether a centred head gave them (n,).

    Band statistics are of the clip, or of all the speaker's clips, as a call gives them; the baseline of
    ``speaker`` is found as in a call, that of ``calm`` is of the neutral clips. Without centred heads
    ``calm`` is the statistics of the neutral and happy clips.

    Networks run once for the ways that are asked with one ``answered``, a dict that is empty at first.
    """
    answered = {} if answered is None else answered
    together = known == "speaker" or (known == "calm" and ensemble.heads is not None)
    calm = {"neutral", "happy"} if known == "calm" else set()
    gathered: dict[str, Statistics] = {}
    for clip, statistics in zip(prepared.clips, prepared.known, strict=True):
        if ensemble.speaker_norm and (together or clip.emotion in calm):
            gathered[clip.speaker] = (
                gathered[clip.speaker] + statistics if clip.speaker in gathered else statistics
            )
    seen = "together" if together else known  # by what the spectrograms are normalised
    if seen not in answered:
        mels: list[Float] = []
        for clip, mel, own in zip(prepared.clips, prepared.mels, prepared.known, strict=True):
            mean, deviation = voice_norm(gathered.get(clip.speaker, own), ensemble.reference, ensemble.front)
            mels.append(((mel - mean) / deviation).astype(np.float32))
        answered[seen] = ensemble.answers(Spectra([len(mel) for mel in mels], lambda i: mels[i]), None)
    if "voice" not in answered:
        answered["voice"] = ensemble.answers(None, voice_spectra(prepared.waves))
    logits, offsets = (a + b for a, b in zip(answered[seen], answered["voice"], strict=True))
    neutral = np.array([clip.emotion == "neutral" for clip in prepared.clips])
    return ensemble.by_voice(
        logits,
        offsets,
        [clip.speaker for clip in prepared.clips] if together and ensemble.speaker_norm else None,
        ensemble.seconds(prepared.known),
        neutral if known == "calm" else None,
    )


def report(ensemble: Ensemble, clips: Sequence[Clip], probabilities: Float, centred: Bool) -> dict[str, Any]:
    """Every measure of member probabilities (m, n, k) of ``clips``; JSON-ready. ``centred`` as they came."""
    truth = np.array([ensemble.labels.index(clip.emotion) for clip in clips], dtype=np.int64)
    votes = ensemble.vote_on(probabilities, abstain=False, centred=centred)
    named = ensemble.vote_on(probabilities, centred=centred).emotion_index >= 0
    right = votes.top_index == truth
    speakers, sexes = [clip.speaker for clip in clips], [clip.sex for clip in clips]

    def accuracy_by(keys: Sequence[str | None]) -> dict[str, float]:
        each = np.array([key or "" for key in keys])
        return {key: float(right[each == key].mean()) for key in np.unique(each).tolist() if key}

    return {
        **measures(truth, votes.top_index, ensemble.labels),
        "interval_95": interval_by_speaker(truth, votes.top_index, speakers),
        "auc": areas(truth, votes.mean_probabilities, ensemble.labels),
        "ece": expected_calibration_error(votes.confidence, right),
        "ece_if_perfect": perfect_calibration_error(votes.confidence),
        "reliability": reliability(votes.confidence, right),
        "coverage": coverage_curve(votes.confidence, right),
        "abstaining": {
            "coverage": float(named.mean()),
            "accuracy": float(right[named].mean()) if named.any() else None,
        },
        "tie_broken_share": float(votes.tie_broken.mean()),
        "members": {
            name: _short(truth, probabilities[m].argmax(axis=1))
            for m, name in enumerate(ensemble.member_names)
        },
        "soft": _short(truth, votes.mean_probabilities.argmax(axis=1)),
        "per_speaker_wa": accuracy_by(speakers),
        "per_sex_wa": accuracy_by(sexes),
    }


def refuse_names(corpora: Sequence[Corpus]) -> None:
    """Check that each corpus has a name of its own: results and speakers go by it.

    Raises:
        CorpusError: naming the one that has not.
    """
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
    conditions: Sequence[str] = ("clean", "telephone"),
    known: Sequence[str] = SPEAKER_STATISTICS,
) -> dict[str, Any]:
    """Reports by corpus, channel condition and speaker statistics: ``out[corpus][condition][known]``.

    Only clips with a label of the ensemble count; ``unusable`` and the number left out are reported.
    ``speakers`` restricts the test.

    Raises:
        CorpusError: when nothing is left or a name stands for two things.
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
        usable = known_clips(ensemble, clips)
        for condition in conditions:
            prepared, answered = prepare_clips(ensemble, usable, condition), Answered()
            rows[condition] = {"unusable": [f"{u.path.name}: {u.reason}" for u in prepared.unusable]}
            for which in known:
                rows[condition][which] = report(
                    ensemble, prepared.clips, *member_probabilities(ensemble, prepared, which, answered)
                )
        out[corpus.name] = rows
    return out
