"""The emotions that an ensemble may name: a closed list in one order.

``EMOTIONS`` is the union of what the supported corpora label; a shipped or
trained ensemble uses a subset of it, in the same order.
"""

EMOTIONS = ("anger", "boredom", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
"""Every label, alphabetical; the position of a label here is its order everywhere."""

SHARED_SIX: tuple[str, ...] = ("anger", "disgust", "fear", "happy", "neutral", "sad")
"""The labels every acted corpus of ours has: the classes of the shipped ensemble."""

SHARED_SEVEN: tuple[str, ...] = (*SHARED_SIX, "surprise")
"""``SHARED_SIX`` and surprise, for corpora that have it."""

EMOTION_WORDS: dict[str, str] = {
    **{label: label for label in EMOTIONS},
    **dict.fromkeys(("ang", "angry"), "anger"),
    **dict.fromkeys(("bor", "bored"), "boredom"),
    "calmness": "calm",
    **dict.fromkeys(("dis", "disgusted"), "disgust"),
    **dict.fromkeys(("fea", "fearful", "afraid", "anxiety"), "fear"),
    **dict.fromkeys(("hap", "happiness", "joy", "joyful"), "happy"),
    **dict.fromkeys(("neu", "neutrality"), "neutral"),
    **dict.fromkeys(("sadness",), "sad"),
    **dict.fromkeys(("sur", "surprised", "ps", "pleasant_surprise"), "surprise"),
}
"""How corpora and manifests spell them, in lower case -> the label here.

Sources: the codes of CREMA-D and IEMOCAP, the words of RAVDESS, TESS, EMO-DB (Angst: anxiety), MELD (joy).
"""
