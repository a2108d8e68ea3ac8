"""Damaged notes, absurd settings, secrets, hostile text, short memory: said in our words, and no more."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import re
import resource
import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from command_line import run_command
from short_calls import command, environment, short_calls

from callanalytics.config import Settings, load_config
from callanalytics.config.call_settings import RuleSettings
from callanalytics.errors import ConfigError, StoreError, UsageError
from callanalytics.ingest.object_store import check_remote, path_of
from callanalytics.records.text import without_secrets
from callanalytics.workspace import Workspace, write_whole
from jobs.cli.single_file import render_clip
from jobs.maintenance.doctor import examine
from jobs.maintenance.status import read_status, render_status
from jobs.night import RunOptions
from jobs.night.run import run_night
from jobs.reviews.queue import waiting_reviews
from jobs.scheduler.monitoring import ping

pytestmark = pytest.mark.usefixtures("analysed_here")

SECRET = "s3cr3t-token"


@pytest.fixture
def out(plausible_out: Path, tmp_path: Path) -> Path:
    return shutil.copytree(plausible_out, tmp_path / "out")


DAMAGED = (b"", b"{", b"[null]", b"\xff\xfe{}")
NOTES = ("held.json", "schedule.json", "summary.json", "run.lock", "schedule.lock", "reported.json")


def test_status_says_which_notes_are_damaged(out: Path) -> None:
    for content in (*DAMAGED, b'{"held_at": 5}'):
        for name in NOTES:
            (out / ".work" / name).write_bytes(content)
        found = read_status(Workspace(out))
        shown = render_status(found, ZoneInfo("UTC"))
        assert "NOT PUBLISHED since" in shown
        assert "held.json: the note of why cannot be read" in shown
        assert "Calls:   96" in shown  # of the published file
        assert found["schedule"]["healthy"] is False
        assert "schedule.json: cannot be read" in shown or content not in DAMAGED


def test_a_summary_whose_rows_lack_something_is_not_believed(out: Path) -> None:
    found = {"totals": {"n_calls": 1}, "runs": [{}], "quarantine": [{}]}
    (out / ".work" / "summary.json").write_text(json.dumps(found))
    assert "Calls:   96" in run_command("status", "--out", out).stdout


def test_a_damaged_note_of_what_is_held_back_still_holds_it_back(out: Path) -> None:
    assert Workspace(out).held is None
    (out / ".work" / "held.json").write_bytes(b"")
    held = Workspace(out).held
    assert held is not None
    assert "cannot be read" in held["reasons"][0]


ABSURD = (
    "[audio]\nmax_duration_s = inf",
    "[audio]\nmax_duration_s = 1e300",
    "[audio]\nmin_duration_s = nan",
    "[audio]\nmax_bytes = 100000000000000000000000",
    "[audio]\ndecode_timeout_s = inf",
    "[discovery]\nsettle_s = 1e18",
    "[discovery]\nmax_sidecar_bytes = 10000000000000000000000",
    "[segments]\nmax_s = inf",
    "[engine]\nrecording_timeout_s = inf",
    "[engine]\ntime_budget_s = inf",
    "[frustration]\nsmoothing_s = inf",
    "[frustration]\nflag_weight = inf",
    "[report]\nmax_call_pages = 1000000000000000000000",
    "[schedule]\nretry_after_s = inf",
    '[[rule]]\nname = "a"\nmeasure = "silence_s"\nat_least = inf\nreason = "r"',
)


@pytest.mark.parametrize("text", ABSURD)
def test_settings_that_no_analysis_can_follow_are_refused_before_it(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    with pytest.raises(ConfigError, match="is not allowed"):
        load_config(tmp_path / "config.toml")


def test_a_byte_order_mark_is_no_mistake(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_bytes(b'\xef\xbb\xbf[time]\nzone = "Europe/Berlin"\n')
    assert load_config(tmp_path / "config.toml").time.zone == "Europe/Berlin"


@pytest.mark.parametrize(
    "text",
    [
        f"s3://{SECRET}:{SECRET}@host/bucket/day cannot be read",
        f"s3:/user:{SECRET}@host/bucket",
        f"(https://host/a.wav?X-Amz-Signature={SECRET}&b={SECRET})",
        f"sftp://{SECRET}@host:22/x",
    ],
)
def test_what_gives_access_is_not_repeated(text: str) -> None:
    assert SECRET not in without_secrets(text)
    assert "host" in without_secrets(text)


def test_messages_keep_secrets_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(f'[schedule]\nping_url = "htps://hc-ping.com/{SECRET}"')
    with pytest.raises(ConfigError, match="ping_url") as refused:
        load_config(tmp_path / "config.toml")
    assert SECRET not in str(refused.value)
    url = f"nosuchstore://{SECRET}:{SECRET}@host/calls?key={SECRET}"
    with pytest.raises(UsageError) as unknown:
        check_remote(path_of(url))
    assert SECRET not in str(unknown.value)
    done = run_command("run", "--input", url, "--out", tmp_path / "out", expect=2)
    assert SECRET not in done.stderr
    assert "nosuchstore" in done.stderr


@pytest.fixture
def answering() -> Iterator[tuple[list[bytes], str]]:
    """A server that answers every request with the bytes in a list."""
    answers: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection:
                    connection.recv(4096)
                    connection.sendall(answers[0])

        threading.Thread(target=serve, daemon=True).start()
        yield answers, f"http://127.0.0.1:{server.getsockname()[1]}/{SECRET}"


@pytest.mark.parametrize(
    "answer",
    [b"SSH-2.0-OpenSSH_9.6\r\n", b"", b"\0" * 100, b"HTTP/1.1 500 \xff\r\n\r\n", b"HTTP/9 zz\r\n\r\n"],
)
def test_a_ping_server_that_speaks_no_http_is_a_failed_ping(
    answering: tuple[list[bytes], str], answer: bytes
) -> None:
    answers, url = answering
    answers.append(answer)
    said = ping(url, 5.0)
    assert said is not None
    assert said.startswith("ping failed: ")
    assert SECRET not in said


def test_an_address_that_is_none_is_a_failed_ping_and_not_repeated() -> None:
    for url in (f"http://host/{SECRET} with blanks\n", f"http://[{SECRET}/", f"http://host:port/{SECRET}"):
        said = ping(url, 1.0)
        assert said is not None
        assert SECRET not in said


def test_the_doctor_looks_at_the_salt(out: Path) -> None:
    salt = out / ".caller-salt"

    def found() -> str:
        (answer,) = (each for each in examine(Settings(), Workspace(out)) if each.name == "salt")
        return f"{answer.ok} {answer.found} {answer.fix}"

    assert found().startswith(f"False {salt}: gone Restore it")
    salt.write_bytes(b"")
    assert found().startswith(f"False {salt}: empty")
    salt.write_text("ab" * 32)
    salt.chmod(0o644)
    assert "open to others (-rw-r--r--)" in found()
    assert f"chmod 600 {salt}" in found()
    salt.chmod(0o600)
    assert found().startswith("True")


ESCAPES = "\x1b[2J\x1b]0;owned\x07a\n.wav"


def test_no_command_writes_escapes_of_others_to_the_terminal(tmp_path: Path) -> None:
    hostile = tmp_path / ESCAPES
    hostile.write_bytes(b"no sound at all")
    rows = [
        {"path": str(hostile), "error": f"bad {ESCAPES}"},
        {"path": str(hostile), "emotion": "anger", "confidence": 1.0, "agreement": 1.0},
    ]
    said = [render_clip(row) for row in rows]
    for words in (("analyze",), ("diarize", "--rttm", "-")):
        for path in (hostile, tmp_path / f"missing{ESCAPES}"):
            done = run_command(*words, path, expect=None)
            assert done.exit_code != 0
            said.append(done.stdout + done.stderr.rstrip("\n"))
    assert not [text for text in said if "\x1b" in text or "\x07" in text]


def test_formulas_are_made_harmless_on_request(out: Path) -> None:
    sql = "SELECT '=1+1' AS \"=a\", ' @x' AS b, '-5' AS c, -5 AS d, 'plain' AS e, NULL AS f, ['=1'] AS g"
    ask = ("query", sql, "--format", "csv", "--out", out)
    assert run_command(*ask).stdout == '=a,b,c,d,e,f,g\n=1+1, @x,-5,-5,plain,,"[""=1""]"\n'
    safe = run_command(*ask, "--safe-csv").stdout
    assert safe == '\'=a,b,c,d,e,f,g\n\'=1+1,\' @x,\'-5,-5,plain,,"[""=1""]"\n'
    run_command("query", "SELECT 1", "--safe-csv", "--out", out, expect=2)


def test_a_report_fits_into_short_memory(out: Path) -> None:
    """Under `ulimit -v`, which ended the browser engine that once drew the charts."""
    if resource.getrlimit(resource.RLIMIT_AS)[1] != resource.RLIM_INFINITY:
        pytest.skip("the address space is limited already")
    since = ("--since", "2025-01-01", "--until", "2025-05-01")
    done = subprocess.run(
        command("report", *since, "--out", out),
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (3_000_000_000,) * 2),
    )
    assert done.returncode == 0, done.stderr
    assert '<rect x="' in (out / "reports" / "index.html").read_text(encoding="utf-8"), "bars are drawn"


def test_a_pipe_in_the_review_queue_is_not_waited_for(tmp_path: Path) -> None:
    queue = Workspace(tmp_path).review_queue
    queue.mkdir(parents=True)
    os.mkfifo(queue / "1.json")
    reading = threading.Thread(target=lambda: waiting_reviews(Workspace(tmp_path)), daemon=True)
    reading.start()
    reading.join(timeout=10)
    assert not reading.is_alive()
    assert waiting_reviews(Workspace(tmp_path)) == []


def test_a_share_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.raises(StoreError, match=r"no locks.*No locks available"), Workspace(tmp_path).lock():
        pass
    write_whole(tmp_path / "note", "still whole")
    assert (tmp_path / "note").read_text() == "still whole"


def test_an_output_folder_whose_name_is_no_text_is_refused_before_the_search(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"out\\xe9: the name is no UTF-8"):
        Workspace(tmp_path / os.fsdecode(b"out\xe9")).make()
    assert list(tmp_path.iterdir()) == []


# What a share refuses, where, and the words of the advice.
REFUSED = (
    ("chmod", errno.EPERM, "run", "keep no permissions.*umask=077.*give --out a folder on another"),
    ("chmod", errno.EPERM, "purge", "keep no permissions.*umask=077"),
    ("fchmod", errno.EOPNOTSUPP, "report", "keep no permissions"),
    ("fsync", errno.EIO, "purge", "Check the disk or share and do the same again"),
    ("replace", errno.EBUSY, "purge", "Close it where it is open"),
    ("replace", errno.ENOSPC, "report", "Free disk space and run"),
    ("replace", errno.EROFS, "purge", "Mount it for writing"),
)


@pytest.mark.parametrize(("refused", "number", "job", "advice"), REFUSED)
def test_what_a_share_refuses_is_answered_with_the_right_advice(
    out: Path, monkeypatch: pytest.MonkeyPatch, refused: str, number: int, job: str, advice: str
) -> None:
    """Of a share that keeps no permissions, people were told to free disk space."""
    before, new = (out / "callanalytics.duckdb").read_bytes(), out.parent / "new"
    (empty := out.parent / "calls").mkdir()
    really = getattr(os, refused)

    def refusing(what: int | str | Path, *more: object, **by_name: object) -> None:
        path = f"/proc/self/fd/{what}" if isinstance(what, int) else what
        if Path(path).resolve().is_relative_to(out.parent):
            raise OSError(number, os.strerror(number), str(what))
        really(what, *more, **by_name)

    monkeypatch.setattr(os, refused, refusing)
    words = {
        "run": ("run", "--since", "2d", "--input", empty, "--out", new),
        "purge": ("purge", "--older-than", "2025-04-01", "--out", out),
        "report": ("report", "--since", "2025-01-01", "--out", out),
    }[job]
    said = run_command(*words, expect=1).stderr
    assert re.search(advice, said), said
    assert "disk space" not in said or number == errno.ENOSPC, said
    assert (out / "callanalytics.duckdb").read_bytes() == before
    assert not (new / "callanalytics.duckdb").exists()


def test_an_output_folder_that_was_moved_away_meanwhile_is_not_made_anew(tmp_path: Path) -> None:
    """With the clips of a call in it and no database, no purge would have found them."""
    calls, out = short_calls(tmp_path / "calls", 1, seconds=4.0), tmp_path / "out"
    silent = RuleSettings(name="any", measure="silence_share", role="any", at_least=0.0, reason="any call")

    def move_away(stage: str, *_: object) -> None:
        if stage == "analyse" and out.exists():
            out.rename(tmp_path / "elsewhere")

    options = RunOptions(since="2000-01-01", inputs=(calls,), out=out, workers=1)
    with pytest.raises(StoreError, match="moved or removed while this job was at work"):
        run_night(Settings(rule=(silent,)), options, on_progress=move_away)
    assert not out.exists()
    (tmp_path / "elsewhere").rename(out)
    assert run_night(Settings(rule=(silent,)), options).counts.n_done == 1
    assert list(Workspace(out).clips.rglob("*.mp3"))
