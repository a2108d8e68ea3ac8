"""Build a database of many segments and time what people and pages ask of it.

    python benchmarks/store.py --rows 10_000_000 --out DIR

Calls are made up (about 100 segments each, a year of days, 8 queues, 60 agents, three members), assessed by
the real measures and rules, and written by the real writer in the batches of a night; making them up and
packing them, which is the workers' part, is not counted. Every view is read whole (all rows fetched into
the engine, none printed), except the nouns that hold one row or more per segment: nobody reads ten million
rows, so these are counted and filtered to a call. Times are the best of three on a warm cache.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import numpy as np

from callanalytics.analysis.assess import assess
from callanalytics.analysis.call import CallAnalysis
from callanalytics.config import Settings
from callanalytics.config.window import Window
from callanalytics.diarize.segments import cut_segments
from callanalytics.features import FEATURE_NAMES
from callanalytics.records import (
    AudioFacts,
    CallFacts,
    CallRows,
    ChannelLayout,
    Diarization,
    Direction,
    Features,
    Recording,
    Role,
    RoleSource,
    TimeSource,
    Turn,
)
from callanalytics.store import Review, Store, open_work, publish
from callanalytics.store.rows import pack
from callanalytics.workspace import Workspace
from ensemble.inference.vote import Votes
from jobs.night.run import BATCH_CALLS

LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
MEMBERS = ("cnn", "crnn", "vit")
ENSEMBLE_ID = "be0c0de000000001"
N_TEMPLATES = 192
FIRST = datetime(2025, 1, 1, 8, tzinfo=UTC)
N_DAYS = 365
# One row or more per segment: counted and asked for one call, not read whole.
PER_SEGMENT = (
    *("segments", "votes", "segment_emotions", "segment_probabilities", "predictions"),
    *("features", "segment_features", "call_measures"),
)
# What the page of a call asks (reports/pages/call_page.py), and a person who looks at one call.
CALL_PAGE = {
    "summary": "FROM call_summary WHERE call_id = $c",
    "turns": "FROM turns WHERE call_id = $c ORDER BY start_s",
    "segments": "FROM segment_emotions WHERE call_id = $c ORDER BY start_s",
    "predictions": "FROM predictions WHERE call_id = $c ORDER BY segment, member",
    "features": "SELECT segment, loudness_db, f0_median_hz FROM segment_features WHERE call_id = $c",
    "probabilities": "FROM segment_probabilities WHERE call_id = $c",
    "measures": "FROM call_measures WHERE call_id = $c",
    "curve": "FROM frustration_curve WHERE call_id = $c",
    "escalations": "FROM escalations WHERE call_id = $c",
    "evidence": "FROM evidence WHERE call_id = $c",
    "sounds": "FROM sounds WHERE call_id = $c",
}


# Questions that read every segment, for the record: they are not views.
WHOLE = {
    "labels of all": "SELECT role, emotion, count(*) FROM segment_emotions GROUP BY ALL",
    "labels of a week": "SELECT emotion, count(*) FROM segment_emotions"
    " WHERE day BETWEEN DATE '2025-06-02' AND DATE '2025-06-08' GROUP BY ALL",
    "loudness of a week": "SELECT emotion, median(loudness_db) FROM segment_features"
    " WHERE day BETWEEN DATE '2025-06-02' AND DATE '2025-06-08' GROUP BY ALL",
    "loudness of all": "SELECT emotion, median(loudness_db) FROM segment_features GROUP BY ALL",
}


def templates(settings: Settings) -> list[CallAnalysis]:
    """Calls to be written again and again under other names."""
    rng = np.random.default_rng(7)
    return [_template(rng, settings) for _ in range(N_TEMPLATES)]


def _template(rng: np.random.Generator, settings: Settings) -> CallAnalysis:
    turns, at_s = [], 1.0
    for index in range(int(rng.integers(40, 70))):
        length_s = float(rng.uniform(3, 8))
        turns.append(Turn(f"speaker_{index % 2}", index % 2, round(at_s, 3), round(at_s + length_s, 3)))
        at_s += length_s + float(rng.uniform(-0.3, 0.9))
    spoken = Diarization(
        turns=tuple(turns),
        roles={"speaker_0": Role.CALLER, "speaker_1": Role.AGENT},
        layout=ChannelLayout.STEREO,
        role_source=RoleSource.RECORDER,
        role_confidence=1.0,
    )
    segments = cut_segments(spoken.turns, spoken.roles, settings.segments)
    n = len(segments)
    logits = rng.normal(0, 1, (len(MEMBERS), n, len(LABELS)))
    logits[:, :, LABELS.index("neutral")] += 1.5
    probabilities = (np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)).astype(np.float32)
    mean = probabilities.mean(axis=0)
    top = mean.argmax(axis=1)
    sure = mean.max(axis=1) > 0.4
    votes = Votes(
        labels=LABELS,
        member_names=MEMBERS,
        probabilities=probabilities,
        mean_probabilities=mean,
        emotion_index=np.where(sure, top, -1),
        top_index=top,
        confidence=mean.max(axis=1),
        agreement=(probabilities.argmax(axis=2) == top).mean(axis=0).astype(np.float32),
        tie_broken=np.zeros(n, dtype=bool),
        abstain_reason=tuple(None if ok else "low_confidence" for ok in sure),
    )
    features = Features(FEATURE_NAMES, rng.normal(0, 1, (n, len(FEATURE_NAMES))).astype(np.float32))
    duration_s = round(at_s + 5, 3)
    return CallAnalysis(
        recording=Recording("0" * 64, (Path("/calls/x.wav"),), 640_044, FIRST),
        facts=CallFacts("freepbx", 0.9, FIRST, TimeSource.NAME, "Europe/Berlin"),
        audio=AudioFacts(
            native_rate_hz=8000,
            n_channels=2,
            codec=str(rng.choice(["pcm_mulaw", "pcm_s16le", "mp3"])),
            container="wav",
            duration_s=duration_s,
            clipped_share=float(rng.uniform(0, 0.01)),
        ),
        speech=spoken,
        segments=segments,
        features=features,
        votes=votes,
        ensemble_id=ENSEMBLE_ID,
        assessment=assess(duration_s, spoken, segments, features, votes, settings),
        clips=(),
        stage_wall_s={"decode": 0.1, "vote": 0.4},
    )


def calls(models: list[CallAnalysis], n_rows: int, *, first: int = 0) -> Iterator[CallAnalysis]:
    """As many calls as have `n_rows` segments, in order of time, spread evenly over the days.

    They are numbered from `first`, which names them.
    """
    mean = sum(len(call.segments) for call in models) / len(models)
    n_calls = round(n_rows / mean)
    rng = np.random.default_rng(11)
    for number in range(first, first + n_calls):
        model = models[int(rng.integers(len(models)))]
        day = (number - first) * N_DAYS // n_calls
        at = FIRST + timedelta(days=day, seconds=int(rng.integers(0, 36_000)))
        identity = hashlib.sha256(str(number).encode()).hexdigest()
        yield replace(
            model,
            recording=Recording(identity, (Path(f"/calls/{number}.wav"),), 640_044, at),
            facts=CallFacts(
                "freepbx", 0.9, at, TimeSource.NAME, "Europe/Berlin",
                external_id=str(number), direction=Direction.INBOUND, agent_id=f"agent{rng.integers(60):02}",
                queue=f"queue{rng.integers(8)}", caller_hash=f"{int(rng.integers(n_calls)):064x}",
            ),
        )  # fmt: skip


def load(store: Store, n_rows: int) -> dict[str, float]:
    """Write everything; seconds spent in the writer, and segments per second."""
    settings = Settings()
    models = templates(settings)
    store.register_ensemble(ENSEMBLE_ID, {}, LABELS, MEMBERS)
    store.promote_ensemble(ENSEMBLE_ID)
    run_id = store.begin_run(Window(FIRST, FIRST + timedelta(days=N_DAYS)), ENSEMBLE_ID, "0")
    wall_s, n_calls, n_segments = 0.0, 0, 0
    batch: list[CallRows] = []

    def write() -> None:
        nonlocal wall_s, n_calls, n_segments
        began = time.perf_counter()
        store.append(batch, run_id)
        wall_s += time.perf_counter() - began
        n_calls += len(batch)
        n_segments += sum(call.n_segments for call in batch)
        if n_calls % (BATCH_CALLS * 25) == 0:
            print(f"  {n_segments:,} segments, {n_segments / wall_s:,.0f} a second", flush=True)
        batch.clear()

    for call in calls(models, n_rows):
        batch.append(pack(call))  # as a worker sends it
        if len(batch) == BATCH_CALLS:
            write()
    if batch:
        write()
    flagged = store.connection.execute("SELECT call_id FROM call_summary WHERE flagged LIMIT 500").fetchall()
    for number, (call_id,) in enumerate(flagged):
        store.review(Review(call_id, ("confirm", "reject", "unsure")[number % 3]))
    return {"loading_s": wall_s, "n_calls": n_calls, "n_segments": n_segments}


def multiply(store: Store, times: int) -> None:
    """Keep the same calls `times` times, under other names: ten times as fast as writing them."""
    run = store.connection.execute
    ((last,),) = store.rows("SELECT max(analysis_key) FROM base.analyses")
    keyed = store.rows(
        "SELECT table_name FROM duckdb_columns() WHERE schema_name = 'base' AND column_name = 'analysis_key'"
    )
    for n in range(1, times):
        id_of = f"md5(recording_id || '{n}') || md5(recording_id || '-{n}')"
        named = f"left({id_of}, 16) AS call_id, {id_of} AS recording_id"
        with store.transaction("multiply"):
            for table in ("calls", "recordings"):
                run(
                    f"INSERT INTO base.{table} BY NAME SELECT * REPLACE ({named}) FROM base.{table} WHERE"
                    f" call_id IN (SELECT call_id FROM base.analyses WHERE analysis_key <= {last})"
                )
            for (table,) in keyed:
                replaced = f"(analysis_key + {n * last})::INTEGER AS analysis_key"
                replaced += f", {named}, uuid() AS revision" if table == "analyses" else ""
                run(
                    f"INSERT INTO base.{table} BY NAME SELECT * REPLACE ({replaced}) FROM base.{table}"
                    f" WHERE analysis_key <= {last}"
                )


def best_ms(connection: duckdb.DuckDBPyConnection, sql: str, repeats: int = 3, **values: object) -> float:
    """Milliseconds of the fastest of a few readings of all rows as columns."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        connection.sql(sql, params=values or None).to_arrow_table()
        times.append(time.perf_counter() - began)
    return min(times) * 1000


