"""Labelled emotional speech, read as its authors ship it, whatever the audio container.

Each loader turns a folder into a :class:`Corpus`: clips with native emotion, speaker, sex and sentence where
the corpus gives them, and every file it could not use, with the reason.

- ``clip``: clips and corpora, their sound, which of them can be used, their hashes
- ``layouts``: the loaders by name; ``manifest``: a corpus of one's own
- ``speakers``: training, validation and test
"""

from ensemble.corpora.clip import (
    AUDIO_SUFFIXES,
    Clip,
    Corpus,
    Unusable,
    clips_hash,
    decode_clip,
    decoded_clips,
    keep_emotions,
    usable_clips,
    usable_clips_cached,
    without_copies,
)
from ensemble.corpora.layouts import LOADERS, read_corpora, read_corpus
from ensemble.corpora.manifest import read_manifest
from ensemble.corpora.speakers import CREMA_D_VALIDATION, RAVDESS_FOLDS, speaker_folds, split_by_speaker

__all__ = [
    "AUDIO_SUFFIXES",
    "CREMA_D_VALIDATION",
    "LOADERS",
    "RAVDESS_FOLDS",
    "Clip",
    "Corpus",
    "Unusable",
    "clips_hash",
    "decode_clip",
    "decoded_clips",
    "keep_emotions",
    "read_corpora",
    "read_corpus",
    "read_manifest",
    "speaker_folds",
    "split_by_speaker",
    "usable_clips",
    "usable_clips_cached",
    "without_copies",
]
