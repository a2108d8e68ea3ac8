"""Who trains, validates and tests in a retraining: decided by speaker, before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from callanalytics.config import RetrainSettings, Settings
from callanalytics.errors import UsageError
from callanalytics.workspace import Workspace
from ensemble.corpora import Clip, Corpus
from ensemble.model_errors import CorpusError
from jobs.models.splits import REVIEWED, collect, require_corpora, split_speakers

LABELS = ("anger", "sad")


def corpus(name: str, n_speakers: int, splits: dict[int, str] | None = None) -> Corpus:
    """Three clips a speaker, the last one fear, and the split of those who have one."""
    clips = tuple(
        Clip(Path(f"{who}-{emotion}.wav"), name, emotion, f"{name}/{who:02d}", split=(splits or {}).get(who))
        for who in range(n_speakers)
        for emotion in (*LABELS, "fear")
    )
    return Corpus(name, clips)


def names(name: str, *numbers: int) -> set[str]:
    return {f"{name}/{number:02d}" for number in numbers}


def test_without_marks_every_eighth_of_those_who_do_not_validate_tests() -> None:
    split = split_speakers([corpus("a", 20)], LABELS)
    assert split.validation == names("a", 5, 14)
    assert split.test_speakers == names("a", 0, 9, 18)
    assert split.training_speakers == names("a", *range(20)) - split.validation - split.test_speakers
    assert {clip.emotion for clip in (*split.training_clips, *split.test)} == set(LABELS)
    assert len(split.test) == 3 * 2
    assert split.reviewed_test == ()


def test_marked_speakers_are_where_they_are_marked() -> None:
    split = split_speakers([corpus("a", 6, {0: "test", 1: "train", 2: "validation", 5: "test"})], LABELS)
    assert (split.test_speakers, split.validation) == (names("a", 0, 5), names("a", 2))
    assert split.training_speakers == names("a", 1, 3, 4)


def test_reviewed_calls_are_a_test_of_their_own() -> None:
    reviewed = corpus(REVIEWED, 4, {0: "test", 1: "train", 2: "train", 3: "validation"})
    split = split_speakers([corpus("a", 9, {0: "test"}), reviewed], LABELS)
    assert {clip.speaker for clip in split.reviewed_test} == names(REVIEWED, 0)
    assert {clip.speaker for clip in split.test} == names("a", 0)
    assert split.test_speakers == names("a", 0) | names(REVIEWED, 0)
    assert [each.name for each in split.train] == ["a", REVIEWED]
    assert not split.training_speakers & (split.test_speakers | split.validation)


def test_a_corpus_that_is_all_test_trains_nobody() -> None:
    split = split_speakers([corpus("a", 9), corpus("b", 2, {0: "test", 1: "test"})], LABELS)
    assert [each.name for each in split.train] == ["a"]
    assert names("b", 0, 1) < split.test_speakers


@pytest.mark.parametrize(
    "corpora",
    [
        [corpus("a", 1)],  # nobody is left to train on once somebody tests
        [corpus("a", 2, {0: "test", 1: "test"})],
        [corpus("a", 4, {0: "train", 1: "validation"})],  # and nobody tests
    ],
)
def test_too_few_speakers_are_an_error(corpora: list[Corpus]) -> None:
    with pytest.raises(CorpusError, match="too few speakers"):
        split_speakers(corpora, LABELS)


def test_what_there_is_nothing_to_do_with_is_said_before_anything_is_made(tmp_path: Path) -> None:
    workspace, plan = Workspace(tmp_path / "out"), RetrainSettings()
    one = corpus("a", 9)
    require_corpora(workspace, [one, corpus("b", 9)], plan)
    with pytest.raises(UsageError, match=r"Nothing to train on: give --corpus"):
        require_corpora(workspace, [], plan)
    with pytest.raises(UsageError, match=r"Two corpora have one name \(a, a\)"):
        require_corpora(workspace, [one, one], plan)
    with pytest.raises(UsageError, match="--consent"):
        require_corpora(workspace, [one], RetrainSettings(reviewed=True))
    with pytest.raises(UsageError, match="no results here yet"):
        require_corpora(workspace, [one], RetrainSettings(reviewed=True, consent=True))
    assert collect(Settings(), workspace, [one], plan) == (one,)
    assert not workspace.folder.exists()


def test_what_is_missing_is_said_in_whole_sentences(tmp_path: Path) -> None:
    workspace, plan = Workspace(tmp_path / "out"), RetrainSettings()
    with pytest.raises(UsageError) as nothing:
        require_corpora(workspace, [], plan)
    assert str(nothing.value) == (
        "Nothing to train on: give --corpus, set corpora in [retrain] of config.toml, or use --reviewed."
    )
    with pytest.raises(UsageError) as twice:
        require_corpora(workspace, [corpus("a", 9), corpus("b", 9), corpus("a", 2)], plan)
    assert str(twice.value) == "Two corpora have one name (a, b, a). Name them: --corpus NAME=PATH."
    with pytest.raises(CorpusError) as few:
        split_speakers([corpus("a", 1)], LABELS)
    assert str(few.value) == "too few speakers to hold some out for a test; give a larger corpus"


def test_two_speakers_are_enough_to_hold_one_out_for_a_test() -> None:
    split = split_speakers([corpus("a", 2), corpus("b", 20)], LABELS)
    assert split.test_speakers & names("a", 0, 1) == names("a", 0)
    assert split_speakers([corpus("a", 1), corpus("b", 20)], LABELS).test_speakers <= names("b", *range(20))


def test_of_other_labels_nothing_is_kept_and_no_empty_corpus_is_trained_on() -> None:
    fearful = replace(
        corpus("c", 9), clips=tuple(clip for clip in corpus("c", 9).clips if clip.emotion == "fear")
    )
    split = split_speakers([fearful, corpus("a", 9)], LABELS)
    assert [each.name for each in split.train] == ["a"]
    assert {clip.corpus for clip in split.test} == {"a"}
