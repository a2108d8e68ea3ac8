"""Training of heads on frozen bodies: logistic regression on what they pool.

The centred heads of all members see it minus a drawn baseline; the own head of the voice network's member
sees it as it is.

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
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip
from ensemble.corpora.clip import forget_sound
from ensemble.inference.card import fingerprint, read_card
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.inference.shipped_networks import CAMPPLUS_SHA256
from ensemble.inference.vote import (
    SHRINK_S,
    Calibration,
    CentredHeads,
    calibrate_mean,
    count_votes,
    save_heads,
    softmax,
)
from ensemble.members import VOICE_MEMBER, VOICE_WEIGHT
from ensemble.training.calibration import (
    choose_thresholds,
    expected_calibration_error,
    fit_temperature,
    unweighted_recall,
)
from ensemble.training.examples import Examples
from ensemble.training.pooled_features import (
    VIEWS,
    Features,
    Head,
    clip_alone,
    features_of,
    in_threads,
    pooled_features,
    rows_by_voice,
    voice_features,
    voice_head,
)

Float = NDArray[np.float32]
Int = NDArray[np.int64]


VOICE_LIMIT = (
    f"{VOICE_MEMBER} rests on a network of others, trained to tell speakers apart. Its recordings are "
    "not published in full: voices of a test may be among them."
)


@dataclass(frozen=True, slots=True)
class HeadSettings:
    """How centred heads are trained; stored in the card."""

    decay: float = 0.02
    """L2 penalty of the regression, on features of deviation 1."""
    voice_decay: float = 0.04
    """The same for the voice network's member (chosen on training speakers, in five folds)."""
    ordinary_share: float = 0.1
    """Weight of all ordinary talk together, against 1 of the labelled clips."""
    spoilt: float = 0.25
    """Share of baselines of which a quarter of the clips is not neutral."""
    seed: int = 1


def add_voice_member(
    folder: Path,
    examples: Examples,
    training: Int,
    *,
    cache: Path,
    settings: HeadSettings | None = None,
    n_threads: int = 1,
    say: Callable[[str], None] = lambda _: None,
) -> None:
    """Give the ensemble in ``folder`` the member on the voice network, with a new own head.

    Temperature and thresholds are left to :func:`fit_heads`. Arguments are as there.

    Raises:
        ModelMissing: when the voice network is not on this machine.
    """
    from safetensors.numpy import save_file

    settings, card = settings or HeadSettings(), read_card(folder)
    whole = in_threads(n_threads, lambda v: voice_features(examples.clips, v, cache, say), VIEWS)
    views = [view[training] for view in whole]
    truth = np.tile(examples.truth[training], len(views))
    weight, bias = fit_own_head(np.concatenate(views), truth, settings.voice_decay, len(card["labels"]))
    path = folder / f"{VOICE_MEMBER}.safetensors"
    tensors = {"weight": weight, "bias": bias}
    save_file({name: np.ascontiguousarray(v, dtype=np.float32) for name, v in tensors.items()}, path)
    card["members"].append(
        {
            "name": VOICE_MEMBER,
            "architecture": VOICE_MEMBER,
            "n_parameters": weight.size + bias.size,
            "safetensors": path.name,
            "safetensors_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
            "body_sha256": CAMPPLUS_SHA256,
            "weight": VOICE_WEIGHT,
        }
    )
    card["rule"] = "weighted"
    card["limits"] = [*(line for line in card.get("limits", []) if line != VOICE_LIMIT), VOICE_LIMIT]
    card["ensemble_id"] = fingerprint(card)
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def fit_own_head(x: Float, truth: Int, decay: float, n_labels: int) -> Head:
    """Weights (k, width) and biases (k,) of a head that sees pooled features (n, width) as they are."""
    from sklearn.linear_model import LogisticRegression

    mean, deviation = x.mean(axis=0), x.std(axis=0) + 1e-2
    model = LogisticRegression(C=1 / decay, max_iter=300, tol=1e-4)
    model.fit((x - mean) / deviation, truth, sample_weight=np.full(len(x), 1 / len(x)))
    weight, bias = _of_labels(model, n_labels)
    weight = weight / deviation
    return weight.astype(np.float32), (bias - weight @ mean).astype(np.float32)


