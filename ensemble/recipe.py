"""The whole recipe in one call: corpora in, a promoted-ready ensemble folder out.

This is what ``callanalytics train`` runs and what made the shipped weights.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from ensemble.assemble import assemble, balance, fit_on_validation
from ensemble.corpora import Corpus, keep_emotions, split_by_speaker
from ensemble.errors import TrainingError
from ensemble.evaluate import evaluate
from ensemble.modelcard import html, markdown
from ensemble.predict import load_ensemble
from ensemble.train import Progress, TrainSettings, train_ensemble

LIMITS = (
    "Trained on acted speech: real calls carry weaker and mixed emotions; acted anger is mostly loud.",
    "Voices of English and German speaking actors; other languages and ages were never measured.",
    "Unreliable on less than a second of speech.",
    "Not for judging employees: the EU AI Act, Article 5(1)(f), forbids inferring emotions at work.",
)


def train_from_corpora(
    corpora: Sequence[Corpus],
    validation_speakers: frozenset[str],
    settings: TrainSettings,
    *,
    folder: Path,
    cache: Path,
    start: Path | None = None,
    precision: float = 0.7,
    licence: str = "",
    note: str = "",
    say: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Train, calibrate, export, evaluate and describe; returns the folder with ``card.json``.

    ``start`` is the folder of an ensemble to begin from. Members are trained
    in ``folder/members`` and the ensemble written to ``folder/ensemble`` with
    ``results.json``, ``model-card.md`` and ``model-card.html``. ``precision``
    is what abstaining aims at on the validation speakers. Run it again after
    a kill and it goes on. Raises CorpusError, LeakError, TrainingError,
    ModelIncompatible.
    """
    if not validation_speakers:
        raise TrainingError("no validation speakers: temperature and thresholds need voices held out")
    known = [keep_emotions(corpus, settings.labels) for corpus in corpora]
    clips = [clip for corpus in known for clip in corpus.clips]
    split_by_speaker(clips, validation_speakers)
    examples = train_ensemble(
        clips, validation_speakers, settings, folder=folder / "members", cache=cache, start=start, say=say
    )
    training = examples.of(frozenset(examples.voices) - validation_speakers)
    validation = examples.of(validation_speakers)
    weights = {name: folder / "members" / name / "best.safetensors" for name in settings.members}
    weights = balance(weights, examples, validation, settings, folder / "balanced")
    fit = fit_on_validation(weights, examples, validation, settings, precision)
    out = folder / "ensemble"
    about = {"licence": licence, "note": note, "limits": list(LIMITS)}
    assemble(weights, examples, training, settings, fit, out, about)
    describe(out, known, validation_speakers, out)
    return out


def describe(
    ensemble_folder: Path, corpora: Sequence[Corpus], speakers: frozenset[str], out: Path
) -> dict[str, object]:
    """Evaluate on ``speakers``; write ``results.json``, ``model-card.md`` and ``.html`` to ``out``."""
    ensemble = load_ensemble(ensemble_folder)
    tested = [c for c in corpora if any(clip.speaker in speakers for clip in c.clips)]
    results = evaluate(ensemble, tested, speakers=speakers, lines=("clean", "telephone", "gsm"))
    shown = (tested[0].name, "telephone", "speaker")
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (out / "model-card.md").write_text(markdown(ensemble.card, results, shown), encoding="utf-8")
    (out / "model-card.html").write_text(html(ensemble.card, results, shown), encoding="utf-8")
    return results
