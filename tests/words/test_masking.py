"""Numbers are masked, in digits and in words; what is no number stays."""

from __future__ import annotations

import pytest
from transcript_formats import SPOKEN

from callanalytics.analysis.words import Piece, Word
from callanalytics.analysis.words.masking import MASK, mask_numbers
from callanalytics.analysis.words.sides import placed


def masked(text: str) -> str:
    return " ".join(
        word.text for word in mask_numbers([Word(part) for part in text.split()]) if word is not None
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("my card is 4111 1111 1111 1111 thanks", "my card is [number] thanks"),
        ("it is 4111-1111-1111-1111.", "it is [number]."),
        ("four one one one, one one one one", "[number]"),
        ("call me on +44 20 7946 0958 please", "call me on [number] please"),
        ("oh two oh seven nine four six uh oh nine five eight", "[number]"),
        ("double four triple seven", "[number]"),
        ("the code is three seven two", "the code is [number]"),
        ("the code is 372", "the code is [number]"),
        ("four won for to", "four won for to"),
        ("six four won for two nine", "[number]"),
        ("born on the fifth of May nineteen eighty", "born on the [number]"),
        ("born on May 5th, 1980, in Leeds", "born on [number], in Leeds"),
        ("born 12/05/1980", "born [number]"),
        ("in two thousand and five", "in [number]"),
        ("forty-one eleven", "[number]"),
        ("geboren am fünften Mai neunzehnhundertachtzig", "geboren am [number]"),
        ("die Nummer ist null eins sieben zwei, vier", "die Nummer ist [number]"),
        ("einundzwanzig dreiundvierzig", "[number]"),
        ("nací el cinco de mayo de mil novecientos ochenta", "nací el [number]"),
        ("mi número es seis tres cuatro", "mi número es [number]"),
        ("１２３４ in wide digits", "[number] in wide digits"),
        ("four five and then, I think, nine", "four five and then, I think, nine"),
        ("this is the third time I call", "this is the third time I call"),
        ("five minutes ago", "five minutes ago"),
        ("twenty five minutes", "twenty five minutes"),
        ("one moment please", "one moment please"),
        ("I may call you in the second week", "I may call you in the second week"),
        ("ein Moment und noch eine Frage", "ein Moment und noch eine Frage"),
        ("", ""),
    ],
)
def test_numbers_are_masked_and_words_stay(text: str, expected: str) -> None:
    assert masked(text) == expected


def test_a_number_is_masked_across_its_pauses() -> None:
    """Two groups of two digits, each its own utterance: neither is kept."""
    groups = [("four", 11.0), ("five", 11.4), ("six", 13.5), ("seven", 13.9), ("please", 17.2)]
    pieces = [Piece("x", at, at + 0.3, (Word(text, at, at + 0.3, 0.8),), timed=True) for text, at in groups]
    found = placed(pieces, SPOKEN, "deepgram")
    assert [u.text for u in found] == [MASK, "please"]
    assert found[0].word_start_s == (11.0,)


def test_numbers_far_apart_are_numbers_of_their_own() -> None:
    pieces = [Piece("x", at, at + 0.3, (Word("two", at, at + 0.3),), timed=True) for at in (4.0, 5.0, 18.0)]
    assert [u.text for u in placed(pieces, SPOKEN, "deepgram")] == ["two two", "two"]


def test_a_placed_transcript_holds_no_digit_of_its_numbers() -> None:
    text = "my number is 0 1 7 2 5 5 5 and my birthday is 5 May 1980"
    piece = Piece(None, 4.0, 7.5, tuple(Word(part) for part in text.split()))
    (found,) = placed([piece], SPOKEN, "srt")
    assert found.text == "my number is [number] and my birthday is [number]"
