"""The whole training in one call: from corpora to an ensemble folder that can be promoted.

``callanalytics train`` runs it, and it made the shipped weights.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from ensemble.corpora import Corpus, keep_emotions, split_by_speaker
from ensemble.evaluation.metrics import CONDITIONS, evaluate, refuse_names
from ensemble.evaluation.model_card import write_card_pages
from ensemble.inference.card import read_card, refuse_known
from ensemble.inference.ensemble import load_ensemble
from ensemble.model_errors import TrainingError
from ensemble.training import Examples, Extracted, Progress, TrainSettings, train_ensemble
from ensemble.training.assemble import add_biases, assemble, fit_biases, fit_on_validation

LIMITS = (
    "Trained on acted speech: real calls carry weaker and mixed emotions; acted anger is mostly loud.",
    "Voices of English and German speaking actors; other languages and ages were never measured.",
    "Unreliable on less than a second of speech.",
    "Not for judging employees: the EU AI Act, Article 5(1)(f), forbids inferring emotions at work.",
)


EVERYONE = (
    "Trained on all speakers. Scores, temperature, thresholds and biases are of the same training "
    "without the validation speakers."
)


def train_from_corpora(
    corpora: Sequence[Corpus],
    validation_speakers: frozenset[str],
    settings: TrainSettings,
    *,
    folder: Path,
    cache: Path,
    start: Path | None = None,
    precision: float = 0.8,
    everyone: bool = False,
    licence: str = "",
    note: str = "",
    say: Callable[[Progress | Extracted], None] = lambda _: None,
) -> Path:
    """Train, calibrate, export, evaluate and describe; goes on after a kill.

    Args:
        corpora: Labelled clips; those of other labels than the settings' are left out.
        validation_speakers: Held out; they choose epochs, temperature, thresholds and output biases.
        settings: How to train.
        folder: Gets the members in ``members`` and the ensemble in ``ensemble``.
        cache: Folder of the spectrogram cache.
        start: Folder of an ensemble to begin from.
        precision: Share of right labels that abstaining aims at on the validation speakers.
        everyone: Train the members once more on all speakers for as many epochs. What was chosen on the
            validation speakers is kept, and the results stay those of the first training, since nobody is
            left to test the second on.
        licence: Written into the card.
        note: Written into the card.
        say: Called with the progress.

    Returns:
        The folder with ``card.json``, ``results.json``, ``model-card.md`` and ``model-card.html``.

    Raises:
        CorpusError: when two corpora have one name or no clip can be used.
        LeakError: when a validation speaker has no clip, or ``start`` was trained on one.
        TrainingError: when the settings do not suit, or a training cannot start or go on.
        ModelIncompatible: when an exported graph does not agree with torch.
    """
    refuse_names(corpora)
    if not validation_speakers:
        raise TrainingError("no validation speakers: temperature and thresholds need voices held out")
    if everyone and (settings.schedule == "plateau" or settings.patience_epochs):
        raise TrainingError(
            "everyone is trained for a fixed number of epochs: nobody is left to see a plateau or to stop "
            "early by; leave --schedule plateau and --patience away"
        )
    if start is not None:
        refuse_known(read_card(start), validation_speakers)
    known = [keep_emotions(corpus, settings.labels) for corpus in corpora]
    clips = [clip for corpus in known for clip in corpus.clips]
    split_by_speaker(clips, validation_speakers)
    everybody = frozenset(clip.speaker for clip in clips)
    examples = train_ensemble(
        clips, validation_speakers, settings, folder=folder / "members", cache=cache, start=start, say=say
    )
    training, validation = examples.of(everybody - validation_speakers), examples.of(validation_speakers)
    weights = {name: folder / "members" / name / "best.safetensors" for name in settings.members}
    biases = fit_biases(weights, examples, validation, settings)
    balanced = add_biases(weights, biases, folder / "balanced")
    fit = fit_on_validation(balanced, examples, validation, settings, precision)
    out = folder / "ensemble"
    about: dict[str, object] = {"licence": licence, "note": note, "limits": list(LIMITS)}
    assemble(balanced, examples, training, settings, fit, out, about, start=start)
    tested = _tested(known, validation_speakers, examples)
    results = evaluate(load_ensemble(out), tested, speakers=validation_speakers, conditions=CONDITIONS)
    if everyone:
        final = train_ensemble(
            clips,
            frozenset(),
            settings,
            folder=folder / "final",
            cache=cache,
            start=start,
            babble_speakers=everybody - validation_speakers,  # those of the views that are cached
            say=say,
        )
        weights = {name: folder / "final" / name / "best.safetensors" for name in settings.members}
        about["note"] = " ".join((note, EVERYONE)).strip()
        balanced = add_biases(weights, biases, folder / "final-balanced")
        shutil.rmtree(out)
        assemble(balanced, final, final.of(everybody), settings, fit, out, about, start=start)
    write_card_pages(out, read_card(out), results)
    return out


def _tested(corpora: Sequence[Corpus], speakers: frozenset[str], examples: Examples) -> list[Corpus]:
    """The usable clips of the speakers held out: copies of training clips are not among them."""
    usable = frozenset(examples.clips)
    tested = []
    for corpus in corpora:
        files = {clip.path for clip in corpus.clips}
        clips = tuple(clip for clip in corpus.clips if clip in usable and clip.speaker in speakers)
        unusable = (*corpus.unusable, *(u for u in examples.unusable if u.path in files))
        tested.append(replace(corpus, clips=clips, unusable=unusable))
    return [corpus for corpus in tested if corpus.clips]
