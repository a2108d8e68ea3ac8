"""The bench as a table: rows made of folds, best on unknown speakers first; Markdown and one HTML page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ensemble.baselines.bench import Protocol, uses_wav2vec
from ensemble.baselines.encoders import CAMPPLUS_NOTE, STAND_IN, WHISPER_NOTE
from ensemble.baselines.systems import Figure, System
from ensemble.evaluation import interval_by_speaker, measures
from ensemble.evaluation.model_card import interval, percent, render_template
from ensemble.members import VOICE_MEMBER

RANDOM_WARNING = (
    "Random split: the same speakers are in training and in test. Such figures say nothing about unknown "
    "callers and are here only beside the documents' own."
)
MISSING = "A row without figures has not run yet: the command runs what is missing and keeps what is there."
HEAD = (
    *("system", "study", "document", "document's protocol here, WA", "UAR"),
    *("unknown speakers, UAR", "95 %", "WA", "parameters", "training, s", "effort"),
)


@dataclass(frozen=True, slots=True)
class Result:
    """All finished folds of one system under one protocol. Shares 0..1; ``confusion`` row: truth."""

    split: str
    n: int
    wa: float
    uar: float
    interval: tuple[float, float] | None
    labels: tuple[str, ...]
    confusion: tuple[tuple[int, ...], ...]
    n_done: int
    n_folds: int
    effort: str
    n_parameters: int | None = None
    train_s: float | None = None
    training_accuracy: float | None = None
    n_bf16: int = 0
    """Folds whose networks were trained in bfloat16."""


@dataclass(frozen=True, slots=True)
class Row:
    """A system in the table; a result is None when no fold of it has run."""

    name: str
    title: str
    study: str
    figure: Figure | None
    random: Result | None = None
    speaker: Result | None = None
    notes: tuple[str, ...] = field(default=())


def result_of(folds: Sequence[Mapping[str, Any]], system: System, protocol: Protocol) -> Result | None:
    """Folds pooled: every test clip counts once."""
    if not folds:
        return None
    labels = tuple(folds[0]["labels"])
    truth = np.concatenate([np.array(fold["truth"], dtype=np.int64) for fold in folds])
    guess = np.concatenate([np.array(fold["guess"], dtype=np.int64) for fold in folds])
    speakers = [speaker for fold in folds for speaker in fold["speakers"]]
    found = measures(truth, guess, labels)
    leaks = protocol == "random" and system.own.kind == "random"
    copies = leaks and system.own.copies_before_split
    random = "RANDOM, augmented copies of test clips in training" if copies else "RANDOM, speakers leak"
    several = not leaks and len(set(speakers)) > 1
    return Result(
        split=random if leaks else "by speaker",
        n=found["n"],
        wa=found["wa"],
        uar=found["uar"],
        interval=interval_by_speaker(truth, guess, speakers)["uar"] if several else None,
        labels=labels,
        confusion=tuple(tuple(row) for row in found["confusion"]),
        n_done=len(folds),
        n_folds=int(folds[0]["n_folds"]),
        effort=str(folds[0]["effort"]),
        n_parameters=int(folds[0]["n_parameters"]),
        train_s=float(np.mean([fold["train_s"] for fold in folds])),
        training_accuracy=float(np.mean([np.mean(fold["training_accuracy"]) for fold in folds])),
        n_bf16=sum(bool(fold.get("bf16")) for fold in folds),
    )


def row_of(system: System, random: Result | None, speaker: Result | None, *, checkpoint: bool) -> Row:
    """The row of a system of a study; its notes say by how much the document's figure is missed, and why."""
    notes = []
    if uses_wav2vec(system) and not checkpoint:
        notes.append(STAND_IN)
    encoders = {"whisper": WHISPER_NOTE, "campplus": CAMPPLUS_NOTE}
    notes += [encoders[name] for name in system.features if name in encoders]
    if random and system.figure.percent is not None:
        gap = 100 * getattr(random, system.figure.measure) - system.figure.percent
        notes.append(
            f"{abs(gap):.1f} points {'above' if gap >= 0 else 'below'} its document ({system.figure.on})"
        )
        if gap < 0:
            notes += _shortenings(random)
            notes += system.differs
    elif random:
        notes += _shortenings(random)
    if random and random.split.startswith("RANDOM, augmented"):
        notes.append("its document split augmented copies at random: copies of test clips were trained on")
    if any(result and result.n_bf16 for result in (random, speaker)):
        notes.append("trained in bfloat16")
    return Row(system.name, system.title, system.study, system.figure, random, speaker, tuple(notes))


def _shortenings(result: Result) -> list[str]:
    return [] if result.effort == "full" else [f"effort '{result.effort}': fewer epochs, trials and voters"]


