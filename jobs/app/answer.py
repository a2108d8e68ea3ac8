"""What the Try page says about an utterance, with every number finished for its template."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ensemble.inference.ensemble import Ensemble
from ensemble.inference.spectrogram import FrontEnd, log_mel
from ensemble.inference.vote import LOW_AGREEMENT, LOW_CONFIDENCE, NOT_SPEECH, TOO_SHORT
from jobs.app.utterance import Utterance
from reports.formatting import number, percent, plain_number, whole_number
from reports.palette import Badge, badge
from reports.timeline import Tick, place
from reports.translation import _, plural

if TYPE_CHECKING:
    from callanalytics.records import FloatArray

BOX_WIDTH, BOX_HEIGHT = 1000.0, 100.0
N_COLUMNS = 500  # of the waveform: finer than any screen of a phone, a few kilobytes of path
MAX_PICTURE_FRAMES = 1500
# Dark to light with even steps of lightness, readable without colour. Points of matplotlib's "magma"
# (S. van der Walt and N. Smith, 2015, CC0), between which colours are mixed.
_MAGMA = ((0, 0, 4), (59, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191))


@dataclass(frozen=True, slots=True)
class Bar:
    """One emotion with its probability; `width` is a CSS percentage."""

    badge: Badge
    share: str
    width: str
    chosen: bool


@dataclass(frozen=True, slots=True)
class Opinion:
    """One member's vote and everything it thinks likely."""

    member: str
    architecture: str
    badge: Badge
    share: str
    agrees: bool
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """The finished view of one utterance."""

    badge: Badge
    headline: str
    why: str
    aim: str
    bars: tuple[Bar, ...]
    opinions: tuple[Opinion, ...]
    waveform: str
    spectrogram: str
    ticks: tuple[Tick, ...]
    caption: str
    facts: tuple[str, ...]


def answer(utterance: Utterance, ensemble: Ensemble, *, target: str | None = None) -> Answer:
    """Finish the view of a classified utterance. `target` is the emotion the speaker aimed at."""
    votes = utterance.votes
    named, top = votes.emotion(0), votes.labels[int(votes.top_index[0])]
    confidence, n_members = float(votes.confidence[0]), len(votes.member_names)
    n_agree = round(float(votes.agreement[0]) * n_members)
    mean = {label: float(p) for label, p in zip(votes.labels, votes.mean_probabilities[0], strict=True)}
    opinions = tuple(_opinion(utterance, ensemble, m, top) for m in range(n_members))
    agreed = _("{n} of {all} models agree").format(n=n_agree, all=n_members)
    agreed = agreed if n_members > 1 else _("one model alone")
    sure = _("{share} confident, {agreed}.").format(share=percent(confidence), agreed=agreed)
    tie = " " + _("A tie was broken by the mean probability.") if votes.tie_broken[0] else ""
    loudest = _("loudest part {level} dB below full scale").format(level=_db(utterance.loudest_db))
    return Answer(
        badge=badge(named),
        headline=capitalised(badge(named).name),
        why=sure + tie
        if named
        else why_abstained(votes.abstain_reason[0], ensemble, top, confidence, n_agree),
        aim=_aim(target, named, top, mean),
        bars=_bars(mean, top),
        opinions=opinions,
        waveform=waveform_path(utterance.samples),
        spectrogram=spectrogram_png(utterance.samples, ensemble.front),
        ticks=second_ticks(utterance.duration_s),
        caption=_("Waveform and spectrogram of {seconds} s of sound.").format(
            seconds=number(utterance.duration_s)
        ),
        facts=(
            _("{seconds} s of sound, {speech} s speech").format(
                seconds=number(utterance.duration_s), speech=number(utterance.speech_s)
            ),
            loudest,
            utterance.origin,
            _("answered in {ms} ms").format(ms=whole_number(round(utterance.wall_s * 1000))),
            _("ensemble {id}").format(id=ensemble.ensemble_id),
        ),
    )


def _db(level_db: float) -> str:
    """A level without its sign."""
    return whole_number(round(abs(level_db)))


def capitalised(text: str) -> str:
    """The text as the beginning of a sentence."""
    return text[:1].upper() + text[1:]


def second_ticks(duration_s: float) -> tuple[Tick, ...]:
    """Seconds under a short recording, at most nine of them, and its length at the end."""
    step_s = next(step for step in (1, 2, 5, 10, 20) if duration_s / step <= 8 or step == 20)
    inner = [at for at in range(0, int(duration_s) + 1, step_s) if duration_s - at > 0.5 * step_s]
    ticks = [Tick(place(at, duration_s), str(at), "middle" if at else "start") for at in inner]
    return (*ticks, Tick("100%", f"{number(duration_s)} s", "end"))


