"""Finding the real files behind names for people: by numbers hidden in names, proven by content."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.config import AudioSettings
from callanalytics.errors import UnreadableFile
from callanalytics.ingest.locate import RecordingChanged, RecordingGone, hide_names, joined, locate
from callanalytics.ingest.recorders.phone_numbers import alias_of, significant_digits
from callanalytics.records.text import display_text, hide_numbers

SALT = b"salt" * 8
NUMBER = "2025550143"
ALIAS = alias_of(NUMBER, SALT)


def put(path: Path, content: str = "sound") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def sha(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()


def find(shown: Path | str, content: str = "sound", known: dict[Path, str] | None = None) -> tuple[Path, ...]:
    return locate(sha(content), [str(shown)], SALT, AudioSettings(), known)


@pytest.mark.parametrize(
    "name",
    [
        f"q-100-+1{NUMBER}-20251120-101500-1763633700.7.wav",
        "20251120-101500_(202) 555-0143_anna-all.wav",
        f"{NUMBER}.wav",
        f"{NUMBER}_to_{NUMBER}.wav",
        f"001{NUMBER}-3025550145-anna.wav",
        f"3025550145-{NUMBER}-anna.wav",
    ],
)
def test_a_name_with_a_number_is_found_by_its_alias(tmp_path: Path, name: str) -> None:
    path = put(tmp_path / name)
    put(tmp_path / name.replace("143", "144"), "another")
    shown = hide_numbers(name, {NUMBER: ALIAS})
    assert NUMBER not in shown
    assert find(tmp_path / shown) == (path,)


def test_a_number_may_be_short_and_in_the_folders_name_too(tmp_path: Path) -> None:
    short = "5550143"
    path = put(tmp_path / f"from {NUMBER}" / "deep" / f"x-{short}.wav")
    alias = alias_of(short, SALT)
    assert find(tmp_path / f"from {ALIAS}" / "deep" / f"x-{alias}.wav") == (path,)


def test_two_hidden_numbers_in_one_name(tmp_path: Path) -> None:
    path = put(tmp_path / "3025550145-202-555-0143.wav")
    assert find(tmp_path / f"{alias_of('3025550145', SALT)}-{ALIAS}.wav") == (path,)


def test_bytes_that_are_no_text_are_found(tmp_path: Path) -> None:
    path = put(tmp_path / os.fsdecode(b"caf\xe9 \n.wav"))
    assert find(tmp_path / display_text(path.name)) == (path,)


def test_content_decides_between_equal_names(tmp_path: Path) -> None:
    put(tmp_path / f"+1{NUMBER}.wav", "another")
    path = put(tmp_path / f"001{NUMBER}.wav")
    assert find(tmp_path / f"{ALIAS}.wav") == (path,)


def test_a_pair_comes_in_its_order(tmp_path: Path) -> None:
    names = [f"{NUMBER}_{side}.wav" for side in ("caller", "agent")]
    caller, agent = (put(tmp_path / name, name) for name in names)
    whole = joined([sha(name) for name in names])
    shown = [str(tmp_path / name.replace(NUMBER, ALIAS)) for name in names]
    assert locate(whole, shown, SALT, AudioSettings()) == (caller, agent)
    known = {agent: sha(names[1]), caller: sha(names[0])}
    assert locate(whole, shown, SALT, AudioSettings(), known, trust_known=True) == (caller, agent)


def test_known_places_in_other_folders_are_found(tmp_path: Path) -> None:
    moved = put(tmp_path / "archive" / "a.wav")
    gone = tmp_path / "b.wav"
    assert find(tmp_path / "a.wav", known={gone: sha("sound"), moved: sha("sound")}) == (moved,)


def test_what_is_gone_changed_or_closed_is_told_apart_and_no_number_is_named(tmp_path: Path) -> None:
    shown = tmp_path / f"{ALIAS}.wav"
    with pytest.raises(RecordingGone, match=ALIAS):
        find(shown)
    path = put(tmp_path / f"{NUMBER}.wav", "another")
    with pytest.raises(RecordingChanged, match=ALIAS) as changed:
        find(shown)
    path.chmod(0)
    with pytest.raises(UnreadableFile, match=ALIAS) as closed:
        find(shown)
    assert type(closed.value) is UnreadableFile
    assert NUMBER not in f"{changed.value} {closed.value}"


def test_messages_about_files_name_them_as_people_know_them() -> None:
    path, shown = Path(f"/calls/{NUMBER}.wav"), f"/calls/{ALIAS}.wav"
    told = hide_names(f"{path}: bad. {path.name}", [path], [shown])
    assert told == f"{shown}: bad. {ALIAS}.wav"


def test_a_folder_of_many_names_is_searched_in_a_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(tmp_path / f"20251120-101500_{NUMBER}_anna-all.wav")
    names = [f"20251120-{i:06d}_{2025500000 + i}_anna-all.wav" for i in range(100_000)]
    monkeypatch.setattr("os.listdir", lambda _folder: [*names, path.name])
    began = time.perf_counter()
    assert find(tmp_path / f"20251120-101500_{ALIAS}_anna-all.wav") == (path,)
    assert time.perf_counter() - began < 2.0  # 0.2 s on an idle machine


NUMBERS = st.from_regex(r"(\+1 ?)?\(?[2-9]\d{2}\)?[-. ]?[2-9]\d{2}[-. ]?\d{4}", fullmatch=True)
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="/\0~"), max_size=12)


@given(WORDS, NUMBERS, WORDS)
def test_whatever_hides_is_found_again(before: str, number: str, after: str) -> None:
    with TemporaryDirectory() as made:
        folder = Path(made)
        path = put(folder / f"{before}{number}{after}.wav")
        digits = significant_digits(number)
        shown = display_text(hide_numbers(path.name, {digits: alias_of(digits, SALT)}))
        assert find(folder / shown) == (path,)
