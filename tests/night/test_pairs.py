"""Two jobs at once in one output folder, killed at random: nothing is lost, doubled or stuck.

Every pair of a run, a purge, a backfill, a retraining, a review, judging again by other rules, a search for
words, a schedule, the app and its review queue; each is the real command in a process of its own.
CALLANALYTICS_TEST_ROUNDS says how many rounds (55: each pair once), CALLANALYTICS_TEST_FIRST_ROUND the first.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any

import duckdb
import pytest
from command_line import run_command
from forked_jobs import Forge, Job, still_running
from short_calls import rows, settle, short_call
from tiny_corpus import write_tiny_manifest

from callanalytics.store.open import read_whole
from callanalytics.workspace import Workspace
from ensemble.inference.ensemble import SHIPPED

pytestmark = pytest.mark.slow

JOBS = (
    *("run", "purge", "backfill", "retrain", "review", "rejudge", "search"),
    *("schedule", "app", "open"),
)
ENDLESS = {"schedule": 20.0, "app": 8.0, "open": 8.0}  # how long they are let run, in seconds
PAIRS = tuple(combinations_with_replacement(JOBS, 2))
N_ROUNDS = int(os.environ.get("CALLANALYTICS_TEST_ROUNDS", str(len(PAIRS))))
FIRST_ROUND = int(os.environ.get("CALLANALYTICS_TEST_FIRST_ROUND", "0"))
STUCK_AFTER_S = 900.0
# Another job may hold a lock; a recording that is gone is named.
FINE = {0, 3, 5}
CONFIG = """
[paths]
inputs = ["{calls}"]
out = "{out}"
[schedule]
run = "* * * * *"
health = ""
[[rule]]
name = "any"
measure = "silence_share"
role = "any"
at_least = 0.0
reason = "{reason}"
[words]
transcripts = ["beside"]
[[rule]]
name = "names_an_animal"
measure = "phrase"
role = "any"
phrases = ["the * is here"]
at_least = 1
reason = "an animal"
"""
OTHER_REASON = "every call, by other words"
DERIVED = (
    *("turns", "segments", "predictions", "call_measures", "escalations", "call_emotions"),
    "utterances",
)
WORDS = {"A": "walrus", "B": "badger", "C": "condor", "D": "dolphin"}  # what a call says and no other


@dataclass(frozen=True)
class Place:
    """One output folder of a round, with what the commands about it need."""

    folder: Path
    out: Path
    config: Path
    other: Path  # settings with other rules
    ids: dict[str, str]  # A leaves and is purged, B is reviewed, C and D are new

    def words(self, job: str, note: str = "") -> tuple[object, ...]:
        end = ("--config", self.config, "--out", self.out)
        b_id = self.ids["B"]
        return {
            "run": ("run", "--since", "2000-01-01", "--workers", 1, *end),
            "purge": ("purge", "--call", self.ids["A"], *end),
            "backfill": ("backfill", "--ensemble", self.folder / "other", "--shadow", "--workers", 1, *end),
            "retrain": ("retrain", "--corpus", self.folder / "corpus" / "made.csv", *HEADS, *end),
            "review": ("review", b_id, "--verdict", "confirm", "--by", "x", "--note", note, *end[2:]),
            "rejudge": ("rejudge", "--config", self.other, "--out", self.out),
            "search": ("search", "animal", "--json", *end),
            "schedule": ("schedule", "--config", self.config),
            "app": ("app", "--no-browser", "--port", free_port(), *end),
            "open": ("open", "--no-browser", "--port", free_port(), *end),
        }[job]


HEADS = ("--heads", "--epochs", 1, "--margin", 1.0, "--threads", 1)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def place_at(folder: Path, out: Path, ids: dict[str, str]) -> Place:
    config, other = out.with_suffix(".toml"), out.with_suffix(".other.toml")
    config.write_text(CONFIG.format(calls=folder / "calls", out=out, reason="every call"))
    other.write_text(CONFIG.format(calls=folder / "calls", out=out, reason=OTHER_REASON))
    return Place(folder, out, config, other, ids)


def transcribed(path: Path, word: str) -> None:
    """Each side says one sentence."""
    said = [
        {"start": 0.2, "end": 1.8, "text": f"the animal {word}", "speaker": "one"},
        {"start": 2.2, "end": 3.8, "text": f"yes the {word} is here", "speaker": "two"},
    ]
    path.with_suffix(".json").write_text(json.dumps({"segments": said}))


@dataclass(frozen=True)
class Base:
    """What every round begins from, how long each job takes alone, and what undisturbed jobs give."""

    place: Place
    forge: Forge
    wall_s: dict[str, float]
    expected: dict[tuple[str, str, str], list[str]]

    def copy(self, name: str) -> Place:
        out = self.place.folder / name
        shutil.copytree(self.place.out, out)
        return place_at(self.place.folder, out, self.place.ids)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Base]:
    """A and B analysed and published; then A's recording has left, C and D have come."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "calls").mkdir()
    ids = {}
    for seed, letter in zip((0, 2, 4, 5), "ABCD", strict=True):  # voices that are heard as speech
        path = folder / "calls" / f"20250327-09251{seed}-Person{letter}.wav"
        short_call(path, seed, 4.0)
        transcribed(path, WORDS[letter])
        ids[letter] = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    late = [shutil.move(path, folder / path.name) for path in sorted(folder.glob("calls/*[CD].*"))]
    settle(folder / "calls")
    manifest = write_tiny_manifest(folder / "corpus")
    few = [line for line in manifest.read_text().splitlines() if "_TAI_" not in line and "_WSI_" not in line]
    manifest.write_text("\n".join(few) + "\n")
    shutil.copytree(SHIPPED, folder / "other")
    card = json.loads((folder / "other" / "card.json").read_text())
    card["temperature"] *= 2
    (folder / "other" / "card.json").write_text(json.dumps(card))
    place = place_at(folder, folder / "out", ids)
    run_command(*place.words("run"))
    for path in folder.glob("calls/*A.*"):
        path.unlink()
    for path in late:
        shutil.move(path, folder / "calls")
    settle(folder / "calls")
    with Forge() as forge:
        made = Base(place, forge, {}, {})
        whole = made.copy("whole")
        wall_s = dict(ENDLESS)
        for job in ("run", "backfill", "retrain", "review", "rejudge", "search", "purge"):
            if job == "purge":
                judge_as_before(whole)
                expected = found_in(whole.out)
            started = time.monotonic()
            end([begin(forge, whole, job, job, "alone", None)])
            wall_s[job] = time.monotonic() - started
        assert {(call, table) for call, _, table in expected} >= {(ids["D"], "segments"), (ids["A"], "turns")}
        said = {call for (call, _, table), found in expected.items() if table == "utterances" and found}
        assert said == set(ids.values())
        shutil.rmtree(whole.out)
        yield Base(place, forge, wall_s, expected)


