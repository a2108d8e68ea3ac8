"""Calls that espeak-ng speaks line by line, with the times of every line: the caller is on the left."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import time
from pathlib import Path

import numpy as np
import soundfile

from callanalytics.demo.script import Agent, Call, Voice
from callanalytics.demo.synthetic_voices import speak_calls
from callanalytics.records import Role

RATE_HZ = 8_000
GAP_S = 1.6


@dataclass(frozen=True)
class Spoken:
    role: Role
    start_s: float
    end_s: float
    text: str


def spoken_call(path: Path, *lines: str, seed: int = 0) -> list[Spoken]:
    """Write a stereo call of lines such as "C: hello" and "A: good morning", `GAP_S` between them."""
    dialogue = "\n".join(lines)
    call = Call(
        *("test", "generic", time(10), "q", "1"),
        agent=Agent("a", "Anna", Voice("en+f2", 150, 50)),
        caller=Voice("en+m3", 150, 35),
        number="",
        dialogue=dialogue,
    )
    (sounds,) = speak_calls((call,))
    gap = round(GAP_S * RATE_HZ)
    n_samples = gap + sum(len(sound) + gap for sound in sounds)
    sides = np.random.default_rng(seed).normal(0, 1e-3, (n_samples, 2)).astype(np.float32)
    at, said = gap, []
    for line, sound in zip(lines, sounds, strict=True):
        role = Role.CALLER if line.startswith("C") else Role.AGENT
        sides[at : at + len(sound), int(role is Role.AGENT)] += sound
        said.append(Spoken(role, at / RATE_HZ, (at + len(sound)) / RATE_HZ, line.split(": ", 1)[1]))
        at += len(sound) + gap
    soundfile.write(path, np.clip(sides, -1, 1), RATE_HZ, subtype="PCM_16")
    return said
