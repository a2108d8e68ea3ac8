"""Rules of config.toml -> reasons in plain words, with the moments to hear. Pure, no I/O."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from callanalytics.config import RuleSettings
from callanalytics.frustration import Curve
from callanalytics.measures import interruptions
from callanalytics.records import Diarization, Escalation, Evidence, Measure, Role, Segment
from callanalytics.segment import merge_intervals

MAX_EVIDENCE = 3
# Moments closer than this are one moment to a listener.
APART_S = 8.0


def escalations(
    rules: Sequence[RuleSettings],
    measures: Sequence[Measure],
    diarization: Diarization,
    segments: Sequence[Segment],
    curve: Curve,
    duration_s: float,
) -> tuple[Escalation, ...]:
    """The rules that a call fulfils, in the order of the configuration.

    A rule needs `min_evidence_s` labelled seconds of its side in its window before it may judge.
    """
    value_of = {(m.name, m.role, m.period): m.value for m in measures}
    found = []
    for rule in rules:
        role = None if rule.role == "any" else Role(rule.role)
        value = value_of.get((rule.measure, role, rule.window))
        heard_s = value_of.get(("labelled_s", role, rule.window)) or 0.0
        if value is None or value < rule.at_least or (role is not None and heard_s < rule.min_evidence_s):
            continue
        evidence = _evidence(rule, role, diarization, segments, curve, duration_s)
        found.append(
            Escalation(
                rule=rule.name,
                weight=rule.weight,
                value=float(value),
                threshold=rule.at_least,
                reason=rule.words(value, _moment_s(rule, evidence, curve)),
                evidence=evidence,
            )
        )
    return tuple(found)


def is_flagged(found: Sequence[Escalation], flag_weight: float) -> bool:
    """A call is flagged when the weights of its fulfilled rules reach `flag_weight`."""
    return sum(e.weight for e in found) >= flag_weight - 1e-9


def _moment_s(rule: RuleSettings, evidence: Sequence[Evidence], curve: Curve) -> float:
    """When the words point at: the peak of the curve for a rule about it, else the first evidence."""
    if rule.measure in {"frustration", "frustration_peak"} and curve.peak_s is not None:
        return curve.peak_s
    return evidence[0].start_s if evidence else 0.0


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
        return tuple(
            Evidence(max(0.0, at - 2.0), at + over_s + 2.0, f"{role} talks over {role.other}")
            for at, over_s in hits
        )
    if rule.measure in {"longest_silence_s", "silence_s", "silence_share", "n_long_silences"}:
        return _longest_silence(diarization, duration_s)
    if role is Role.CALLER:
        return _frustrated_moments(segments, curve)
    return ()


def _frustrated_moments(segments: Sequence[Segment], curve: Curve) -> tuple[Evidence, ...]:
    """The caller's segments with the highest level, at least `APART_S` apart."""
    mine = [s for s in segments if s.role is Role.CALLER]
    chosen: list[int] = []
    for index in np.argsort(-curve.level, kind="stable"):
        if len(chosen) == MAX_EVIDENCE or curve.level[index] <= 0:
            break
        if all(abs(curve.at_s[index] - curve.at_s[other]) >= APART_S for other in chosen):
            chosen.append(int(index))
    return tuple(Evidence(mine[i].start_s, mine[i].end_s, _moment_words(curve, i)) for i in sorted(chosen))


def _moment_words(curve: Curve, index: int) -> str:
    words = [f"frustration {curve.level[index]:.0%}"]
    if np.isfinite(curve.loudness_rise_db[index]) and curve.loudness_rise_db[index] >= 1:
        words.append(f"{curve.loudness_rise_db[index]:.0f} dB louder than when calm")
    if np.isfinite(curve.pitch_rise_st[index]) and curve.pitch_rise_st[index] >= 1:
        words.append(f"{curve.pitch_rise_st[index]:.0f} semitones higher")
    return ", ".join(words)


def _longest_silence(diarization: Diarization, duration_s: float) -> tuple[Evidence, ...]:
    busy = merge_intervals(
        [(t.start_s, t.end_s) for t in diarization.turns] + [(s.start_s, s.end_s) for s in diarization.sounds]
    )
    starts = np.concatenate(([0.0], busy[:, 1]))
    ends = np.concatenate((busy[:, 0], [duration_s]))
    longest = int(np.argmax(ends - starts))
    return (Evidence(float(starts[longest]), float(ends[longest]), "nobody speaks"),)
