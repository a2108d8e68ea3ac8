"""What a rule on phrases looks for, as a regular expression that cannot take long.

Python's `re` tries every way to match, and a pattern such as `(a+)+b` has more ways than there is time for.
So a pattern here may repeat only single characters and classes, not groups, and the number of ways to match
it from one place in a text is bounded before it is ever used.
"""

from __future__ import annotations

import re
from functools import lru_cache

MAX_CHARS = 500
# What "*", "+" and "{n,}" stand for: no word of a language has more letters.
_MOST_REPEATS = 40
# Ways to match from one place: with some hundred letters in an utterance that is half a second at most.
_MOST_WAYS = 70_000

_TOKEN = re.compile(
    r"(?P<escape>\\.)|(?P<set>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<open>\((?:\?:)?)|(?P<close>\))|(?P<or>\|)"
    r"|(?P<repeat>[*+?]|\{\d*,?\d*\})(?P<lazy>[?+]?)|(?P<one>[^\\])",
    re.DOTALL,
)


@lru_cache(maxsize=256)
def phrase_pattern(phrases: tuple[str, ...]) -> re.Pattern[str]:
    """Any of the phrases as whole words, whatever stands between the words; `*` ends a word that may go on.

    Raises:
        ValueError: a phrase holds no word, or they are too long.
    """
    if sum(map(len, phrases)) > 20 * MAX_CHARS:
        raise ValueError(f"the phrases have more than {20 * MAX_CHARS} letters")
    return re.compile(rf"\b(?:{'|'.join(map(_phrase, phrases))})\b", re.IGNORECASE)


def _phrase(phrase: str) -> str:
    words = re.findall(r"[^\W_]+(?:['’][^\W_]+)*\*?", phrase)
    if not words:
        raise ValueError(f"the phrase {phrase!r} holds no word")
    parts = [re.escape(word.removesuffix("*")) + r"\w*" * word.endswith("*") for word in words]
    return r"[\W_]+".join(re.sub("['’]", "['’]", part) for part in parts)


@lru_cache(maxsize=256)
def safe_pattern(pattern: str) -> re.Pattern[str]:
    """A regular expression of one's own, without regard to case.

    Known are characters, escapes, classes, groups, `|`, `?`, and repeats of one character or class, which end
    after forty. Look-around, references and flags are not.

    Raises:
        ValueError: it is no regular expression, or one that could take long.
    """
    if len(pattern) > MAX_CHARS:
        raise ValueError(f"the pattern has more than {MAX_CHARS} letters")
    bounded, n_ways, before, position = [], 1, "", 0
    alternatives = [1]  # of the whole, and of each group that is open
    while position < len(pattern):
        found = _TOKEN.match(pattern, position)
        if found is None:
            raise ValueError(f"the pattern cannot be read at {pattern[position:]!r}")
        position = found.end()
        text = found.group()
        if found["open"] and pattern[position : position + 1] == "?":
            raise ValueError("look-around, named groups and flags, (?...), are not allowed in a pattern")
        if found["escape"] and re.fullmatch(r"\\[1-9kgAZ]", text):
            raise ValueError(f"{text} is not allowed in a pattern")
        if found["open"]:
            alternatives.append(1)
        if found["close"] and len(alternatives) > 1:
            alternatives.pop()
        if found["or"]:
            n_ways = n_ways // alternatives[-1] * (alternatives[-1] + 1)
            alternatives[-1] += 1
        if found["repeat"]:
            least, most = _bounds(found["repeat"])
            if before == "close" and (least, most) != (0, 1):
                raise ValueError(f"a group may not be repeated ({text}): repeat a character or a class")
            if before in ("", "open", "or", "repeat"):
                raise ValueError(f"nothing to repeat before {text}")
            n_ways *= most - least + 1
            text = f"{{{least},{most}}}{found['lazy']}"
        if n_ways > _MOST_WAYS:
            raise ValueError("the pattern can match in too many ways: use fewer repeats and alternatives")
        bounded.append(text)
        before = str(found.lastgroup if not found["repeat"] else "repeat")
    try:
        compiled = re.compile("".join(bounded), re.IGNORECASE)
    except re.error as problem:
        raise ValueError(f"the pattern is no regular expression: {problem}") from None
    if compiled.match("") is not None:
        raise ValueError("the pattern matches nothing at all, so everything: name what is to be said")
    return compiled


def _bounds(repeat: str) -> tuple[int, int]:
    """Least and most repeats of `*`, `+`, `?` or `{m,n}`."""
    if repeat in ("*", "+", "?"):
        return (1 if repeat == "+" else 0), (1 if repeat == "?" else _MOST_REPEATS)
    least, comma, most = repeat[1:-1].partition(",")
    if not least and not most:
        raise ValueError(f"{repeat} is no number of repeats")
    first = int(least or 0)
    last = int(most) if most else _MOST_REPEATS if comma else first
    if not first <= last <= 10 * _MOST_REPEATS:
        raise ValueError(f"{repeat}: at most {10 * _MOST_REPEATS} repeats, and no fewer than the least")
    return first, last
