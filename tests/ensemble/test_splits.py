"""Held-out speakers: the same every time, never on both sides."""

from __future__ import annotations

from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest

from ensemble.corpora import CREMA_D_VALIDATION, RAVDESS_FOLDS, Clip, Corpus
from ensemble.corpora.speakers import (
    folds_of,
    never_validated,
    speakers_of,
    validation_speakers,
    without_test,
)
from ensemble.model_errors import CorpusError


def made_up(name, n_speakers, *, each=3, ids=None, split=None):
    ids = ids or [f"{i:02d}" for i in range(n_speakers)]
    clips = tuple(
        Clip(Path(f"{i}-{take}.wav"), name, "sad", f"{name}/{i}", split=split(i) if split else None)
        for i in ids
        for take in range(each)
    )
    return Corpus(name, clips)


def test_a_published_validation_set_is_used_where_its_speakers_are():
    ids = [s.partition("/")[2] for s in CREMA_D_VALIDATION] + ["1001", "1002"]
    crema, small = made_up("crema-d", 0, ids=ids), made_up("emodb", 8)
    assert validation_speakers([small, crema]) == frozenset(CREMA_D_VALIDATION)


def test_a_manifest_says_itself_who_validates():
    corpus = made_up("ours", 4, split=lambda i: "validation" if i == "02" else "train")
    assert validation_speakers([corpus]) == {"ours/02"}


def test_whoever_is_marked_is_held_out_also_beside_a_larger_corpus():
    ids = [s.partition("/")[2] for s in CREMA_D_VALIDATION] + ["1001", "1002"]
    mine = made_up("mine", 4, each=1, split=lambda i: "validation" if i == "02" else "train")
    held = validation_speakers([mine, made_up("crema-d", 0, ids=ids)])
    assert held == frozenset(CREMA_D_VALIDATION) | {"mine/02"}


def test_an_emotion_of_the_smaller_corpus_alone_is_validated_there():
    large, small = made_up("large", 20), made_up("small", 9)
    surprised = replace(small, clips=tuple(replace(clip, emotion="surprise") for clip in small.clips))
    assert validation_speakers([large, surprised]) == {"large/04", "large/12", "small/04"}
    assert never_validated([large, surprised], frozenset({"large/04"})) == ("surprise",)


def test_clips_kept_for_a_test_are_not_trained_on():
    marked = made_up("mine", 3, split=lambda i: "test" if i == "01" else "train")
    (left,) = without_test([marked, made_up("tests", 2, split=lambda _: "test")])
    assert speakers_of(left) == ("mine/00", "mine/02")


def test_without_either_every_eighth_speaker_of_the_largest_corpus():
    large, small = made_up("large", 20), made_up("small", 9)
    assert validation_speakers([small, large]) == {"large/04", "large/12"}
    with pytest.raises(CorpusError, match="--validation"):
        validation_speakers([made_up("tiny", 3)])


def test_published_folds_of_ravdess_are_the_actor_folds():
    corpus = made_up("ravdess", 0, ids=[f"{i:02d}" for i in range(1, 25)])
    assert folds_of([corpus], "published") == list(RAVDESS_FOLDS)


@pytest.mark.parametrize(("how", "n"), [("published", 8), ("speaker", 8), ("4", 4)])
def test_folds_hold_every_speaker_once(how, n):
    corpus = made_up("emodb", 8)
    folds = folds_of([corpus], how)
    assert len(folds) == n
    assert sorted(chain.from_iterable(folds)) == list(speakers_of(corpus))


def test_leaving_a_corpus_out_needs_two():
    one, other = made_up("a", 2), made_up("b", 3)
    assert folds_of([one, other], "corpus") == [("a/00", "a/01"), ("b/00", "b/01", "b/02")]
    with pytest.raises(CorpusError, match="two corpora"):
        folds_of([one], "corpus")
    with pytest.raises(CorpusError, match="'many'"):
        folds_of([one], "many")


def test_a_corpus_that_is_marked_for_validation_as_a_whole_is_held_out():
    train = made_up("train", 20, split=lambda _: "train")
    dev = made_up("dev", 4, each=1, split=lambda _: "validation")
    assert validation_speakers([train, dev]) == set(speakers_of(dev)), "whom train marks, trains"
    with pytest.raises(CorpusError, match="nobody is left"):
        validation_speakers([dev])
    assert validation_speakers([train]), "nobody else is left to validate"


def test_a_speaker_with_a_clip_for_the_test_is_not_trained_on():
    takes = iter(["train", "test", "train", "train"])
    mixed = made_up("mine", 2, each=2, split=lambda _: next(takes))
    (left,) = without_test([mixed])
    assert speakers_of(left) == ("mine/01",)