def why_abstained(reason: str | None, ensemble: Ensemble, top: str, confidence: float, n_agree: int) -> str:
    """Why no emotion is named, in a sentence with the numbers that decided it."""
    thresholds, n_members = ensemble.thresholds, len(ensemble.member_names)
    leaning = _("It leaned towards {emotion}").format(emotion=badge(top).name)
    if reason == LOW_CONFIDENCE:
        return _(
            "{leaning}, but only {share} confident; a label needs {least}. Below that it would be wrong too "
            "often."
        ).format(leaning=leaning, share=percent(confidence), least=percent(thresholds.confidence))
    if reason == LOW_AGREEMENT:
        needed = int(np.ceil(thresholds.agreement * n_members - 1e-6))
        return plural(
            "{leaning}, but only {n} of {all} models agrees; a label needs {least}.",
            "{leaning}, but only {n} of {all} models agree; a label needs {least}.",
            n_agree,
        ).format(leaning=leaning, n=n_agree, all=n_members, least=needed)
    if reason == TOO_SHORT:
        text = _("Too little speech: at least {seconds} s are needed. Speak a whole sentence.")
        return text.format(seconds=plain_number(thresholds.shortest_s))
    if reason == NOT_SPEECH:
        text = _("Nothing is louder than {level} dB below full scale.")
        return text.format(level=_db(thresholds.quietest_db))
    return _("The ensemble names no emotion here.")


def _aim(target: str | None, named: str | None, top: str, mean: Mapping[str, float]) -> str:
    if target is None:
        return ""
    aimed, heard = badge(target).name, badge(named).name
    if target not in mean:
        return _("You aimed for {emotion}, which this ensemble cannot name.").format(emotion=aimed)
    share = percent(mean[target])
    if named == target:
        return _("You aimed for {emotion}: recognised.").format(emotion=aimed)
    if named is None:
        text = _("You aimed for {emotion}: it was given {share}, and no label was named.")
        return text.format(emotion=aimed, share=share)
    text = _("You aimed for {emotion}, but it was classified as {other}; {emotion} was given {share}.")
    return text.format(emotion=aimed, other=heard, share=share)


def _bars(shares: Mapping[str, float], chosen: str) -> tuple[Bar, ...]:
    return tuple(
        Bar(badge(label), percent(share), f"{100 * share:.1f}%", label == chosen)
        for label, share in shares.items()
    )


def _opinion(utterance: Utterance, ensemble: Ensemble, member: int, top: str) -> Opinion:
    votes = utterance.votes
    shares = {label: float(p) for label, p in zip(votes.labels, votes.probabilities[member, 0], strict=True)}
    choice = max(shares, key=lambda label: shares[label])
    name = votes.member_names[member]
    entries: Any = ensemble.card["members"]
    kind = next((str(e["architecture"]) for e in entries if e["name"] == name), name)
    return Opinion(name, kind, badge(choice), percent(shares[choice]), choice == top, _bars(shares, choice))


def waveform_path(samples: FloatArray) -> str:
    """SVG path of the envelope of (n,) samples in a box of 1000 x 100, scaled to the loudest sample."""
    if not len(samples):
        return ""
    edges = np.linspace(0, len(samples), min(N_COLUMNS, len(samples)) + 1).astype(int)
    high = np.maximum.reduceat(samples, edges[:-1])
    low = np.minimum.reduceat(samples, edges[:-1])
    scale = BOX_HEIGHT / 2 / max(float(np.abs(samples).max()), 1e-6)
    x = (edges[:-1] + edges[1:]) / 2 / len(samples) * BOX_WIDTH
    upper = [f"{a:.1f} {BOX_HEIGHT / 2 - b * scale:.1f}" for a, b in zip(x, high, strict=True)]
    lower = [f"{a:.1f} {BOX_HEIGHT / 2 - b * scale:.1f}" for a, b in zip(x[::-1], low[::-1], strict=True)]
    return f"M{'L'.join(upper)}L{'L'.join(lower)}Z"


def spectrogram_png(samples: FloatArray, front: FrontEnd) -> str:
    """The log-mel spectrogram that the members get (before trimming), as a data: address of a PNG.

    One pixel a frame (10 ms) and mel band, low bands at the bottom; black is `range_db` below the peak.
    """
    from PIL import Image

    mel = log_mel(samples, front)
    mel = mel[:: -(-len(mel) // MAX_PICTURE_FRAMES)]
    shade = np.clip((mel - mel.max()) / front.range_db + 1.0, 0.0, 1.0)
    picture = Image.fromarray((shade.T[::-1] * 255).round().astype(np.uint8), mode=None)
    picture = picture.convert("P") if picture.mode != "P" else picture
    picture.putpalette(_palette())
    out = io.BytesIO()
    picture.save(out, format="PNG")
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _palette() -> list[int]:
    points = np.array(_MAGMA, dtype=float)
    at = np.linspace(0, len(points) - 1, 256)
    mixed = np.stack([np.interp(at, np.arange(len(points)), points[:, c]) for c in range(3)], axis=1)
    return [int(value) for value in mixed.round().ravel()]
