"""Words recognised by a local model: which, whose, how sure, and what is wrong with a model."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from command_line import callanalytics, run_command
from short_calls import night_args, rows, settle
from spoken_calls import spoken_call

from callanalytics.analysis.call import CallAnalysis, Models, analyze_call
from callanalytics.analysis.words.recogniser import repeats
from callanalytics.config import RuleSettings, Settings, WordsSettings
from callanalytics.ingest import recording_from_files
from callanalytics.records import Role

LINES = (
    "A: Thank you for calling, how can I help you?",
    "C: I want to speak to your manager now.",
    "A: May I have your card number?",
    "C: Four one one one, two two two two, three three three three.",
    "A: Thank you very much.",
    "C: Please cancel my contract.",
)
LOUD = RuleSettings(name="loud", measure="frustration_peak", at_least=0.0, reason="x", min_evidence_s=0.1)


@pytest.fixture(scope="session")
def model(data_dir: Path) -> Path:
    pytest.importorskip("faster_whisper")
    folder = data_dir / "words" / "tiny.en"
    if not folder.is_dir():
        pytest.skip(f"no model of words in {folder}")
    return folder


@pytest.fixture(scope="session")
def models(model: Path) -> Models:
    return Models.load(None, settings=settings(model))


def settings(model: Path, what: str = "all", *rules: RuleSettings) -> Settings:
    found = WordsSettings.model_validate({"model": str(model), "what": what, "language": "en"})
    return Settings(words=found, rule=rules)


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("spoken") / "call.wav"
    spoken_call(path, *LINES)
    return path


def analysed(path: Path, models: Models, wanted: Settings) -> CallAnalysis:
    return analyze_call(recording_from_files([path], wanted, now=datetime.now(UTC)), wanted, models)


def test_spoken_digits_are_never_kept(spoken: Path, models: Models, model: Path) -> None:
    call = analysed(spoken, models, settings(model))
    text = " ".join(u.text for u in call.words.utterances).lower()
    assert "[number]" in text
    assert "thank you" in text
    assert not any(character.isdigit() for character in text)
    assert not any(word in text.split() for word in ("four", "one", "two", "three"))


def test_every_word_has_its_time_and_a_confidence(spoken: Path, models: Models, model: Path) -> None:
    call = analysed(spoken, models, settings(model))
    assert call.words.whole
    assert len(call.words.utterances) >= 5
    for utterance in call.words.utterances:
        assert len(utterance.words) == len(utterance.word_start_s) == len(utterance.word_confidence)
        assert utterance.source == "recognised"
        assert all(utterance.start_s <= at_s <= utterance.end_s for at_s in utterance.word_start_s)
        assert all(sure is not None and 0 <= sure <= 1 for sure in utterance.word_confidence)


def test_only_calls_that_are_asked_for_have_words(spoken: Path, models: Models, model: Path) -> None:
    assert analysed(spoken, models, settings(model, "moments")).words.utterances == ()
    assert analysed(spoken, models, settings(model, "flagged")).words.utterances == ()
    found = analysed(spoken, models, settings(model, "flagged", LOUD)).words
    assert found.whole
    assert len(found.utterances) >= 5


def test_moments_are_recognised_with_their_context_only(models: Models, model: Path, data_dir: Path) -> None:
    path = data_dir / "calls" / "harper-valley" / "stereo" / "0002f70f7386445b.wav"
    call = analysed(path, models, settings(model, "moments", LOUD))
    moments = [e for escalation in call.assessment.escalations for e in escalation.evidence]
    assert call.assessment.flagged
    assert moments
    assert (call.words.note, call.words.whole) == ("only_moments", False)
    assert {u.role for u in call.words.utterances} == {Role.CALLER}
    for u in call.words.utterances:
        assert any(m.start_s - 3 <= u.start_s and u.end_s <= m.end_s + 3 for m in moments)


@pytest.mark.parametrize(
    ("name", "text", "end_s"),  # of utterances in the reference
    [
        ("0002f70f7386445b", "a new one?", 20.0),
        ("0002f70f7386445b", "going to be it.", 44.3),
        ("0091a706bc604188", "thank you.", 37.6),
    ],
)
def test_the_last_words_before_a_pause_stay_with_their_sentence(
    name: str, text: str, end_s: float, models: Models, model: Path, data_dir: Path
) -> None:
    path = data_dir / "calls" / "harper-valley" / "stereo" / f"{name}.wav"
    said = analysed(path, models, settings(model)).words.utterances
    ends_s = [u.end_s for u in said if u.role is Role.CALLER and text in u.text.lower()]
    assert any(end == pytest.approx(end_s, abs=1.0) for end in ends_s), ends_s


def test_rules_on_phrases_see_what_was_recognised(spoken: Path, models: Models, model: Path) -> None:
    rule = RuleSettings(
        name="cancels",
        measure="phrase",
        role="any",
        phrases=("cancel*",),
        at_least=1,
        reason="wants to cancel",
    )
    call = analysed(spoken, models, settings(model, "all", rule))
    (found,) = call.assessment.escalations
    assert found.reason.startswith("wants to cancel: “")
    assert "cancel" in found.reason.split("“")[1].lower()


def test_time_that_is_used_up_is_said(spoken: Path, models: Models, model: Path) -> None:
    wanted = settings(model)
    hasty = wanted.model_copy(update={"words": wanted.words.model_copy(update={"time_limit_s": 1e-9})})
    call = analysed(spoken, models, hasty)
    assert (call.words.utterances, call.words.whole, call.words.note) == ((), False, "out_of_time")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thank you thank you thank you thank you thank you thank you", True),
        ("no no no no no no", True),
        ("no no no I do not want it", False),
        ("i said no and no and no again", False),
        ("", False),
    ],
)
def test_words_over_and_over_are_no_words(text: str, expected: bool) -> None:
    assert repeats(text.split()) is expected


@pytest.fixture
def night(tmp_path: Path) -> tuple[Path, tuple[object, ...]]:
    (tmp_path / "calls").mkdir()
    spoken_call(tmp_path / "calls" / "call-1.wav", LINES[0], LINES[1])
    settle(tmp_path / "calls")
    config = tmp_path / "config.toml"
    config.write_text('[words]\nmodel = "model"\nwhat = "all"\nlanguage = "en"\n')
    args = night_args(tmp_path / "calls", tmp_path / "out", "--config", config, "--workers", 1, "--json")
    return tmp_path, args


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("missing", "no such folder"),
        ("tokenizer.json", "tokenizer.json is missing"),
        ("vocabulary.txt", "vocabulary.json is missing"),
        ("cut", "cannot be loaded"),
        ("other kind", "not a Whisper model"),
        ("no json", "cannot be loaded"),
    ],
)
def test_a_model_that_cannot_be_used_ends_the_run_before_it_begins(
    model: Path, night: tuple[Path, tuple[object, ...]], harm: str, says: str
) -> None:
    folder, args = night
    copy = folder / "model"
    if harm != "missing":
        shutil.copytree(model, copy)
        copy.chmod(0o755)
        for file in copy.iterdir():
            file.chmod(0o644)
    if harm in ("tokenizer.json", "vocabulary.txt"):
        (copy / harm).unlink()
    elif harm == "cut":
        whole = (copy / "model.bin").read_bytes()
        (copy / "model.bin").write_bytes(whole[: len(whole) // 2])
    elif harm == "other kind":
        whole = (copy / "model.bin").read_bytes()
        (copy / "model.bin").write_bytes(whole.replace(b"WhisperSpec", b"TransfoSpec", 1))
    elif harm == "no json":
        (copy / "tokenizer.json").write_text("{")
    if harm == "other kind":  # on a cluster, too: the driver looks before anybody works
        config = folder / "config.toml"
        config.write_text(config.read_text() + '[engine]\nkind = "ray"\n')
    assert says in run_command(*args, expect=6).stderr
    assert not (folder / "out").exists()
    if harm == "missing":
        call = folder / "calls" / "call-1.wav"
        assert says in run_command("analyze", call, "--config", folder / "config.toml", expect=6).stderr


def test_a_night_recognises_words_in_its_workers(model: Path, night: tuple[Path, tuple[object, ...]]) -> None:
    folder, args = night
    (folder / "model").symlink_to(model)
    result = json.loads(callanalytics(*args).splitlines()[-1])
    assert result["n_with_words"] == 1
    found = rows(
        folder / "out" / "callanalytics.duckdb", "SELECT text, source FROM utterances ORDER BY start_s"
    )
    assert {source for _, source in found} == {"recognised"}
    assert "manager" in " ".join(text for text, _ in found).lower()


@pytest.mark.slow
def test_a_bank_call_is_recognised_on_both_sides(models: Models, model: Path, data_dir: Path) -> None:
    path = data_dir / "calls" / "harper-valley" / "stereo" / "0002f70f7386445b.wav"
    call = analysed(path, models, settings(model))
    said = {role: " ".join(u.text for u in call.words.utterances if u.role is role) for role in Role}
    assert "lost my debit card" in said[Role.CALLER]
    assert "How can I help you" in said[Role.AGENT]
