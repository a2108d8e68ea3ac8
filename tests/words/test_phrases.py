"""Phrases and patterns of rules: what they find, and what is refused before it could take long."""

from __future__ import annotations

import pytest

from callanalytics.config.phrases import MAX_CHARS, phrase_pattern, safe_pattern


@pytest.mark.parametrize(
    ("phrase", "text", "is_found"),
    [
        ("cancel*", "I am cancelling it", True),
        ("cancel", "I am cancelling it", False),
        ("your manager", "get me Your -- MANAGER!", True),
        ("your manager", "your other manager", False),
        ("don't", "I don’t know", True),
        ("don’t", "I don't know", True),
        ("a.b", "a b", True),  # what stands between words is no pattern
    ],
)
def test_a_phrase_is_found_as_whole_words(phrase: str, text: str, is_found: bool) -> None:
    assert bool(phrase_pattern(("never said", phrase)).search(text)) is is_found


def test_phrases_without_words_and_too_long_ones_are_refused() -> None:
    with pytest.raises(ValueError, match=r"the phrase '\?!' holds no word"):
        phrase_pattern(("good", "?!"))
    phrase_pattern(("a" * 20 * MAX_CHARS,))
    with pytest.raises(ValueError, match="more than 10000 letters"):
        phrase_pattern(("a" * 20 * MAX_CHARS, "b"))


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        ("refund(?:ed)?", "REFUNDED", True),
        ("^ab+c$", "a" + 40 * "b" + "c", True),
        ("^ab+c$", "a" + 41 * "b" + "c", False),  # a repeat ends after forty
        ("^ab*?c$", "ac", True),
        ("^a{3}$", "aaa", True),
        ("^a{3}$", "aa", False),
        ("^a{2,}$", 40 * "a", True),
        ("^a{2,}$", "a", False),
        ("^a{,3}b", "aaab", True),
        (r"[^\]x]\d|yes", "a7", True),
        (r"[^\]x]\d|yes", "]7", False),
    ],
)
def test_a_pattern_finds_what_it_says(pattern: str, text: str, is_found: bool) -> None:
    assert bool(safe_pattern(pattern).search(text)) is is_found


@pytest.mark.parametrize(
    ("pattern", "says"),
    [
        ("a" * (MAX_CHARS + 1), "more than 500 letters"),
        ("abc\\", "cannot be read at '\\\\\\\\'"),
        ("(?=a)", "look-around"),
        ("(?i)a", "look-around"),
        ("(?P<name>a)", "look-around"),
        (r"(a)\1", r"\\1 is not allowed"),
        ("(a+)+b", "a group may not be repeated"),
        ("(?:ab){2}", "a group may not be repeated"),
        ("+a", "nothing to repeat"),
        ("a|*b", "nothing to repeat"),
        ("(*a)", "nothing to repeat"),
        ("a+{2}", "nothing to repeat"),
        ("a*b*c*d*", "too many ways"),
        ("a*b*c*(x|y|z)", "too many ways"),
        ("a{,}", "no number of repeats"),
        ("a{3,2}", "at most 400 repeats, and no fewer"),
        ("a{401}", "at most 400 repeats"),
        ("(a", "no regular expression"),
        ("a)", "no regular expression"),
        ("a*", "matches nothing at all"),
    ],
)
def test_a_pattern_that_could_take_long_or_says_nothing_is_refused(pattern: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        safe_pattern(pattern)


def test_as_many_ways_as_are_allowed_are_taken() -> None:
    assert safe_pattern("a{1,40}b{1,40}c{1,40}").search("xabbc")  # 64,000 of 70,000
    with pytest.raises(ValueError, match="too many ways"):
        safe_pattern("a{0,40}b{0,40}c{0,41}")  # 41 * 41 * 42 = 70,602
