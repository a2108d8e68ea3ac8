"""Rules of config.toml -> reasons in plain language, with moments to listen to. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from callanalytics.analysis.frustration import (
    HALF_AROUSAL_DB,
    HALF_AROUSAL_ST,
    Curve,
    FloatArray,
    is_of_voice,
)
from callanalytics.analysis.interruptions import interruptions
from callanalytics.analysis.measures import period_bounds
from callanalytics.analysis.words import NO_WORDS, CallWords
from callanalytics.config import ONE_OF_THE_VOICES, PHRASE, RuleSettings
from callanalytics.diarize.segments import merge_intervals
from callanalytics.records import Diarization, Escalation, Evidence, Measure, Role, Segment

MAX_EVIDENCE = 3
# Moments closer than this are one moment to a listener.
APART_S = 8.0
MAX_RISE = 2.0  # half-arousal steps


def escalations(
    rules: Sequence[RuleSettings],
    measures: Sequence[Measure],
    diarization: Diarization,
    segments: Sequence[Segment],
    curve: Curve,
    duration_s: float,
    words: CallWords = NO_WORDS,
) -> tuple[Escalation, ...]:
    """The rules that a call fulfils, in the order of the configuration.

    A rule needs `min_evidence_s` labelled seconds of its side in its window before it can fire. A measure
    that is not known fulfils no rule. That something is not said is known only of a side that speaks in a
    call whose words are known as a whole.

    Args:
        curve: of the caller, or of a voice of unknown role (`Curve.voice`) that measures, diarization and
            segments present as the caller.
    """
    value_of = {(m.name, m.role, m.period): m.value for m in measures}
    found = []
    for rule in rules:
        role = None if rule.role == "any" else Role(rule.role)
        hits: tuple[_Hit, ...] = ()
        if rule.measure == PHRASE:
            hits = _said(rule, role, words, duration_s)
            value = _times_said(rule, role, hits, words, curve)
        else:
            value = value_of.get((rule.measure, role, rule.window))
        labelled_s = value_of.get(("labelled_s", role, rule.window)) or 0.0
        if value is None or (value < rule.at_least) is not rule.negate:
            continue
        if role is not None and labelled_s < rule.min_evidence_s:
            continue
        if rule.measure == PHRASE:
            evidence = tuple(hit.evidence for hit in hits[:MAX_EVIDENCE])
        else:
            evidence = _evidence(rule, role, diarization, segments, curve, duration_s)
        found.append(
            Escalation(
                rule=rule.name,
                weight=rule.weight,
                value=float(value),
                threshold=rule.at_least,
                reason=rule.words(
                    value,
                    _moment_s(rule, evidence, curve),
                    role_known=role is not Role.CALLER or curve.voice is None,
                    said=hits[0].quote if hits else "",
                ),
                evidence=evidence,
            )
        )
    return tuple(found)


@dataclass(frozen=True, slots=True)
class _Hit:
    """A place where something that a rule looks for is said."""

    quote: str
    evidence: Evidence


def _said(rule: RuleSettings, role: Role | None, words: CallWords, duration_s: float) -> tuple[_Hit, ...]:
    """Where the role says in the window what the rule looks for, in order of time."""
    begin_s, finish_s = period_bounds(duration_s)[rule.window]
    hits = []
    for utterance in words.utterances:
        if role not in (None, utterance.role):
            continue
        for match in rule.said().finditer(utterance.text):
            start_s, end_s = utterance.between(match.start(), match.end())
            if begin_s <= start_s < finish_s:
                who = "somebody" if utterance.role is Role.UNKNOWN else utterance.role.value
                quote = utterance.around(match.start(), match.end())
                hits.append(_Hit(quote, Evidence(start_s, end_s, f"{who} says “{quote}”")))
    return tuple(hits)


def _times_said(
    rule: RuleSettings, role: Role | None, hits: Sequence[_Hit], words: CallWords, curve: Curve
) -> float | None:
    """How often it is said; None where that is not known."""
    if not words.utterances or not rule.negate:
        return float(len(hits)) if words.utterances else None
    speaks = role is None or any(utterance.role is role for utterance in words.utterances)
    known = words.whole and speaks and (role is not Role.CALLER or curve.voice is None)
    return float(len(hits)) if known else None


def is_flagged(found: Sequence[Escalation], flag_weight: float) -> bool:
    """A call is flagged when the weights of its fulfilled rules reach `flag_weight`."""
    return sum(e.weight for e in found) >= flag_weight - 1e-9


def _moment_s(rule: RuleSettings, evidence: Sequence[Evidence], curve: Curve) -> float | None:
    """Time for the reason's {at}: the peak of the curve for a rule about it, else the first evidence.

    None where a rule has no moment, such as one on a share of the call.
    """
    if rule.measure in {"frustration", "frustration_peak"} and curve.peak_s is not None:
        return curve.peak_s
    return evidence[0].start_s if evidence else None


def _evidence(
    rule: RuleSettings,
    role: Role | None,
    diarization: Diarization,
    segments: Sequence[Segment],
    curve: Curve,
    duration_s: float,
) -> tuple[Evidence, ...]:
    """The moments that show why a rule fired, at most three, in time order."""
    if rule.measure in {"interruptions", "interruptions_s"} and role is not None:
        hits = interruptions(diarization, role)[:MAX_EVIDENCE]
        who = role if role is Role.AGENT or curve.voice is None else ONE_OF_THE_VOICES
        return tuple(
            Evidence(max(0.0, at - 2.0), at + over_s + 2.0, f"{who} talks over {role.other}")
            for at, over_s in hits
        )
    if rule.measure in {"longest_silence_s", "silence_s", "silence_share", "n_long_silences"}:
        return _longest_silence(diarization, duration_s)
    if role is not Role.CALLER:
        return ()
    if rule.measure in {"loudness_rise_db", "pitch_rise_st"}:
        begin_s, finish_s = period_bounds(duration_s)[rule.window]
        inside = (curve.at_s >= begin_s) & (curve.at_s < finish_s)
        return _moments(segments, curve, np.where(inside, _raised(curve), 0.0), _raised_text)
    return _moments(segments, curve, curve.level, _frustrated_text)


def frustrated_moments(segments: Sequence[Segment], curve: Curve) -> tuple[Evidence, ...]:
    """Where a voice is most frustrated, at most three moments in time order, whether a rule fired or not.

    Args:
        segments: all of the call; those of `curve.voice`, or of the caller where that is None, are looked at.
    """
    if curve.score is None:
        return ()
    mine = [replace(s, role=Role.CALLER) for s in segments if is_of_voice(s, curve.voice)]
    return _moments(mine, curve, curve.level, _frustrated_text)


def _moments(
    segments: Sequence[Segment], curve: Curve, by: FloatArray, text: Callable[[Curve, int], str]
) -> tuple[Evidence, ...]:
    """The segments of the voice where `by` (n,) is highest and above zero, at least `APART_S` apart."""
    mine = [s for s in segments if s.role is Role.CALLER]
    chosen: list[int] = []
    for index in np.argsort(-by, kind="stable"):
        if len(chosen) == MAX_EVIDENCE or by[index] <= 0:
            break
        if all(abs(curve.at_s[index] - curve.at_s[other]) >= APART_S for other in chosen):
            chosen.append(int(index))
    return tuple(Evidence(mine[i].start_s, mine[i].end_s, text(curve, i)) for i in sorted(chosen))


def _raised(curve: Curve) -> FloatArray:
    """Rise of the voice, louder and higher together, (n,).

    Both for either rule, so that their moments are the same; each capped, since a pitch an octave too
    high is more often an error than a shout.
    """
    louder = np.clip(np.nan_to_num(curve.loudness_rise_db) / HALF_AROUSAL_DB, 0.0, MAX_RISE)
    higher = np.clip(np.nan_to_num(curve.pitch_rise_st) / HALF_AROUSAL_ST, 0.0, MAX_RISE)
    raised: FloatArray = (louder + higher).astype(np.float32)
    return raised


def _frustrated_text(curve: Curve, index: int) -> str:
    return ", ".join((f"frustration {curve.level[index]:.0%}", *_rises(curve, index)))


def _raised_text(curve: Curve, index: int) -> str:
    return ", ".join(_rises(curve, index)) or "voice raised"


def _rises(curve: Curve, index: int) -> list[str]:
    rises = []
    if np.isfinite(curve.loudness_rise_db[index]) and curve.loudness_rise_db[index] >= 1:
        rises.append(f"{curve.loudness_rise_db[index]:.0f} dB louder than when calm")
    if np.isfinite(curve.pitch_rise_st[index]) and curve.pitch_rise_st[index] >= 1:
        rise = f"{curve.pitch_rise_st[index]:.0f}"
        rises.append(f"{rise} semitone{'' if rise == '1' else 's'} higher")
    return rises


def _longest_silence(diarization: Diarization, duration_s: float) -> tuple[Evidence, ...]:
    busy = merge_intervals(
        [(t.start_s, t.end_s) for t in diarization.turns] + [(s.start_s, s.end_s) for s in diarization.sounds]
    )
    starts = np.concatenate(([0.0], busy[:, 1]))
    ends = np.concatenate((busy[:, 0], [duration_s]))
    longest = int(np.argmax(ends - starts))
    return (Evidence(float(starts[longest]), float(ends[longest]), "nobody speaks"),)
