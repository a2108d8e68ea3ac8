"""Labelled emotional speech, read as its authors ship it, whatever the audio container.

Each loader turns a folder into a :class:`Corpus`: clips with native emotion,
speaker, sex and sentence where the corpus gives them, and a list of every
file it could not use, with the reason. Nothing is dropped unseen.

- ``clip``: the nouns
- ``names``, ``crema_d``, ``iemocap``, ``manifest``: one way of labelling each
- ``recognise``: the loaders by name, and which of them a path asks for
- ``decode``: a clip's audio; ``speakers``: who is in training and who in test
"""

from ensemble.corpora.clip import AUDIO_SUFFIXES, Clip, Corpus, Unusable, keep_emotions
from ensemble.corpora.clip_audio import decode_clip
from ensemble.corpora.crema_d import read_crema_d
from ensemble.corpora.manifest import read_manifest
from ensemble.corpora.recognise import LOADERS, read_corpus
from ensemble.corpora.speakers import (
    CREMA_D_VALIDATION,
    RAVDESS_FOLDS,
    refuse_leak,
    speaker_folds,
    split_by_speaker,
)

__all__ = [
    "AUDIO_SUFFIXES",
    "CREMA_D_VALIDATION",
    "LOADERS",
    "RAVDESS_FOLDS",
    "Clip",
    "Corpus",
    "Unusable",
    "decode_clip",
    "keep_emotions",
    "read_corpus",
    "read_crema_d",
    "read_manifest",
    "refuse_leak",
    "speaker_folds",
    "split_by_speaker",
]