def judge_as_before(place: Place) -> None:
    """Undo a `rejudge`."""
    run_command("rejudge", "--config", place.config, "--out", place.out)


def found_in(out: Path) -> dict[tuple[str, str, str], list[str]]:
    """(call, ensemble, table) -> its rows as text, of the published file, which is read to its end."""
    found: dict[tuple[str, str, str], list[str]] = {}
    with duckdb.connect(out / "callanalytics.duckdb", read_only=True) as reader:
        read_whole(reader)
        keys = reader.execute("SELECT analysis_key, call_id, ensemble_id FROM base.analyses").fetchall()
        for table in DERIVED:
            for key, call_id, ensemble_id in keys:
                sql = f"SELECT * EXCLUDE analysis_key FROM base.{table} WHERE analysis_key = ?"
                rows_of = sorted(map(repr, reader.execute(sql, [key]).fetchall()))
                found.setdefault((call_id, ensemble_id, table), []).extend(rows_of)
    return found


@dataclass
class Started:
    """A job at work, and when it is to be killed, if it is."""

    job: str
    note: str
    process: Job
    log: Path
    kill_at: float | None
    code: int | None = None

    def says(self) -> str:
        return f"{self.job}: exit {self.code}\n{self.log.read_text(errors='replace')[-3000:]}"


def begin(forge: Forge, place: Place, job: str, note: str, tag: str, kill_after_s: float | None) -> Started:
    log = place.folder / f"{place.out.name}-{note}.log"
    process = forge.start(place.words(job, note), log, tag, place.folder)
    return Started(job, note, process, log, kill_after_s and time.monotonic() + kill_after_s)


def end(all_started: list[Started]) -> None:
    """Kill what is to be killed when it is time; ask endless jobs that survive to end; wait for all."""
    begun = time.monotonic()
    while any(started.code is None for started in all_started):
        now = time.monotonic()
        for started in all_started:
            if started.code is not None:
                continue
            others = [o for o in all_started if o is not started]
            is_last = all(o.code is not None or (o.job in ENDLESS and o.kill_at is None) for o in others)
            if started.kill_at is not None and now >= started.kill_at:
                started.process.send_signal(signal.SIGKILL)
            elif is_last and started.kill_at is None and now - begun > ENDLESS.get(started.job, math.inf):
                started.process.send_signal(signal.SIGTERM)
            started.code = started.process.poll()
        assert now - begun < STUCK_AFTER_S, [started.says() for started in all_started]
        time.sleep(0.02)
    for started in all_started:
        ended = {-signal.SIGKILL} if started.kill_at is not None else set()
        ended |= {-signal.SIGTERM, 143} if started.job in ENDLESS else set()
        assert started.code in FINE | ended, started.says()
        assert "Traceback" not in started.log.read_text(errors="replace"), started.says()


