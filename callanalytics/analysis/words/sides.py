"""Whose words they are: pieces of a transcript placed on the turns of the call, masked and joined.

A label such as "agent", "spk_0" or a channel is never believed: it is the side whose turns it shares most
time with. Where a label shares too little with one side, each piece of it is placed by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from callanalytics.analysis.words import CallWords, Piece, Utterance, Word
from callanalytics.analysis.words.masking import mask_numbers
from callanalytics.analysis.words.transcripts import read_transcript
from callanalytics.diarize.segments import covered_s, merge_intervals
from callanalytics.errors import TranscriptError
from callanalytics.records import Diarization, Role
from callanalytics.records.text import display_text

# A label belongs to a side with this share of the time that it shares with any.
_CLEAR_SHARE = 0.6
# What shares less of its time with turns is not placed by them.
_SHARED = 0.3
# Less of the words in the call's turns than this: it is the transcript of another call.
_FITS_SHARE = 0.5
_WIDEN_S = 0.5  # recognisers cut words later and earlier than turns are found
_NEAR_S = 1.0
_PAUSE_S = 1.0  # a longer pause ends an utterance
_LONGEST_S = 20.0


@dataclass(frozen=True, slots=True)
class _Atom:
    """Words that are not divided: one word with times, or what a transcript times as a whole."""

    start_s: float
    end_s: float
    words: tuple[Word, ...]
    timed: bool
    confidence: float | None


def placed_transcript(
    paths: Sequence[Path],
    spoken: Diarization,
    *,
    max_bytes: int,
    follow_links: bool,
    beside: Collection[Path] = (),
) -> CallWords:
    """The words of the first transcript that can be used; without one, why the first one cannot.

    What is no transcript at all and lies in a folder of `beside` is a file of another kind.
    """
    note, real_folders = None, {folder.resolve() for folder in beside}
    for path in paths:
        try:
            source, pieces = read_transcript(path, max_bytes=max_bytes, follow_links=follow_links)
            return CallWords(placed(pieces, spoken, source), whole=True)
        except TranscriptError as problem:
            if problem.reason != "no_transcript" or path.parent not in real_folders:
                note = note or problem.reason
    return CallWords(note=note)


def placed(
    pieces: Sequence[Piece], spoken: Diarization, source: str, *, check: bool = True
) -> tuple[Utterance, ...]:
    """The utterances of a transcript in order of time, numbers masked, each with the voice that says it.

    Raises:
        TranscriptError: with `check`, less than half of it lies in the turns: it is of another call.
    """
    if check:
        _check_fit(pieces, spoken)
    turns = _Turns(spoken)
    found: list[Utterance] = []
    by_label: dict[str | None, list[Piece]] = defaultdict(list)
    for piece in pieces:
        by_label[piece.label].append(piece)
    for label, own in by_label.items():
        atoms = _masked([atom for piece in own for atom in _atoms(piece)])
        speakers = turns.of_label(atoms) if label is not None else turns.of_each(atoms)
        voices: dict[str | None, list[_Atom]] = defaultdict(list)
        for atom, speaker in zip(atoms, speakers, strict=True):
            voices[speaker].append(atom)
        for speaker, theirs in voices.items():
            role = Role.UNKNOWN if speaker is None else spoken.roles[speaker]
            found += [_utterance(group, speaker, role, source) for group in _joined(theirs)]
    return tuple(sorted(found, key=lambda u: (u.start_s, u.end_s, u.text)))


def _check_fit(pieces: Sequence[Piece], spoken: Diarization) -> None:
    start_s = np.array([piece.start_s for piece in pieces])
    end_s = np.array([piece.end_s for piece in pieces])
    turns = merge_intervals([(t.start_s - _WIDEN_S, t.end_s + _WIDEN_S) for t in spoken.turns])
    total_s = float((end_s - start_s).sum())
    inside_s = float(covered_s(turns, start_s, end_s).sum()) if len(turns) else 0.0
    if total_s > 0 and inside_s < _FITS_SHARE * total_s:
        raise TranscriptError(
            "other_call",
            f"{inside_s:.0f} of {total_s:.0f} s of the transcript lie where somebody speaks. It is of "
            "another call, or its times begin elsewhere.",
        )


def _atoms(piece: Piece) -> list[_Atom]:
    if piece.timed:
        return [
            _Atom(word.start_s or 0.0, word.end_s or 0.0, (word,), True, word.confidence)
            for word in piece.words
        ]
    return [_Atom(piece.start_s, piece.end_s, piece.words, False, piece.confidence)]


def _masked(atoms: Sequence[_Atom]) -> list[_Atom]:
    """The atoms without numbers; those of which nothing is left go."""
    flat = [
        replace(word, start_s=atom.start_s, end_s=atom.end_s) if not atom.timed else word
        for atom in atoms
        for word in atom.words
    ]
    masked = iter(mask_numbers(flat))
    result = []
    for atom in atoms:
        kept = tuple(word for word in (next(masked) for _ in atom.words) if word is not None)
        if kept:
            end_s = max(atom.end_s, kept[-1].end_s or 0.0) if atom.timed else atom.end_s
            result.append(replace(atom, words=kept, end_s=end_s))
    return result


class _Turns:
    """The turns of a call, asked whose an interval is."""

    def __init__(self, spoken: Diarization) -> None:
        self._roles = spoken.roles
        self._names = [turn.speaker for turn in spoken.turns]
        self._start_s = np.array([turn.start_s for turn in spoken.turns])
        self._end_s = np.array([turn.end_s for turn in spoken.turns])

    def of_each(self, atoms: Sequence[_Atom]) -> list[str | None]:
        """The speaker of each, who speaks during most of it, else the nearest; None far from any turn."""
        return [self._of(atom) for atom in atoms]

    def _of(self, atom: _Atom) -> str | None:
        shared = self._shared(atom)
        enough = sum(shared.values()) >= _SHARED * (atom.end_s - atom.start_s)
        if shared and enough:
            return self._most(shared)
        return self._nearest(atom) if atom.timed else None

    def of_label(self, atoms: Sequence[_Atom]) -> list[str | None]:
        """The speaker of each, all of one side where most of their time is shared with that side."""
        shared = [self._shared(atom) for atom in atoms]
        total: dict[str, float] = defaultdict(float)
        for seconds in shared:
            for speaker, shared_s in seconds.items():
                total[speaker] += shared_s
        sides: dict[str, float] = defaultdict(float)
        for speaker, shared_s in total.items():
            sides[self._side(speaker)] += shared_s
        side = max(sides, key=lambda name: sides[name], default=None)
        least_s = _SHARED * sum(atom.end_s - atom.start_s for atom in atoms)
        if side is None or sides[side] < max(_CLEAR_SHARE * sum(sides.values()), least_s):
            return self.of_each(atoms)
        own = {speaker: shared_s for speaker, shared_s in total.items() if self._side(speaker) == side}
        usual = max(own, key=lambda name: own[name])
        return [
            self._most({speaker: s for speaker, s in seconds.items() if speaker in own}) or usual
            for seconds in shared
        ]

    def _side(self, speaker: str) -> str:
        role = self._roles[speaker]
        return speaker if role is Role.UNKNOWN else role.value

    def _shared(self, atom: _Atom) -> dict[str, float]:
        """Seconds that an atom shares with the turns of each speaker."""
        shared = np.minimum(self._end_s, atom.end_s) - np.maximum(self._start_s, atom.start_s)
        seconds: dict[str, float] = defaultdict(float)
        for index in np.flatnonzero(shared > 0):
            seconds[self._names[index]] += float(shared[index])
        return seconds

    def _most(self, seconds: dict[str, float]) -> str | None:
        return max(seconds, key=lambda name: seconds[name], default=None)

    def _nearest(self, atom: _Atom) -> str | None:
        if not len(self._start_s):
            return None
        away = np.maximum(self._start_s - atom.end_s, atom.start_s - self._end_s)
        nearest = int(np.argmin(away))
        return self._names[nearest] if away[nearest] <= _NEAR_S else None


def _joined(atoms: Sequence[_Atom]) -> list[list[_Atom]]:
    """What one voice says without a long pause, together."""
    groups: list[list[_Atom]] = []
    for atom in sorted(atoms, key=lambda a: (a.start_s, a.end_s)):
        group = groups[-1] if groups else None
        if (
            group is not None
            and atom.start_s - group[-1].end_s <= _PAUSE_S
            and atom.end_s - group[0].start_s <= _LONGEST_S
        ):
            group.append(atom)
        else:
            groups.append([atom])
    return groups


def _utterance(group: Sequence[_Atom], speaker: str | None, role: Role, source: str) -> Utterance:
    words = [word for atom in group for word in atom.words]
    timed = all(atom.timed for atom in group)
    known = [atom.confidence for atom in group if atom.confidence is not None]
    return Utterance(
        speaker=speaker,
        role=role,
        start_s=group[0].start_s,
        end_s=max(atom.end_s for atom in group),
        text=" ".join(display_text(word.text) for word in words),
        source=source,
        confidence=sum(known) / len(known) if known else None,
        word_start_s=tuple(word.start_s or 0.0 for word in words) if timed else (),
        word_confidence=tuple(word.confidence for word in words) if timed and known else (),
    )
