"""Training: seeded, resumable after a kill, learns, refuses what would mislead."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf
import torch
from safetensors.torch import load_file, save_file
from tiny_corpus import small_whisper, write_tiny_corpus

from ensemble.corpora import read_corpus, usable_clips_cached
from ensemble.crossval import crossval
from ensemble.evaluation import evaluate
from ensemble.evaluation.model_card import card_page
from ensemble.inference.card import known_speakers
from ensemble.inference.ensemble import load_ensemble
from ensemble.inference.spectrogram import FrontEnd
from ensemble.members import make_member
from ensemble.model_errors import CorpusError, LeakError, ModelIncompatible, ModelMissing, TrainingError
from ensemble.train_ensemble import train_from_corpora
from ensemble.training import Progress, TrainSettings, prepare, train_ensemble, train_member
from ensemble.training.assemble import assemble, fit_on_validation
from ensemble.training.calibration import unweighted_recall
from ensemble.training.checkpoint import Start, begin_from, start_of
from ensemble.training.examples import Batches, handset_response_db
from ensemble.training.spectrogram_cache import ViewCache, standard_views
from ensemble.training.teachers import lessons_of, load_teacher, taught

SETTINGS = TrainSettings(
    labels=("anger", "sad"),
    members=("cnn",),
    n_epochs=4,
    batch=8,
    n_augmented=1,
    n_coded=0,
    n_threads=1,
    warmup_epochs=0.2,
    ema=0.5,
    learning_rate=3e-3,
)
QUICK = replace(SETTINGS, n_epochs=1)
VALIDATION = frozenset({"crema-d/1000", "crema-d/1001"})


@pytest.fixture(scope="module")
def trained(corpus, cache, tmp_path_factory):
    """A whole run: (examples, folder, progress)."""
    folder, told = tmp_path_factory.mktemp("run"), []
    examples = train_ensemble(corpus.clips, VALIDATION, SETTINGS, folder=folder, cache=cache, say=told.append)
    return examples, folder, [news for news in told if isinstance(news, Progress)]


@pytest.fixture(scope="module")
def made(corpus, cache, tmp_path_factory):
    """Folder of an ensemble of one epoch, for reading."""
    folder = tmp_path_factory.mktemp("made")
    return train_from_corpora([corpus], VALIDATION, QUICK, folder=folder, cache=cache, licence="none")


def renamed(corpus):
    """The same clips as those of another corpus and other speakers."""
    clips = (replace(c, corpus="other", speaker=c.speaker.replace("crema-d", "other")) for c in corpus.clips)
    return replace(corpus, name="other", clips=tuple(clips))


def weights(folder):
    return (folder / "cnn" / "best.safetensors").read_bytes()


def test_learns_and_tells_how_it_goes(trained):
    _, folder, told = trained
    assert [p.epoch for p in told] == [1, 2, 3, 4]
    assert told[-1].loss < told[0].loss
    assert max(p.uar_speaker for p in told) > 0.8
    assert told[0].left_s > told[-1].left_s == 0
    assert len((folder / "cnn/log.jsonl").read_text().splitlines()) == 4


def test_the_same_seed_gives_the_same_weights_and_another_does_not(trained, corpus, cache, tmp_path):
    train_ensemble(corpus.clips, VALIDATION, SETTINGS, folder=tmp_path / "same", cache=cache)
    assert weights(tmp_path / "same") == weights(trained[1])
    other = replace(SETTINGS, seed=2)
    train_ensemble(corpus.clips, VALIDATION, other, folder=tmp_path / "other", cache=cache)
    assert weights(tmp_path / "other") != weights(trained[1])


class KilledError(Exception):
    pass


def test_goes_on_after_a_kill_as_if_nothing_had_happened(trained, corpus, cache, tmp_path):
    def kill(progress):
        if isinstance(progress, Progress) and progress.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train_ensemble(corpus.clips, VALIDATION, SETTINGS, folder=tmp_path, cache=cache, say=kill)
    told = []
    train_ensemble(corpus.clips, VALIDATION, SETTINGS, folder=tmp_path, cache=cache, say=told.append)
    assert [p.epoch for p in told if isinstance(p, Progress)] == [3, 4]
    assert weights(tmp_path) == weights(trained[1])


@pytest.fixture(scope="module")
def pupils(corpus, cache, tmp_path_factory):
    """Settings with a teacher, and the folder and news of their training."""
    folder, told = tmp_path_factory.mktemp("pupils"), []
    teacher = small_whisper(tmp_path_factory.mktemp("teacher") / "wise.safetensors")
    settings = replace(SETTINGS, teachers=(str(teacher),))
    train_ensemble(corpus.clips, VALIDATION, settings, folder=folder, cache=cache, say=told.append)
    return settings, folder, told


def test_a_teacher_changes_what_is_learnt_and_nothing_of_what_is_kept(trained, pupils):
    _, folder, _ = pupils
    alone, with_teacher = (load_file(f / "cnn/best.safetensors") for f in (trained[1], folder))
    assert alone.keys() == with_teacher.keys()
    assert not torch.equal(alone["mix.weight"], with_teacher["mix.weight"])


def test_the_lesson_is_learnt(pupils):
    settings, _, told = pupils
    losses = [news.loss for news in told if isinstance(news, Progress)]
    # The squares of a lesson are 1 in sum: so much is lost beside the labels by who says nothing of it.
    assert losses[-1] < losses[0] - 0.5 * settings.lesson_weight


def test_a_training_with_a_teacher_goes_on_after_a_kill(pupils, corpus, cache, tmp_path):
    settings, folder, first = pupils
    assert [news for news in first if isinstance(news, str)] == ["Asking wise.safetensors about 32 clips ..."]

    def kill(progress):
        if isinstance(progress, Progress) and progress.epoch == 2:
            raise KilledError

    with pytest.raises(KilledError):
        train_ensemble(corpus.clips, VALIDATION, settings, folder=tmp_path, cache=cache, say=kill)
    told = []
    train_ensemble(corpus.clips, VALIDATION, settings, folder=tmp_path, cache=cache, say=told.append)
    assert told[0] == "What wise.safetensors says of 32 clips is there from before."
    assert [p.epoch for p in told if isinstance(p, Progress)] == [3, 4]
    assert weights(tmp_path) == weights(folder)
    with pytest.raises(TrainingError, match="other settings or clips"):
        train_ensemble(corpus.clips, VALIDATION, SETTINGS, folder=tmp_path, cache=cache)


def test_lessons_are_of_training_speakers_alone(trained, pupils, corpus, tmp_path):
    """What is held out may say anything: no number of the training changes."""
    examples, teachers = trained[0], [load_teacher(name) for name in pupils[0].teachers]
    speakers = frozenset(examples.voices) - VALIDATION
    lessons = lessons_of(teachers, examples.clips, speakers, tmp_path / "a", print)
    training, validation = examples.of(speakers), examples.of(VALIDATION)
    assert not lessons[validation].any()
    assert (lessons[training] ** 2).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
    without = [examples.clips[i] for i in training]
    np.testing.assert_array_equal(
        lessons_of(teachers, without, speakers, tmp_path / "b", print), lessons[training]
    )
    for speaker in speakers:
        own = lessons[examples.voices[speaker]]
        np.testing.assert_allclose(own.mean(axis=0), 0, atol=1e-4)  # who speaks is no part of it


def test_no_teacher_no_lesson(trained, tmp_path):
    assert taught(trained[0], (), frozenset(), tmp_path, print) is trained[0]


def test_what_is_no_teacher_is_refused_before_any_work(corpus, tmp_path):
    wrong = tmp_path / "wrong.safetensors"
    save_file({"conv1.weight": torch.zeros(64, 80, 3)}, wrong)
    for name, error in ((wrong, ModelIncompatible), (tmp_path / "none.safetensors", ModelMissing)):
        settings = replace(SETTINGS, teachers=(str(name),))
        with pytest.raises(error, match=name.name):
            train_ensemble(corpus.clips, VALIDATION, settings, folder=tmp_path / "f", cache=tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_the_card_names_the_teachers_and_no_path(pupils, corpus, cache, tmp_path):
    settings = replace(pupils[0], n_epochs=1)
    made = train_from_corpora([corpus], VALIDATION, settings, folder=tmp_path / "a", cache=cache)
    card = load_ensemble(made).card
    assert [teacher["name"] for teacher in card["teachers"]] == ["wise"]
    assert card["settings"]["teachers"] == ["wise"]
    assert str(tmp_path.parent) not in (made / "card.json").read_text()
    page = (made / "model-card.md").read_text()
    assert "with teachers, in training only: wise (an encoder like Whisper's, licence not known" in page
    assert "No member was taught" not in page
    assert "from scratch" not in page
    later = train_from_corpora(
        [renamed(corpus)], frozenset({"other/1000"}), QUICK, folder=tmp_path / "b", cache=cache, start=made
    )
    card_of_later = load_ensemble(later).card
    assert card_of_later["teachers"] == card["teachers"], "what begins from pupils is taught"
    assert card_of_later["members"][0]["taught_by"] == ["wise"]
    del card_of_later["members"][0]["taught_by"]
    assert "| from scratch |" in card_page(
        "model-card.md", card_of_later, json.loads((later / "results.json").read_text())
    )


def test_views_in_the_codings_of_recorders_join_the_others(corpus, cache):
    speakers = frozenset({clip.speaker for clip in corpus.clips})
    examples = prepare(corpus.clips, speakers, replace(SETTINGS, n_coded=2, coded_share=0.4), cache)
    assert examples.names[-2:] == ("coded-0", "coded-1")
    assert examples.by_speaker[-2:] == (True, True)
    shares = Batches(examples, examples.of(speakers), replace(SETTINGS, coded_share=0.4), 0).shares
    np.testing.assert_allclose(shares, [0.15, 0.21, 0.24, 0.2, 0.2])


def test_a_second_round_begins_where_the_first_ended(trained, tmp_path):
    examples, folder, first = trained
    training, validation = examples.of(frozenset(examples.voices) - VALIDATION), examples.of(VALIDATION)
    told = []
    train_member(
        "cnn",
        examples,
        training,
        validation,
        replace(SETTINGS, n_epochs=1, learning_rate=1e-5),
        tmp_path,
        told.append,
        start=Start(folder / "cnn/best.safetensors", SETTINGS.labels),
    )
    assert told[-1].loss < 0.7 * first[0].loss
    assert told[-1].uar_speaker > 0.8


def test_what_a_start_knows_of_an_emotion_is_taken_over_and_nothing_else(tmp_path):
    old, new = make_member("cnn", 64, 3), make_member("cnn", 64, 3)
    before = new.state_dict()["head.1.weight"].clone()
    save_file(old.state_dict(), tmp_path / "cnn.safetensors")
    start = Start(tmp_path / "cnn.safetensors", ("anger", "sad", "surprise"))
    begin_from(new, ("anger", "boredom", "sad"), start)
    theirs, ours = old.state_dict(), new.state_dict()
    assert torch.equal(
        ours["head.1.weight"],
        torch.stack([theirs["head.1.weight"][0], before[1], theirs["head.1.weight"][1]]),
    )
    assert torch.equal(ours["deep1.first.conv.weight"], theirs["deep1.first.conv.weight"])
    with pytest.raises(TrainingError, match="another architecture"):
        begin_from(make_member("cnn", 80, 3), ("anger", "boredom", "sad"), start)
    with pytest.raises(TrainingError, match="another architecture"):
        begin_from(make_member("crnn", 64, 3), ("anger", "boredom", "sad"), start)
    with pytest.raises(TrainingError, match="no weights of vit"):
        start_of(tmp_path, "vit")


def test_a_checkpoint_of_other_settings_is_refused(trained, corpus, cache):
    other = replace(SETTINGS, smoothing=0.2)
    with pytest.raises(TrainingError, match="other settings"):
        train_ensemble(corpus.clips, VALIDATION, other, folder=trained[1], cache=cache)


@pytest.mark.parametrize("change", ["speaker", "emotion", "validation"])
def test_a_checkpoint_of_other_speakers_or_labels_is_refused(trained, corpus, cache, change):
    clips, held = list(corpus.clips), VALIDATION
    if change == "validation":
        held = frozenset({"crema-d/1000"})
    else:
        other = {"speaker": "crema-d/1005", "emotion": "sad"}[change]
        place = next(i for i, c in enumerate(clips) if c.speaker == "crema-d/1004" and c.emotion != other)
        clips[place] = replace(clips[place], **{change: other})
    with pytest.raises(TrainingError, match="other settings or clips"):
        train_ensemble(clips, held, SETTINGS, folder=trained[1], cache=cache)


def test_a_member_that_stopped_early_stays_stopped(corpus, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("ensemble.training.loop.validate", lambda *_: (0.5, 0.5 - 1e-9 * len(told)))
    told = []
    patient = replace(SETTINGS, n_epochs=6, patience_epochs=2)
    for _ in range(2):
        train_ensemble(
            corpus.clips,
            VALIDATION,
            patient,
            folder=tmp_path,
            cache=cache,
            say=lambda p: told.append(p.epoch) if isinstance(p, Progress) else None,
        )
    assert told == [1, 2, 3]


def test_everyone_needs_a_fixed_number_of_epochs(corpus, cache, tmp_path):
    for wrong in (replace(SETTINGS, schedule="plateau"), replace(SETTINGS, patience_epochs=3)):
        with pytest.raises(TrainingError, match="fixed number of epochs"):
            train_from_corpora([corpus], VALIDATION, wrong, folder=tmp_path, cache=cache, everyone=True)
    assert not (tmp_path / "members").exists()


def test_speakers_of_the_first_training_are_known_to_a_later_one(made, corpus, cache, tmp_path):
    held = frozenset({"other/1000"})
    second = train_from_corpora(
        [renamed(corpus)], held, QUICK, folder=tmp_path / "b", cache=cache, start=made
    )
    card = load_ensemble(second).card
    assert card["begun_from"] == load_ensemble(made).ensemble_id
    assert card["trained_on"] == ["crema-d", "other"]
    assert set(card["heard_speakers"]) >= {"crema-d/1002", "other/1001"}
    folds = [["crema-d/1000"], ["crema-d/1001"]]
    with pytest.raises(LeakError, match="trained on crema-d, other"):
        crossval(corpus.clips, folds, QUICK, folder=tmp_path / "x", cache=cache, start=second)
    with pytest.raises(LeakError, match="crema-d/1002"):
        train_from_corpora(
            [corpus], frozenset({"crema-d/1002"}), QUICK, folder=tmp_path / "c", cache=cache, start=second
        )


def test_other_sound_of_the_same_name_and_size_is_extracted_anew(tmp_path):
    corpus = read_corpus(write_tiny_corpus(tmp_path / "corpus"))
    speakers = frozenset(clip.speaker for clip in corpus.clips)
    before = prepare(corpus.clips, speakers, SETTINGS, tmp_path / "cache").view("clean").clip(0)
    file = corpus.clips[0].path
    wave, rate_hz = sf.read(file)
    sf.write(file, wave[::-1], rate_hz)
    after = prepare(corpus.clips, speakers, SETTINGS, tmp_path / "cache").view("clean").clip(0)
    assert before.shape == after.shape
    assert np.abs(before - after).max() > 1


def test_an_ensemble_without_speaker_norm_is_scored_and_used_that_way(corpus, cache, tmp_path):
    alone = replace(QUICK, speaker_norm=False)
    made = train_from_corpora([corpus], VALIDATION, alone, folder=tmp_path, cache=cache)
    assert load_ensemble(made).speaker_norm is False
    results = json.loads((made / "results.json").read_text())["crema-d"]["telephone"]
    assert results["clip"]["confusion"] == results["speaker"]["confusion"]


def test_many_clips_are_extracted_in_processes_and_as_in_one(corpus, tmp_path, monkeypatch):
    speakers = frozenset({"crema-d/1002", "crema-d/1003"})

    def extracted(folder, n_processes, say):
        clips, waves, _ = usable_clips_cached(corpus.clips, 8000, tmp_path / folder)
        cache = ViewCache(clips, FrontEnd(), tmp_path / folder, speakers)
        return cache.all_views(standard_views(2, 0), waves, n_processes=n_processes, say=say)

    alone = extracted("one", 1, lambda _: None)
    monkeypatch.setattr("ensemble.training.spectrogram_cache.MANY_CLIPS", 1)
    # This process extracts nothing itself.
    monkeypatch.setattr("ensemble.training.spectrogram_cache.extract_view", None)
    told = []
    together = extracted("two", 2, told.append)
    assert [n.n_done for n in told] == [0, 1, 2, 3, 4]
    for one, two in zip(alone, together, strict=True):
        assert np.array_equal(one.frames, two.frames)
        assert np.array_equal(one.squares, two.squares)
    told.clear()
    extracted("two", 2, told.append)
    assert not told, "what is there is not extracted again"


def test_a_speaker_on_both_sides_is_refused(trained, tmp_path):
    examples = trained[0]
    everything = np.arange(len(examples.clips))
    with pytest.raises(LeakError):
        train_member("cnn", examples, everything, everything[:4], SETTINGS, tmp_path)


def test_a_label_nobody_speaks_is_refused(corpus, cache):
    with pytest.raises(TrainingError, match="boredom"):
        prepare(
            corpus.clips,
            frozenset({"crema-d/1003"}),
            replace(SETTINGS, labels=("anger", "boredom", "sad")),
            cache,
        )


def test_an_epoch_balances_classes(trained):
    examples = trained[0]
    speakers = frozenset(f"crema-d/{s}" for s in (1002, 1003))
    indices = examples.of(speakers)
    rare = np.concatenate([indices[examples.truth[indices] == 0], indices[examples.truth[indices] == 1][:1]])
    order = Batches(examples, rare, SETTINGS, 0).order
    assert len(order) == len(rare)
    assert (examples.truth[order] == 1).sum() > 1


def test_statistics_are_of_training_speakers_only(corpus, cache):
    some = prepare(corpus.clips, frozenset({"crema-d/1002"}), SETTINGS, cache)
    others = prepare(corpus.clips, frozenset({"crema-d/1005"}), SETTINGS, cache)
    assert np.abs(some.reference.shape_db - others.reference.shape_db).max() > 0.1


def test_from_training_to_votes(trained, corpus, tmp_path):
    examples, folder, _ = trained
    training, validation = examples.of(frozenset(examples.voices) - VALIDATION), examples.of(VALIDATION)
    paths = {"cnn": folder / "cnn/best.safetensors"}
    fit = fit_on_validation(paths, examples, validation, SETTINGS, 0.8)
    ensemble_id = assemble(paths, examples, training, SETTINGS, fit, tmp_path, {"licence": "none"})
    ensemble = load_ensemble(tmp_path)
    assert ensemble.ensemble_id == ensemble_id
    assert ensemble.labels == ("anger", "sad")
    assert set(ensemble.card) >= {"data_hash", "settings", "code_version", "scores", "unusable"}
    result = evaluate(ensemble, [corpus], speakers=VALIDATION)
    json.dumps(result)
    found = result["crema-d"]["telephone"]["speaker"]
    # the night's path (ONNX, waveforms) must score what the trainer's path (torch, cache) scored
    assert found["uar"] == pytest.approx(fit.uar_speaker, abs=0.07)
    assert found["n"] == len(validation)


def test_crossval_tests_every_speaker_once_and_names_a_random_split(corpus, cache, tmp_path, monkeypatch):
    tested = []

    def spy(truth, guess, speakers):
        tested.append(sorted(set(speakers)))
        return {"wa": None, "uar": None}

    monkeypatch.setattr("ensemble.crossval.interval_by_speaker", spy)
    folds = [["crema-d/1000", "crema-d/1001"], ["crema-d/1002", "crema-d/1003"]]
    quick = replace(QUICK, n_augmented=0)
    result = crossval(corpus.clips, folds, quick, folder=tmp_path / "a", cache=cache)
    assert result["split"] == "by speaker"
    assert result["telephone"]["clip"]["n"] == 32
    assert len(result["clean"]["speaker"]["uar_per_fold"]) == 2
    assert set(map(tuple, tested)) == {tuple(sorted(folds[0] + folds[1]))}
    tested.clear()
    leaky = crossval(corpus.clips, folds, quick, folder=tmp_path / "b", cache=cache, split="random")
    assert "RANDOM" in leaky["split"]
    assert leaky["clean"]["clip"]["n"] == len(corpus.clips)
    assert set(map(tuple, tested)) == {tuple(sorted({clip.speaker for clip in corpus.clips}))}
    with pytest.raises(CorpusError, match="twice"):
        crossval(corpus.clips, [folds[0], folds[0]], quick, folder=tmp_path / "c", cache=cache)


def test_copies_of_training_clips_do_not_pass_for_held_out(tmp_path):
    folder = write_tiny_corpus(tmp_path / "corpus")
    for path in sorted(folder.glob("1000_*.wav"))[:3]:
        path.with_name(path.name.replace("1000", "1005").replace("_XX", "_HI")).write_bytes(path.read_bytes())
    once = replace(QUICK, n_augmented=0)
    held = frozenset({"crema-d/1005"})
    made = train_from_corpora([read_corpus(folder)], held, once, folder=tmp_path / "w", cache=tmp_path / "c")
    results = json.loads((made / "results.json").read_text())["crema-d"]
    assert results["clean"]["clip"]["n"] == 8
    assert results["n_unusable"] == 3


def test_speakers_of_whom_nothing_can_be_used_are_named_before_training(tmp_path):
    folder = write_tiny_corpus(tmp_path / "corpus")
    for path in folder.glob("1005_*.wav"):
        sf.write(path, np.zeros(6400), 8000)
    silent = read_corpus(folder)
    once, cache = replace(QUICK, n_augmented=0), tmp_path / "cache"
    with pytest.raises(TrainingError, match=r"crema-d/1005.*nobody validates"):
        train_ensemble(silent.clips, frozenset({"crema-d/1005"}), once, folder=tmp_path / "w", cache=cache)
    folds = [["crema-d/1000"], ["crema-d/1005"]]
    with pytest.raises(CorpusError, match=r"crema-d/1005.*tests nothing"):
        crossval(silent.clips, folds, once, folder=tmp_path / "x", cache=cache)
    assert not (tmp_path / "w").exists()


def test_what_began_from_a_card_without_speakers_knows_its_corpora(made, corpus, cache, tmp_path):
    once = replace(QUICK, n_augmented=0)
    first = tmp_path / "a"
    shutil.copytree(made, first)
    card = json.loads((first / "card.json").read_text())
    del card["heard_speakers"]
    (first / "card.json").write_text(json.dumps(card))
    other = renamed(corpus)
    held = frozenset({"other/1000"})
    second = train_from_corpora([other], held, once, folder=tmp_path / "b", cache=cache, start=first)
    known = known_speakers(load_ensemble(second).card, frozenset({"crema-d/1000", "other/1000", "third/1"}))
    assert "crema-d/1000" in known
    assert "third/1" not in known


def test_unweighted_recall_is_the_mean_over_classes():
    truth, guess = np.array([0, 0, 0, 1]), np.array([0, 0, 1, 1])
    assert unweighted_recall(truth, guess) == pytest.approx((2 / 3 + 1) / 2)


def test_the_whole_training_leaves_an_ensemble_with_its_card(made, corpus, cache, tmp_path):
    assert load_ensemble(made).card["licence"] == "none"
    assert {"card.json", "results.json", "model-card.md", "model-card.html"} <= {
        p.name for p in made.iterdir()
    }
    with pytest.raises(TrainingError, match="validation"):
        train_from_corpora([corpus], frozenset(), QUICK, folder=tmp_path, cache=cache)


def test_a_handset_response_is_smooth_bounded_and_without_level(rng):
    responses = np.stack([handset_response_db(64, rng) for _ in range(200)])
    assert np.abs(responses.mean(axis=1)).max() < 1e-4
    assert 6 < np.abs(responses).max() <= 13
    assert np.abs(np.diff(responses, axis=1)).max() < 1.0


def test_a_plateau_halves_the_rate_and_needs_validation(corpus, cache, tmp_path, monkeypatch):
    monkeypatch.setattr("ensemble.training.loop.validate", lambda *_: (0.5, 0.5 - 1e-9 * len(seen)))
    seen = []
    quick = replace(SETTINGS, n_epochs=6, schedule="plateau", learning_rate=1e-9)
    monkeypatch.setattr("ensemble.training.loop.PLATEAU_EPOCHS", 2)
    train_ensemble(corpus.clips, VALIDATION, quick, folder=tmp_path, cache=cache, say=seen.append)
    from safetensors import safe_open

    with safe_open(tmp_path / "cnn/state.safetensors", framework="pt") as file:
        assert float(file.metadata()["factor"]) == 0.25
    with pytest.raises(TrainingError, match="plateau"):
        train_ensemble(corpus.clips, frozenset(), quick, folder=tmp_path / "n", cache=cache)


def test_a_second_seed_of_a_member_is_another_network(corpus, cache, tmp_path):
    quick = replace(QUICK, members=("cnn", "cnn-2"))
    train_ensemble(corpus.clips, VALIDATION, quick, folder=tmp_path, cache=cache)
    one, other = (tmp_path / name / "best.safetensors" for name in quick.members)
    assert one.read_bytes() != other.read_bytes()


def test_folds_begin_from_weights_of_other_corpora_only(made, corpus, cache, tmp_path):
    quick = replace(QUICK, n_augmented=0)
    folds = [["crema-d/1000"], ["crema-d/1001"]]
    with pytest.raises(LeakError, match="trained on crema-d"):
        crossval(corpus.clips, folds, quick, folder=tmp_path / "x", cache=cache, start=made)
    folds = [["other/1000"], ["other/1001"]]
    found = crossval(renamed(corpus).clips, folds, quick, folder=tmp_path / "y", cache=cache, start=made)
    assert found["begun_from"] == load_ensemble(made).ensemble_id


def test_training_on_everyone_keeps_what_validation_chose(corpus, cache, tmp_path):
    out = train_from_corpora(
        [corpus], VALIDATION, QUICK, folder=tmp_path, cache=cache, everyone=True, note="Ours."
    )
    card = load_ensemble(out).card
    assert card["n_training_speakers"] == 6
    assert "Ours. Trained on all speakers" in card["note"]
    results = json.loads((out / "results.json").read_text())
    assert results["crema-d"]["telephone"]["speaker"]["n"] == 16


def test_wide_band_folds_say_so(corpus, cache, tmp_path):
    quick = replace(QUICK, n_augmented=0, front=FrontEnd.wide())
    folds = [["crema-d/1000"], ["crema-d/1001"]]
    found = crossval(corpus.clips, folds, quick, folder=tmp_path, cache=cache, conditions=("clean",))
    assert found["sample_rate_hz"] == 16000
    assert found["clean"]["clip"]["n"] == 16
