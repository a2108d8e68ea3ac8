"""The whole training in one call: from corpora to an ensemble folder that can be promoted.

``callanalytics train`` runs it, and it made the shipped weights.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from ensemble.corpora import Clip, Corpus, clips_hash, keep_emotions, split_by_speaker
from ensemble.evaluation import CONDITIONS, evaluate, refuse_names
from ensemble.evaluation.model_card import write_card_pages
from ensemble.inference.card import (
    checked_file,
    files_of,
    fingerprint,
    read_card,
    refuse_known,
    trained_on,
)
from ensemble.inference.ensemble import load_ensemble
from ensemble.inference.spectrogram import KALDI_RATE_HZ, FrontEnd
from ensemble.members import VOICE_MEMBER
from ensemble.model_errors import CorpusError, TrainingError
from ensemble.training import Examples, News, TrainSettings, prepare, train_ensemble
from ensemble.training.assemble import (
    add_biases,
    assemble,
    code_version,
    export_member,
    fit_biases,
    fit_on_validation,
    name_of_test,
)
from ensemble.training.calibration import normalised
from ensemble.training.fit_heads import (
    HeadSettings,
    HeldOut,
    add_voice_member,
    fit_heads,
)
from ensemble.training.pooled_features import VIEWS, clip_alone, features_of, voice_head

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
    ordinary: Sequence[Clip] = (),
    say: Callable[[News], None] = lambda _: None,
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
        ordinary: Segments of unlabelled talk, weakly neutral for the centred heads.
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
    if ordinary and ("neutral" not in settings.labels or not settings.speaker_norm):
        raise TrainingError(
            "ordinary talk teaches centred heads what neutral is, and there are none without that label or "
            "with every clip normalised alone; leave --ordinary away"
        )
    if VOICE_MEMBER in settings.members:
        _refuse_voice_member(settings)
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
    weights = {name: folder / "members" / name / "best.safetensors" for name in settings.trained}
    biases = fit_biases(weights, examples, validation, settings)
    balanced = add_biases(weights, biases, folder / "balanced")
    fit = fit_on_validation(balanced, examples, validation, settings, precision)
    out = folder / "ensemble"
    about: dict[str, object] = {"licence": licence, "note": note, "limits": list(LIMITS)}
    assemble(balanced, examples, training, settings, fit, out, about, start=start)
    here: dict[str, Any] = {"cache": cache, "n_threads": settings.n_threads, "say": say}
    if VOICE_MEMBER in settings.members:
        add_voice_member(out, examples, training, **here)
    more: dict[str, Any] = {**here, "ordinary": ordinary, "precision": precision}
    fit_heads(out, examples, training, validation, **more)
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
        weights = {name: folder / "final" / name / "best.safetensors" for name in settings.trained}
        about["note"] = " ".join((note, EVERYONE)).strip()
        balanced = add_biases(weights, biases, folder / "final-balanced")
        chosen = read_card(out)
        shutil.rmtree(out)
        assemble(balanced, final, final.of(everybody), settings, fit, out, about, start=start)
        if VOICE_MEMBER in settings.members:
            add_voice_member(out, final, final.of(everybody), **here)
        fit_heads(out, final, final.of(everybody), final.of(frozenset()), chosen=chosen, **more)
    write_card_pages(out, read_card(out), results)
    return out


def _refuse_voice_member(settings: TrainSettings) -> None:
    """Check before hours of training that the voice network's member can join the others."""
    if (
        settings.front.sample_rate_hz != KALDI_RATE_HZ
        or not settings.speaker_norm
        or "neutral" not in settings.labels
        or not settings.trained
    ):
        raise TrainingError(
            f"{VOICE_MEMBER} joins others at {KALDI_RATE_HZ} Hz and is compared with the neutral speech "
            "of each voice: leave it out of --members; or name others beside it, have neutral among the "
            "labels, and leave --no-speaker-norm and --sample-rate away"
        )


