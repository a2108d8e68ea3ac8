"""Short stereo calls, each another sound, that analyse in a fraction of a second; and the real command."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import soundfile

RATE_HZ = 8_000
# Files this old are settled; a name with a stamp says when the call was.
AGE_S = 7_200.0


def voice(seconds: float, pitch_hz: float, rng: np.random.Generator) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Something that a voice detector takes for speech: syllables of a buzzing source, in noise."""
    at_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    wobble = 1 + 0.05 * np.sin(2 * np.pi * 2.3 * at_s + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch_hz * wobble) / RATE_HZ
    formants = rng.uniform(0.5, 1.5, 24)
    buzz = sum(formants[k - 1] * np.sin(k * phase) / k for k in range(1, 24))
    syllables = np.clip(np.sin(2 * np.pi * 3.5 * at_s + rng.uniform(0, 6)) + 0.4, 0, 1)
    return 0.1 * np.asarray(buzz) * syllables + rng.normal(0, 1e-3, at_s.size)


def short_call(path: Path, seed: int, seconds: float = 6.0, *, mono: bool = False) -> None:
    """Caller speaks, then agent; every seed is another recording. `mono`: the caller's side only."""
    rng = np.random.default_rng(seed)
    half = round(seconds * RATE_HZ / 2)
    sides = rng.normal(0, 1e-3, (2 * half, 2))
    sides[:half, 0] += voice(half / RATE_HZ, rng.uniform(150, 260), rng)
    sides[half:, 1] += voice(half / RATE_HZ, rng.uniform(90, 140), rng)
    with path.open("wb") as file:  # libsndfile itself takes no name that is not UTF-8
        soundfile.write(
            file, np.clip(sides[:, 0] if mono else sides, -1, 1), RATE_HZ, format="WAV", subtype="PCM_16"
        )


def short_calls(folder: Path, n: int, *, n_broken: int = 0, seconds: float = 6.0) -> Path:
    """`n` calls of which the first `n_broken` are cut off, dated long enough ago to be taken."""
    folder.mkdir(parents=True)
    for number in range(n):
        path = folder / f"call-{number:03d}.wav"
        short_call(path, number, seconds)
        if number < n_broken:
            path.write_bytes(path.read_bytes()[: 1000 * (number + 30)])
    settle(folder)
    return folder


def settle(folder: Path) -> None:
    """Make every file old enough that nobody can be writing it any more."""
    then = time.time() - AGE_S
    for path in folder.rglob("*"):
        if not path.is_symlink():
            os.utime(path, (then, then))


def command(*args: object) -> list[str]:
    """The real command line in a process of its own."""
    return [sys.executable, "-m", "callanalytics", *map(str, args)]


def environment(**more: str) -> dict[str, str]:
    """Few threads, so that a shared machine is not fought over."""
    return {**os.environ, "OMP_NUM_THREADS": "1", **more}


def call(
    *args: object, expect: int | None = 0, env: Mapping[str, str] | None = None, timeout_s: float = 900
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end. Fails with all it said when the exit code differs."""
    done = subprocess.run(
        command(*args),
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        env=environment(**(env or {})),
    )
    assert expect is None or done.returncode == expect, (
        f"exit {done.returncode}\n{done.stdout}\n{done.stderr[-4000:]}"
    )
    assert "Traceback" not in done.stderr, done.stderr[-4000:]
    return done


def night_args(folder: Path, out: Path, *more: object) -> tuple[object, ...]:
    """The words of a run over everything in a folder."""
    return ("run", "--since", "2000-01-01", "--input", folder, "--out", out, *more)


def rows(database: Path, sql: str) -> list[tuple[Any, ...]]:
    """What the published (or working) file answers."""
    with duckdb.connect(str(database), read_only=True) as connection:
        return connection.execute(sql).fetchall()


# Columns that say when and in which run something was done, and how fast: not what was found.
_PASSING = {
    "run_id",
    "analysed_at",
    "revision",
    "first_seen_at",
    "last_seen_at",
    "registered_at",
    "promoted_at",
}
_PASSING |= {"stage_wall_s", "analysis_key", "first_used_at"}
# Of each run and file system, not of the calls.
_NOT_RESULTS = {"runs", "skipped_files", "definitions", "schema_version", "files"}


def results(database: Path) -> dict[str, list[str]]:
    """Every row of every table as text, sorted, without what no two runs share.

    Keys of analyses are given in order of arrival, so rows are told by their call instead.
    """
    found: dict[str, list[str]] = {}
    with duckdb.connect(str(database), read_only=True) as connection:
        tables = connection.execute(
            "SELECT table_name, list(column_name ORDER BY column_index) FROM duckdb_columns()"
            " WHERE schema_name = 'base' AND table_name IN"
            " (SELECT table_name FROM duckdb_tables() WHERE schema_name = 'base') GROUP BY ALL ORDER BY 1"
        ).fetchall()
        for table, columns in tables:
            if table in _NOT_RESULTS:
                continue
            kept = [f't."{column}"' for column in columns if column not in _PASSING]
            source = f"base.{table} t"
            if "analysis_key" in columns and table != "analyses":
                source += " JOIN base.analyses a USING (analysis_key)"
                kept.insert(0, "a.call_id")
            sql = f"SELECT {', '.join(kept)} FROM {source}"
            found[table] = sorted(map(repr, connection.execute(sql).fetchall()))
    return found