def ask(database: Path) -> dict[str, dict[str, float]]:
    """Time of every view read whole, and of every query of a call page, in milliseconds."""
    with duckdb.connect(database, read_only=True) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        views = [
            name
            for (name,) in connection.execute(
                "SELECT view_name FROM duckdb_views() WHERE NOT internal AND schema_name = 'main'"
                " ORDER BY view_name"
            ).fetchall()
        ]
        n = connection.execute("SELECT count(*) FROM calls").fetchall()[0][0]
        whole = {}
        for view in views:
            sql = f"SELECT count(*) FROM {view}" if view in PER_SEGMENT else f"FROM {view}"
            whole[view] = best_ms(connection, sql)
            print(f"  {view:<24}{whole[view]:>10.1f} ms", flush=True)
        questions = {}
        for name, sql in WHOLE.items():
            questions[name] = best_ms(connection, sql, repeats=2)
            print(f"  {name:<24}{questions[name]:>10.1f} ms", flush=True)
        page: dict[str, float] = {}
        picked = connection.execute("SELECT call_id FROM calls ORDER BY hash(call_id) LIMIT 5").fetchall()
        for name, sql in CALL_PAGE.items():
            times = [best_ms(connection, sql, c=call_id) for (call_id,) in picked]
            page[name] = float(np.median(times))
            print(f"  one call: {name:<14}{page[name]:>10.1f} ms", flush=True)
        page["all together"] = sum(page.values())
    print(f"  {n:,} calls; all queries of one call together {page['all together']:.1f} ms")
    return {"views_ms": whole, "questions_ms": questions, "call_page_ms": page}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000_000, help="segments to make")
    parser.add_argument("--out", type=Path, required=True, help="folder of the database; kept")
    parser.add_argument("--publish-again", action="store_true", help="after an upgrade of the database")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    found: dict[str, object] = {}
    database = options.out / "callanalytics.duckdb"
    if options.publish_again:
        with open_work(Workspace(options.out)) as store:
            began = time.perf_counter()
            publish(store)
            print(f"publishing again: {time.perf_counter() - began:.1f} s")
    if not database.exists():
        with open_work(Workspace(options.out)) as store:
            figures = load(store, options.rows)
            print(f"loading: {figures['n_segments']:,} segments of {figures['n_calls']:,} calls"
                  f" in {figures['loading_s']:.1f} s")  # fmt: skip
            began = time.perf_counter()
            publish(store)
            figures["publish_s"] = time.perf_counter() - began
        figures["published_gb"] = database.stat().st_size / 1e9
        print(f"publishing: {figures['publish_s']:.1f} s, {figures['published_gb']:.2f} GB")
        found.update(figures)
    found.update(ask(database))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
