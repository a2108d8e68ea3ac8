"""What was said in a call: words that somebody else transcribed, or that a local model recognised.

    transcript file -> `transcripts.read_transcript` -> pieces -> `sides.placed` -> utterances
    samples         -> `recogniser.Recogniser`       -> pieces -> `sides.placed` -> utterances

Nothing here is needed for anything else: a call without words is a whole call. Numbers are masked in
`sides.placed`, so that no utterance holds any.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from callanalytics.records import Diarization, Role

TRANSCRIPT_SUFFIXES = (".json", ".vtt", ".srt", ".txt")  # those that say most first
_WORDS_AROUND = 4  # of a phrase, when it is quoted
HEARD = "recognised"  # source of words that the local model recognised


@dataclass(frozen=True, slots=True)
class Word:
    """One word as it was written, with its own times where the transcript has them."""

    text: str
    start_s: float | None = None
    end_s: float | None = None
    confidence: float | None = None  # 0..1


@dataclass(frozen=True, slots=True)
class Piece:
    """Words that a transcript gives one after the other to one voice.

    `label` is what it calls the voice or the channel, None where it tells none apart. `timed`: every word
    has times of its own.
    """

    label: str | None
    start_s: float
    end_s: float
    words: tuple[Word, ...]
    timed: bool = False
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Utterance:
    """What one voice says without a long pause. Numbers are masked.

    `text` is its words joined by single spaces. `word_start_s` and `word_confidence` have an entry for each
    of them, and are empty where the source has none.
    """

    speaker: str | None  # of the call's turns, None where it belongs to none of them
    role: Role
    start_s: float
    end_s: float
    text: str
    source: str  # format of the transcript, or "recognised"
    confidence: float | None = None  # 0..1, mean of its words
    word_start_s: tuple[float, ...] = ()
    word_confidence: tuple[float | None, ...] = ()

    @property
    def words(self) -> list[str]:
        """The words, as many as `word_start_s` has entries where it has any."""
        return self.text.split(" ")

    def between(self, first: int, last: int) -> tuple[float, float]:
        """Start and end of the words that hold the characters `first` to `last` of the text, seconds.

        Without times of words those of the whole utterance.
        """
        if not self.word_start_s:
            return self.start_s, self.end_s
        begin, after = self.text.count(" ", 0, first), self.text.count(" ", 0, last) + 1
        end_s = self.word_start_s[after] if after < len(self.word_start_s) else self.end_s
        return self.word_start_s[begin], end_s

    def around(self, first: int, last: int) -> str:
        """The words that hold these characters with some before and after, without quotation marks."""
        words = self.words
        begin, after = self.text.count(" ", 0, first), self.text.count(" ", 0, last) + 1
        start, stop = max(0, begin - _WORDS_AROUND), min(len(words), after + _WORDS_AROUND)
        quote = " ".join(words[start:stop])
        for mark in "“”":
            quote = quote.replace(mark, '"')
        return "… " * (start > 0) + quote + " …" * (stop < len(words))


@dataclass(frozen=True, slots=True)
class CallWords:
    """The utterances of one call in order of time. `whole`: all of the call was transcribed.

    `note` says in a closed word why there are none, or not all: `NOTE_TEXT` has its meaning.
    """

    utterances: tuple[Utterance, ...] = field(default=(), repr=False)
    whole: bool = False
    note: str | None = None


NO_WORDS = CallWords()


def as_spoken_by(words: CallWords, spoken: Diarization) -> CallWords:
    """The words with the roles that their speakers have in `spoken`."""
    utterances = tuple(
        u if u.speaker is None else replace(u, role=spoken.roles.get(u.speaker, u.role))
        for u in words.utterances
    )
    return replace(words, utterances=utterances)


NOTE_TEXT = {
    "unreadable": "a transcript lies there that cannot be read",
    "too_large": "a transcript lies there that is larger than the limit",
    "no_transcript": "a file lies there whose format is that of no known transcript",
    "unknown_format": "a transcript lies there that is not as its format has it",
    "no_words": "the transcript holds no words with times",
    "other_call": "the transcript is of another call: its words lie where nobody speaks",
    "only_moments": "only the moments to listen to were recognised",
    "out_of_time": "the time for recognising words was used up",
    "not_recognised": "the recogniser failed on this call",
}
"""Closed words for why a call has no words, or not all, and what they mean."""
