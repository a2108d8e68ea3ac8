"""Features on disk: one Parquet file per feature and list of clips, named by a hash of all that went in."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ensemble.baselines.study_features import Feature, heard
from ensemble.corpora import Clip, decode_clip
from ensemble.model_errors import CorpusError
from ensemble.training.dataset import clips_hash

Float = NDArray[np.float32]
Say = Callable[[str, int, int], None]
CLIPS_PER_GROUP = 256


def load_features(feature: Feature, clips: Sequence[Clip], cache: Path, say: Say = lambda *_: None) -> Float:
    """(n clips, n copies, ...) float32, extracted now or read from an earlier run's file in ``cache``.

    Columns: ``path``, ``speaker``, ``emotion``, ``copy`` and ``values`` (a fixed-size list of float32);
    the shape of one value stands in the file's metadata. ``say(name, done, total)`` reports. Raises
    CorpusError when a clip cannot be decoded or the file is damaged.
    """
    told = [feature.name, feature.sample_rate_hz, feature.copies, feature.version, clips_hash(clips)]
    key = hashlib.sha256(json.dumps(told).encode()).hexdigest()
    path = cache / f"{feature.name}-{key[:16]}.parquet"
    if not path.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        _extract(feature, clips, path, say)
    return _read(path, len(clips), len(feature.copies))


def _extract(feature: Feature, clips: Sequence[Clip], path: Path, say: Say) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    unfinished = path.with_suffix(".part")
    writer = None
    try:
        for start in range(0, len(clips), CLIPS_PER_GROUP):
            group = clips[start : start + CLIPS_PER_GROUP]
            values: list[Float] = []
            for index, clip in enumerate(group, start):
                wave = decode_clip(clip, feature.sample_rate_hz)
                values += [
                    heard(feature, copy, wave, clip, 1000 * index + number)
                    for number, copy in enumerate(feature.copies)
                ]
            block = np.stack(values)
            flat = pa.array(block.reshape(-1))
            columns = {
                "path": [clip.path.name for clip in group for _ in feature.copies],
                "speaker": [clip.speaker for clip in group for _ in feature.copies],
                "emotion": [clip.emotion for clip in group for _ in feature.copies],
                "copy": list(feature.copies) * len(group),
                "values": pa.FixedSizeListArray.from_arrays(flat, block[0].size),
            }
            table = pa.table(columns, metadata={"shape": json.dumps(block.shape[1:])})
            writer = writer or pq.ParquetWriter(unfinished, table.schema, compression="zstd")
            writer.write_table(table)
            say(feature.name, start + len(group), len(clips))
    finally:
        if writer is not None:
            writer.close()
    unfinished.replace(path)


def _read(path: Path, n_clips: int, n_copies: int) -> Float:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path, columns=["values"])
    except (pa.ArrowException, OSError) as error:
        raise CorpusError(
            f"{path}: not a readable feature file ({error}); delete it and run again"
        ) from error
    if table.num_rows != n_clips * n_copies:
        raise CorpusError(
            f"{path}: {table.num_rows} rows where {n_clips} clips x {n_copies} copies belong; delete it"
        )
    shape = tuple(json.loads((table.schema.metadata or {})[b"shape"]))
    pieces = [chunk.flatten().to_numpy() for chunk in table.column("values").chunks]
    values: Float = np.concatenate(pieces).reshape(n_clips, n_copies, *shape)
    return values