def wait_for_others(tag: str, jobs: list[Job]) -> None:
    """Workers end with their driver; what a killed schedule had begun goes on to its end."""
    deadline = time.monotonic() + 300
    while (left := still_running(tag, jobs)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, f"still running: {left}"


def check(base: Base, place: Place, all_started: list[Started]) -> None:
    """Do again what was asked for, then look: nothing is lost, doubled, left over or stuck."""
    jobs = {started.job for started in all_started}
    notes = {started.note: started.code for started in all_started if started.job == "review"}
    for job in ("purge", "backfill", "retrain", "rejudge"):
        if job in jobs:
            run_command(*place.words(job))
    if "rejudge" in jobs:
        reasons = "SELECT DISTINCT reason FROM escalations WHERE rule = 'any'"
        assert rows(Workspace(place.out).database, reasons) == [(OTHER_REASON,)]
        judge_as_before(place)
    for note, code in notes.items():
        if code != 0:
            run_command(*place.words("review", note))
    run_command(*place.words("run"))
    workspace, ids = Workspace(place.out), place.ids
    wanted = {ids[letter] for letter in ("BCD" if "purge" in jobs else "ABCD")}
    found = found_in(place.out)
    promoted = rows(workspace.database, "SELECT ensemble_id FROM base.ensembles WHERE promoted")[0][0]
    assert {call_id for call_id, ensemble_id, _ in found if ensemble_id == promoted} == wanted
    shadow = {call_id for call_id, ensemble_id, _ in found if ensemble_id != promoted}
    assert shadow <= wanted
    assert ids["B"] in shadow or "backfill" not in jobs
    for key, content in found.items():
        assert content == base.expected.get(key), key
    twice = "SELECT call_id FROM base.analyses GROUP BY call_id, ensemble_id HAVING count(*) > 1"
    assert rows(workspace.database, twice) == []
    for note, code in notes.items():
        told = rows(workspace.database, f"SELECT count(*) FROM base.reviews WHERE note = '{note}'")[0][0]
        assert told in ({1} if code == 0 else {1, 2}), (note, code, told)
    assert rows(workspace.database, "SELECT count(*) FROM base.quarantine") == [(0,)]
    check_files(place, wanted)
    if "retrain" in jobs:
        history = [json.loads(line) for line in workspace.training.history.read_text().splitlines()]
        assert len({row["key"] for row in history}) == len(history) == 1
    found_words = json.loads(run_command(*place.words("search")).stdout)
    assert sorted(row["call_id"] for row in found_words) == sorted(wanted)
    if "purge" in jobs:
        assert traces(place.out, (ids["A"], "PersonA", WORDS["A"])) == []


def check_files(place: Place, wanted: set[str]) -> None:
    workspace = Workspace(place.out)
    assert {folder.name for folder in workspace.clips.iterdir()} == wanted
    named = (
        "SELECT call_id, unnest(evidence).clip FROM base.escalations JOIN base.analyses USING (analysis_key)"
    )
    clips = {(call_id, clip) for call_id, clip in rows(workspace.database, named) if clip}
    assert clips
    assert [
        clip for call_id, clip in clips if not (workspace.clips_of(call_id) / Path(clip).name).is_file()
    ] == []
    assert {page.stem for page in workspace.call_pages.glob("*.html")} - {"index"} == wanted
    assert workspace.report_index.read_text().rstrip().endswith("</html>")
    assert list(workspace.review_queue.glob("*.json*")) == []
    left = [path.name for path in workspace.work_dir.rglob("*") if unfinished(path.name)]
    left += [path.name for path in place.out.rglob(".*.part")]
    assert left == []
    assert workspace.held is None


def unfinished(name: str) -> bool:
    return name.startswith(("publishing", "unpublished", "changing")) or name.endswith(
        (".restoring", ".compacting", ".tmp", ".damaged")
    )


def traces(out: Path, words: tuple[str, ...]) -> list[str]:
    """Files whose name or bytes hold one of the words."""
    return [
        str(path.relative_to(out))
        for path in out.rglob("*")
        for content in [path.read_bytes() if path.is_file() else b""]
        if any(word.encode() in content or word in path.name for word in words)
    ]


def rounds() -> Iterator[Any]:
    for number in range(FIRST_ROUND, FIRST_ROUND + N_ROUNDS):
        yield pytest.param(number, id=f"{number}-{'-'.join(PAIRS[number % len(PAIRS)])}")


@pytest.mark.parametrize("number", rounds())
def test_two_jobs_at_once_killed_at_random(base: Base, number: int) -> None:
    chance = random.Random(number)
    place = base.copy(f"round-{number}")
    victims = chance.choice([{0}, {1}, {0, 1}])
    tag = f"pairs-{os.getpid()}-{number}"
    all_started = []
    for index, job in enumerate(PAIRS[number % len(PAIRS)]):
        after_s = chance.uniform(0.05, base.wall_s[job]) if index in victims else None
        all_started.append(begin(base.forge, place, job, f"{number}-{index}", tag, after_s))
        time.sleep(chance.uniform(0, 1.5) * (1 - index))
    try:
        end(all_started)
        wait_for_others(tag, [started.process for started in all_started])
        check(base, place, all_started)
    except BaseException:
        for started in all_started:
            started.process.send_signal(signal.SIGKILL)
            print(started.says())
        raise
    shutil.rmtree(place.out)
