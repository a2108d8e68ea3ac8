"""Names, metadata, links and model folders made to do harm: nothing is run, escapes or appears unescaped."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from command_line import run_command
from hypothesis import given
from hypothesis import strategies as st
from short_calls import call, night_args, rows, settle, short_call

from callanalytics.ingest.recorders.sidecars import read_sidecar
from callanalytics.records.text import display_text
from ensemble.inference.ensemble import SHIPPED, load_ensemble
from ensemble.inference.registry import Registry
from ensemble.model_errors import ModelError

ESCAPE = "\x1b]0;owned\x07\x1b[2J"
NAMES: tuple[bytes, ...] = (
    b'it\'s "quoted".wav',
    b"two\nlines\rand a tab\t.wav",
    b"<script>alert(1)<.script>.wav",
    b"<img src=x onerror=alert(1)>.wav",
    b"; rm -rf $HOME; touch pwned;.wav",
    b"$(touch pwned)`touch pwned`|touch pwned.wav",
    b"a..%2f..%2f..%2fetc%2fpasswd.wav",
    b"-rf --help.wav",
    b"'); DROP TABLE base.calls; --.wav",
    b"{name}{0.__class__}%s%n.wav",
    ESCAPE.encode() + b".wav",
    "\u202egnp.wav".encode(),
    b"\xff\xfe broken \x80.wav",
    b"x" * 251 + b".wav",
)
SIDECAR = {
    "agentName": "</script><script>alert(2)</script>",
    "queue": '"><svg onload=alert(3)>',
    "callId": "../../../../etc/passwd",
    "campaign": ESCAPE,
    "team": "{{ 7 * 7 }}{% include 'x' %}",
    "disposition": "'; DROP TABLE base.calls; --",
}
# A handler with our words in it, a script of ours: what must never be in a page.
HARM = ("alert(1)", "alert(2)", "alert(3)")


class Harmful(HTMLParser):
    """Collects what a browser would run of the words in `HARM`."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._in_script = tag == "script"
        for name, value in attrs:
            harmful = any(words in (value or "") for words in HARM)
            if (name.startswith("on") and harmful) or (value or "").startswith("javascript:"):
                self.found.append(f"<{tag} {name}={value}>")
        if tag in {"svg", "img"} and any(name.startswith("on") for name, _ in attrs):
            self.found.append(f"<{tag}>")

    def handle_endtag(self, tag: str) -> None:
        self._in_script = False

    def handle_data(self, data: str) -> None:
        if self._in_script and any(data.strip().startswith(words) for words in HARM):
            self.found.append(data)


def hostile_folder(root: Path) -> list[bytes]:
    """Recordings with every name, each second one broken; sidecars; links; a pipe. Returns the names."""
    folder = root / "in"
    folder.mkdir(parents=True)
    for number, name in enumerate(NAMES):
        path = Path(os.fsdecode(os.path.join(os.fsencode(folder), name)))  # noqa: PTH118 - bytes
        short_call(path, number, seconds=3.0)
        if number % 2:
            path.write_bytes(path.read_bytes()[: 2000 + number])
    for number, stem in enumerate(("sidecar", "huge", "deep", "deep-lists", "not-json")):
        short_call(folder / f"{stem}.wav", 100 + number, seconds=3.0)
    (folder / "sidecar.json").write_text(json.dumps(SIDECAR), encoding="utf-8")
    with (folder / "huge.json").open("wb") as file:
        file.write(b'{"queue": "never read", "x": "')
        file.truncate(100_000_000)
    (folder / "deep.json").write_text('{"a":' * 10_000 + "1" + "}" * 10_000, encoding="utf-8")
    (folder / "deep-lists.json").write_text("[" * 10_000 + "]" * 10_000, encoding="utf-8")
    (folder / "not-json.json").write_bytes(b"\xff\xfe\0{")
    outside = root / "outside"
    outside.mkdir()
    short_call(outside / "secret.wav", 999, seconds=3.0)
    (folder / "loop").symlink_to(folder)
    (folder / "out").symlink_to(outside)
    (folder / "linked.wav").symlink_to(outside / "secret.wav")
    (folder / "self.wav").symlink_to("self.wav")
    os.mkfifo(folder / "pipe.wav")
    settle(folder)
    return [*NAMES, b"sidecar.wav", b"huge.wav", b"deep.wav", b"deep-lists.wav", b"not-json.wav"]


def tree(root: Path) -> set[str]:
    return {str(p.relative_to(root)) for p in root.rglob("*")}


def test_hostile_names_metadata_and_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = hostile_folder(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = tree(tmp_path)
    out = tmp_path / "results"
    done = run_command(*night_args(tmp_path / "in", out, "--workers", 1), expect=3)
    assert {p.split("/")[0] for p in tree(tmp_path) - before} == {"results"}, "nothing is made elsewhere"
    # What is said on the terminal cannot steer it.
    assert all(line.isprintable() for line in done.stderr.splitlines()), done.stderr
    database = out / "callanalytics.duckdb"
    seen = {Path(p).name for (p,) in rows(database, "SELECT path FROM call_summary")}
    seen |= {Path(p).name for (p,) in rows(database, "SELECT path FROM quarantine")}
    assert seen == {display_text(os.fsdecode(name)) for name in names}, "and not what lies behind links"
    for output in ("table", "csv", "json"):
        said = run_command("query", "SELECT * FROM call_summary", "--format", output, "--out", out).stdout
        assert "\x1b" not in said
        assert "\x07" not in said
    assert not run_command("status", "--out", out).stdout.count("\x1b")
    for page in (out / "reports").rglob("*.html"):
        reader = Harmful()
        reader.feed(page.read_text(encoding="utf-8"))
        assert reader.found == [], page
        assert "49{%" not in page.read_text(encoding="utf-8"), "a template inside a name was run"
    assert rows(database, "SELECT queue FROM call_summary WHERE path LIKE '%huge.wav'") == [(None,)]
    assert rows(database, "SELECT count(*) FROM call_summary WHERE external_id LIKE '..%'") == [(1,)]
    calls = {p.name for p in (out / "reports" / "calls").iterdir()}
    assert all(name.removesuffix(".html").isalnum() for name in calls), calls


json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=20,
)
keys = st.sampled_from(["callId", "startTime", "duration", "agent", "queue", "from", "direction", "x"])