def train_heads(
    corpora: Sequence[Corpus],
    validation_speakers: frozenset[str],
    settings: TrainSettings,
    *,
    folder: Path,
    cache: Path,
    start: Path,
    precision: float = 0.8,
    licence: str = "",
    note: str = "",
    ordinary: Sequence[Clip] = (),
    heads: HeadSettings | None = None,
    members: Sequence[str] | None = None,
    say: Callable[[News], None] = lambda _: None,
) -> Path:
    """Learn only the centred heads, on the bodies of the ensemble in ``start``: minutes instead of hours.

    Features are cached, so that an interrupted training goes on with what is there. Arguments and results are
    those of :func:`train_from_corpora`; of ``settings`` the labels must be those of ``start``. ``members``
    are those to keep of ``start``, and the voice network's if it is to be added; None: those of ``start``.

    Raises:
        TrainingError: for other labels, or an ensemble that normalises every clip alone.
        LeakError: when a validation speaker has no clip, or ``start`` was trained on one.
    """
    refuse_names(corpora)
    begun = read_card(start)
    if tuple(begun["labels"]) != settings.labels or "neutral" not in settings.labels:
        raise TrainingError(
            "centred heads need the labels of the ensemble that they begin from "
            f"({', '.join(begun['labels'])}), neutral among them; asked for {', '.join(settings.labels)}. "
            "Train the members, too"
        )
    if not begun.get("speaker_norm", True):
        raise TrainingError(f"{start}: normalises every clip alone, so that no voice has a baseline")
    refuse_known(begun, validation_speakers)
    settings = replace(
        settings, front=FrontEnd.from_card(begun["front_end"]), n_augmented=0, n_coded=0, teachers=()
    )
    known = [keep_emotions(corpus, settings.labels) for corpus in corpora]
    clips = [clip for corpus in known for clip in corpus.clips]
    split_by_speaker(clips, validation_speakers)
    speakers = frozenset(clip.speaker for clip in clips) - validation_speakers
    # Two views: in processes of their own each would decode all clips again, which takes as long as a view.
    examples = prepare(clips, speakers, replace(settings, n_threads=1), cache, say=say)
    training, validation = examples.of(speakers), examples.of(validation_speakers)
    out = folder / "ensemble"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    wanted = [m["name"] for m in begun["members"]] if members is None else members
    trained = [m for m in begun["members"] if "body_sha256" not in m and m["name"] in wanted]
    some = normalised(examples, "telephone", training[:: max(1, len(training) // 8)][:8], "clip", settings)
    exported = [
        export_member(start / m["safetensors"], m["name"], len(settings.labels), settings.front, out, some)
        | {key: m[key] for key in ("taught_by",) if key in m}
        for m in trained
    ]
    heard = begun.get("heard_speakers")
    chosen = [examples.clips[i] for i in training]
    card = {
        **{key: value for key, value in begun.items() if key != "heads"},
        "members": exported,
        "rule": "majority",
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "code_version": code_version(),
        "begun_from": begun["ensemble_id"],
        "trained_on": sorted({clip.corpus for clip in chosen} | trained_on(begun)),
        **({} if heard is None else {"heard_speakers": sorted(speakers.union(heard))}),
        "n_training_clips": len(chosen),
        "n_training_speakers": len(speakers),
        "data_hash": clips_hash(chosen),
        "unusable": [[u.path.name, u.reason] for u in examples.unusable],
        "head_settings": asdict(heads or HeadSettings()),
        "scores": {"headline": {"test": name_of_test([examples.clips[i] for i in validation]), "uar": 0.0}},
        "licence": licence or begun.get("licence", ""),
        "note": note,
    }
    card["ensemble_id"] = fingerprint(card)
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    here: dict[str, Any] = {"cache": cache, "settings": heads, "n_threads": settings.n_threads, "say": say}
    if VOICE_MEMBER in wanted:
        add_voice_member(out, examples, training, **here)
    fit_heads(out, examples, training, validation, ordinary=ordinary, precision=precision, **here)
    tested = _tested(known, validation_speakers, examples)
    results = evaluate(load_ensemble(out), tested, speakers=validation_speakers, conditions=CONDITIONS)
    write_card_pages(out, read_card(out), results)
    return out


def calibrate_trained_alone(
    corpora: Sequence[Corpus],
    speakers: frozenset[str],
    *,
    folder: Path,
    cache: Path,
    start: Path,
    precision: float = 0.8,
    say: Callable[[str], None] = lambda _: None,
) -> Path:
    """Give the ensemble in ``start`` the calibration of the vote without the voice network's member.

    Nothing is learnt, and the vote of all members stays as it is: an ensemble made before there was such a
    calibration need not be trained again. A new training makes it itself. The card also gets the scores of
    that vote, since those in cards of earlier versions are of another test (:func:`name_of_test`).

    Args:
        corpora: Labelled clips of the same channel as in training; those of other labels are left out.
        speakers: Whose clips choose; the ensemble must not know them.
        folder: Gets the ensemble in ``ensemble``.
        cache: Folder of the spectrogram and feature cache.
        start: Folder of the ensemble.
        precision: As of :func:`choose_thresholds`.
        say: Called with lines for a person.

    Raises:
        TrainingError: for an ensemble without centred heads or without that member beside others.
        LeakError: when it was trained on one of the speakers.
        CorpusError: when they have no clip with a label of the ensemble.
    """
    refuse_names(corpora)
    ensemble, begun = load_ensemble(start), read_card(start)
    if ensemble.heads is None:
        raise TrainingError(f"{start}: has no centred heads to calibrate; train again with this version")
    refuse_known(begun, speakers)
    known = (keep_emotions(corpus, ensemble.labels).clips for corpus in corpora)
    chosen = [clip for clips in known for clip in clips if clip.speaker in speakers]
    if not chosen:
        raise CorpusError(f"no clip of {', '.join(sorted(speakers)[:3])} has a label of the ensemble")
    head = voice_head(start, ensemble)
    clips, [(telephone, view)] = features_of(ensemble, head, chosen, VIEWS[:1], cache, say)
    alone = clip_alone(ensemble, telephone, view, np.arange(len(clips)))
    truth = np.array([ensemble.labels.index(clip.emotion) for clip in clips], dtype=np.int64)
    held_out = HeldOut(ensemble.heads, ensemble, view, alone, truth)
    about = held_out.calibrate_trained(precision)
    if about is None:
        raise TrainingError(f"{start}: has no member on the voice network beside others to vote without")
    out = folder / "ensemble"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    for name, sha256 in files_of(begun):
        shutil.copyfile(checked_file(start, name, sha256), out / name)
    scores = held_out.scores()
    headline = {"test": name_of_test(clips), "uar": scores["uar_speaker"]}
    card = {
        **begun,
        "trained_alone": about,
        "calibrated_from": begun["ensemble_id"],
        "centred": scores,
        "scores": {**begun.get("scores", {}), "headline": headline},
    }
    card["ensemble_id"] = fingerprint(card)
    (out / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
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