def _of_labels(model: Any, n_labels: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Weights (k, width) and biases (k,) of a logistic regression."""
    matrix, bias = model.coef_, model.intercept_
    if len(matrix) < n_labels:  # two labels are one row for the second of them
        matrix, bias = np.concatenate([-matrix, matrix]) / 2, np.concatenate([-bias, bias]) / 2
    return matrix, bias


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
    n_threads: int = 1,
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
        n_threads: Views whose features are extracted at once.
        say: Called with lines for a person.
    """
    settings = settings or HeadSettings()
    ensemble = load_ensemble(folder)
    if "neutral" not in ensemble.labels or not ensemble.speaker_norm:
        return None
    neutral = ensemble.labels.index("neutral")
    views = [name for name in VIEWS if name in examples.names]
    of_voice = voice_head(folder, ensemble)
    clips, voices = examples.clips, examples.voices
    known = in_threads(
        n_threads,
        lambda v: pooled_features(ensemble, of_voice, clips, examples.view(v), v, voices, cache, say),
        views,
    )
    talk: list[Features] = []
    if len(ordinary):
        talk = [found for _, found in features_of(ensemble, of_voice, ordinary, views, cache, say)[1]]
    forget_sound()
    labels = len(ensemble.labels), neutral
    heads = fit_centred(known, talk, examples.truth, training, labels, ensemble.on_voice, settings)
    card = read_card(folder)
    if len(validation):
        alone = clip_alone(ensemble, examples.view(VIEWS[0]), known[0], validation)
        held_out = HeldOut(heads, ensemble, known[0].only(validation), alone, examples.truth[validation])
        found, scores = held_out.calibrate(np.ones(len(ensemble.members), dtype=bool), precision)
        heads = replace(heads, temperature=found.heads_temperature)
        card |= {"temperature": found.temperature, "thresholds": asdict(found.thresholds), "centred": scores}
        card["scores"]["headline"]["uar"] = scores["uar_speaker"]
        if (of_trained := held_out.calibrate_trained(precision)) is not None:
            card["trained_alone"] = of_trained
    elif chosen is not None:
        heads = replace(heads, temperature=chosen["heads"]["temperature"])
        kept = ("temperature", "thresholds", "centred", "scores", "trained_alone")
        card |= {key: chosen[key] for key in kept if key in chosen}
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


def fit_centred(
    known: Sequence[Features],
    talk: Sequence[Features],
    truth: Int,
    training: Int,
    labels: tuple[int, int],
    on_voice: Sequence[bool],
    settings: HeadSettings,
    *,
    against_all: bool = False,
) -> CentredHeads:
    """Centred heads of all members, from their features in some views.

    Args:
        known: Features of the labelled clips in each view.
        talk: The same of ordinary talk.
        truth: Labels (n,) of the clips.
        training: Indices of the clips to learn from.
        labels: How many there are, and which is neutral.
        on_voice: Which members are on the voice network.
        settings: How to train.
        against_all: Every baseline is the mean of all the speaker's clips. The best on acted corpora, where
            everybody acts everything alike, and useless in calls: for figures to compare with others' only.
    """
    from sklearn.linear_model import LogisticRegression

    n_labels, neutral = labels
    rng = np.random.default_rng(settings.seed)
    rows = rows_by_voice(known[0].voices, training)
    calm = {voice: _calm_of(i, truth, known[0], neutral) for voice, i in rows.items()}
    own = np.concatenate(list(rows.values()))
    origins = [pooled[own].mean(axis=0) for pooled in known[0].pooled]
    parts: list[list[Float]] = [[] for _ in origins]
    targets: list[Int] = []
    weights: list[NDArray[np.float64]] = []
    for view in known:
        for voice, i in rows.items():
            reference = i if against_all else _drawn(calm[voice], i, settings.spoilt, rng)
            _append(parts, view, i, reference, origins)
            targets.append(truth[i])
            weights.append(np.full(len(i), 1 / (len(own) * len(known))))
    n_talk = sum(len(view.seconds) for view in talk)
    for view in talk:
        for i in rows_by_voice(view.voices, np.arange(len(view.seconds))).values():
            _append(parts, view, i, rng.permutation(i)[: int(rng.integers(2, 13))], origins)
            targets.append(np.full(len(i), neutral, dtype=np.int64))
            weights.append(np.full(len(i), settings.ordinary_share / n_talk))
    target, weight = np.concatenate(targets), np.concatenate(weights)
    found, biases = [], []
    for each, is_voice in zip(parts, on_voice, strict=True):
        x = np.concatenate(each)
        deviation = x.std(axis=0) + 1e-2
        decay = settings.voice_decay if is_voice else settings.decay
        model = LogisticRegression(C=1 / decay, max_iter=300, tol=1e-4)
        model.fit(x / deviation, target, sample_weight=weight)
        matrix, bias = _of_labels(model, n_labels)
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


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Clips of speakers who were held out, over the telephone, to calibrate and to score the vote.

    view: by what is known of their voices; alone: the members' own answers (m, n, k) of each clip alone;
    truth: (n,) labels; heads: in the place of those of the ensemble.
    """

    heads: CentredHeads
    ensemble: Ensemble
    view: Features
    alone: Float
    truth: Int

    def calibrate(self, asked: NDArray[np.bool_], precision: float) -> tuple[Calibration, dict[str, Any]]:
        """Temperatures, thresholds and scores of the vote of the members ``asked`` (m,)."""
        known = self._answers(asked)
        both, twice = np.concatenate([known["speaker"], known["calm"]], axis=1), np.tile(self.truth, 2)
        rule, before = self.ensemble.rule, self.ensemble.thresholds
        temperature = fit_temperature(both, twice, self._votes)
        thresholds = choose_thresholds(both, twice, temperature, precision, rule=rule, weights=self._votes)
        thresholds = replace(thresholds, shortest_s=before.shortest_s, quietest_db=before.quietest_db)
        of_clip = fit_temperature(known["clip"], self.truth, self._votes)
        found = Calibration(of_clip, temperature, thresholds)
        return found, self._scores(found, known)

    def calibrate_trained(self, precision: float) -> dict[str, Any] | None:
        """For the card: the vote without members on the voice network; None where all or none are on it."""
        trained = ~np.array(self.ensemble.on_voice)
        if trained.all() or not trained.any():
            return None
        found, scores = self.calibrate(trained, precision)
        return {**asdict(found), "centred": scores}

    def scores(self) -> dict[str, Any]:
        """UAR and ECE of the vote of all, calibrated as it is, by what is known of a voice."""
        ensemble = self.ensemble
        found = Calibration(ensemble.temperature, self.heads.temperature, ensemble.thresholds)
        return self._scores(found, self._answers(np.ones(len(ensemble.members), dtype=bool)))

    @property
    def _votes(self) -> NDArray[np.float64] | None:
        return self.ensemble.weights if self.ensemble.rule == "weighted" else None

    def _answers(self, asked: NDArray[np.bool_]) -> dict[str, Float]:
        """Softmax (m, n, k) of the members ``asked``, 0 of the others, by what is known of a voice."""
        heads, view = self.heads, self.view
        neutral, counted = self.ensemble.labels.index("neutral"), asked[:, None, None]
        each = [heads.offsets(m, pooled) for m, pooled in enumerate(view.pooled)]
        offsets = np.stack(each).astype(np.float64)
        likely = view.alone[asked, :, neutral].mean(axis=0, dtype=np.float64)
        return {"clip": self.alone * counted} | {
            how: softmax(heads.centre(offsets, view.seconds, likely, view.voices, calm)[0]) * counted
            for how, calm in (("speaker", None), ("calm", self.truth == neutral))
        }

    def _scores(self, calibration: Calibration, known: Mapping[str, Float]) -> dict[str, Any]:
        scores: dict[str, Any] = {"n_clips": len(self.truth)}
        for how, rows in known.items():
            temperature = calibration.temperature if how == "clip" else calibration.heads_temperature
            mean = calibrate_mean(rows, temperature, self._votes)
            top, _, _ = count_votes(rows, mean, self.ensemble.rule, self._votes)
            confidence = mean[np.arange(len(top)), top]
            scores[f"uar_{how}"] = unweighted_recall(self.truth, top)
            scores[f"ece_{how}"] = expected_calibration_error(confidence, top == self.truth)
        return scores