@given(
    st.binary(max_size=400)
    | st.dictionaries(keys, json_value, max_size=8).map(lambda d: json.dumps(d).encode())
)
def test_any_sidecar_gives_facts_or_nothing(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    folder = tmp_path_factory.getbasetemp() / "sidecars"
    folder.mkdir(exist_ok=True)
    (folder / "a.json").write_bytes(content)
    found = read_sidecar(folder / "a.wav", ZoneInfo("UTC"), max_bytes=1000, names={"a.json"})
    assert found is None or found.recorder == "sidecar" or found.facts.keys() == {"sidecar_note"}


@pytest.mark.parametrize("words", [("analyze",), ("diarize", "--rttm", "-")])
def test_a_pipe_given_by_name_is_refused_and_not_waited_for(tmp_path: Path, words: tuple[str, ...]) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    done = call(words[0], tmp_path / "pipe.wav", *words[1:], expect=1, timeout_s=60)
    assert "pipe.wav: not a regular file" in done.stderr


# Model folders made by hand --------------------------------------------------------------------------------


class Payload:
    """Runs a command when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.system, (f"touch '{self.mark}'",)


def rehash(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Write the card again with hashes of what is there now, so that only the content can be refused."""
    import hashlib

    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    for entry in card["members"]:
        for kind in {"onnx", "safetensors"} & set(entry):
            entry[f"{kind}_sha256"] = hashlib.sha256((folder / entry[kind]).read_bytes()).hexdigest()
    change(card)
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")


def member_file(folder: Path, kind: str) -> Path:
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    return folder / str(card["members"][0][kind])


def pickled(folder: Path) -> None:
    content = pickle.dumps(Payload(folder / "pwned"))
    for kind in ("onnx", "safetensors"):
        member_file(folder, kind).write_bytes(content)
    (folder / "card.json").write_text((folder / "card.json").read_text(encoding="utf-8"), encoding="utf-8")
    rehash(folder, lambda card: None)


def huge_header(folder: Path) -> None:
    member_file(folder, "safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    member_file(folder, "onnx").write_bytes(b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\x7f" * 10)
    rehash(folder, lambda card: None)


def wrong_hash(folder: Path) -> None:
    for kind in ("onnx", "safetensors"):
        with member_file(folder, kind).open("ab") as file:
            file.write(b"\0")


def climbing(folder: Path) -> None:
    shutil.copyfile(member_file(folder, "onnx"), folder.parent / "outside.onnx")
    rehash(folder, lambda card: card["members"][0].update(onnx="../outside.onnx"))


def climbing_weights(folder: Path) -> None:
    (folder.parent / "secret").write_text("secret", encoding="utf-8")
    rehash(folder, lambda card: card["members"][0].update(safetensors="../secret"))


def absolute(folder: Path) -> None:
    rehash(folder, lambda card: card["members"][0].update(safetensors="/etc/passwd"))


def no_text(folder: Path) -> None:
    rehash(folder, lambda card: card["members"][0].update(onnx=["a"]))


def members_are_a_word(folder: Path) -> None:
    rehash(folder, lambda card: card.update(members="all"))


def thresholds_unknown(folder: Path) -> None:
    rehash(folder, lambda card: card.update(thresholds={"__class__": 1}))


def temperature_is_text(folder: Path) -> None:
    rehash(folder, lambda card: card.update(temperature="hot"))


def deep_card(folder: Path) -> None:
    (folder / "card.json").write_text('{"format":' * 10_000 + "1" + "}" * 10_000, encoding="utf-8")


def card_is_bytes(folder: Path) -> None:
    (folder / "card.json").write_bytes(pickle.dumps({"format": 1}))


FOLDERS = (
    *(pickled, huge_header, wrong_hash, climbing, climbing_weights, absolute, no_text),
    *(members_are_a_word, thresholds_unknown, temperature_is_text, deep_card, card_is_bytes),
)


@pytest.mark.parametrize("make", FOLDERS, ids=lambda make: make.__name__)
def test_a_model_folder_made_by_hand_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    folder = tmp_path / "ensemble"
    shutil.copytree(SHIPPED, folder)
    make(folder)
    before = tree(tmp_path)
    with pytest.raises(ModelError):
        load_ensemble(folder)
    with pytest.raises(ModelError):
        load_ensemble(folder, device="cpu:0")  # torch's way in, without a GPU
    with pytest.raises(ModelError):
        Registry(tmp_path / "kept").add(folder)
    assert tree(tmp_path) == before, "nothing was run or copied"


def test_a_run_with_such_a_model_ends_with_6(tmp_path: Path) -> None:
    folder = tmp_path / "ensemble"
    shutil.copytree(SHIPPED, folder)
    pickled(folder)
    (tmp_path / "in").mkdir()
    (tmp_path / "config.toml").write_text('[emotion]\nensemble = "ensemble"\n', encoding="utf-8")
    arguments = night_args(tmp_path / "in", tmp_path / "out", "--config", tmp_path / "config.toml")
    call(*arguments, expect=6)
    assert not (folder / "pwned").exists()