def ensemble_rows(found: Mapping[str, Any], n_parameters: Mapping[str, int]) -> list[Row]:
    """Rows of our own ensemble from ``crossval.json``, each clip alone and with the speaker known.

    ``n_parameters`` by member. A file of a random split fills the random column, and only that.
    """
    rows = []
    leaks = not str(found["split"]).startswith("by speaker")
    known_by = {"clip": "each clip alone", "speaker": "normalised by the speaker's other clips, unlabelled"}
    for known, how in known_by.items():
        report = found.get("clean", {}).get(known)
        if report is None:
            continue
        result = Result(
            split="RANDOM, speakers leak" if leaks else "by speaker",
            n=report["n"],
            wa=report["wa"],
            uar=report["uar"],
            interval=None if leaks else report["interval_95"]["uar"] and tuple(report["interval_95"]["uar"]),
            labels=tuple(found["labels"]),
            confusion=tuple(tuple(row) for row in report["confusion"]),
            n_done=found["n_folds"],
            n_folds=found["n_folds"],
            effort="full",
            n_parameters=sum(n_parameters.values()) or None,
        )
        others = [CAMPPLUS_NOTE] if VOICE_MEMBER in report["member_uar"] else []
        members = ", ".join(f"{name} {100 * uar:.1f}" for name, uar in report["member_uar"].items())
        rows.append(
            Row(
                f"ensemble{', heads' if found.get('heads_of') else ''} ({known})",
                f"vote of {', '.join(report['member_uar'])}: {how}",
                "ours",
                None,
                result if leaks else None,
                None if leaks else result,
                (f"UAR of its members: {members}", *_conditions(found), *others),
            )
        )
    return rows


def _conditions(found: Mapping[str, Any]) -> list[str]:
    """What sets our figure apart from the studies' systems, which start untrained on these clips alone."""
    out = []
    if found.get("begun_from"):
        out.append(
            f"not from scratch: every fold begins from the weights of ensemble {found['begun_from']}, learnt "
            "on other corpora, while the studies' systems learn from these clips alone"
        )
    if found.get("heads_of"):
        left_out = "; left out, since trained on these clips: " + ", ".join(found["left_out"])
        beside = f"; trained beside {', '.join(found['beside'])}" if found["beside"] else ""
        out.append(
            f"heads alone: the bodies of ensemble {found['heads_of']}, learnt on other corpora, stay as they "
            f"are in every fold{left_out if found['left_out'] else ''}{beside}"
        )
    if found.get("sample_rate_hz"):
        out.append(f"sampled at {found['sample_rate_hz'] // 1000} kHz")
    return out


def ordered(rows: Sequence[Row]) -> list[Row]:
    """Best UAR on unknown speakers first; what has none follows in the order of the studies."""
    return sorted(rows, key=lambda row: -(row.speaker.uar if row.speaker else -1.0))


def cells(row: Row) -> tuple[str, ...]:
    """One row of the table as text, under HEAD."""
    random, speaker = row.random, row.speaker
    either = speaker or random
    efforts = {r.effort for r in (random, speaker) if r}
    return (
        row.name,
        row.study,
        "" if row.figure is None or row.figure.percent is None else f"{row.figure.percent:.1f}",
        percent(random.wa) if random else "",
        percent(random.uar) if random else "",
        (percent(speaker.uar) + _unfinished(speaker)) if speaker else "",
        interval(speaker.interval) if speaker else "",
        percent(speaker.wa) if speaker else "",
        f"{either.n_parameters:,}" if either and either.n_parameters else "",
        f"{either.train_s:.0f}" if either and either.train_s is not None else "",
        ", ".join(sorted(efforts)),
    )


def _unfinished(result: Result) -> str:
    return "" if result.n_done == result.n_folds else f" ({result.n_done} of {result.n_folds} folds)"


def table_page(name: str, rows: Sequence[Row], about: Mapping[str, str]) -> str:
    """Fill the template ``seeds.md`` or ``seeds.html``; the page has a confusion matrix for every result."""
    some_missing = any(row.random is None and row.speaker is None for row in rows)
    return render_template(
        "ensemble.baselines",
        name,
        head=HEAD,
        rows=[(row, cells(row), _matrices(row)) for row in ordered(rows)],
        about=about,
        warning=RANDOM_WARNING,
        missing=MISSING if some_missing else "",
    )


def _matrices(row: Row) -> list[tuple[str, Result, list[tuple[str, list[tuple[int, float]]]]]]:
    """(caption, result, rows of (label, (count, share of its row))) for each result of a row."""
    out = []
    for on, result in (("by its document's protocol", row.random), ("on unknown speakers", row.speaker)):
        if result is not None:
            shares = [
                (label, [(n, n / max(sum(counts), 1)) for n in counts])
                for label, counts in zip(result.labels, result.confusion, strict=True)
            ]
            out.append((f"{row.name}, {on} ({result.split}), {result.n} clips", result, shares))
    return out
