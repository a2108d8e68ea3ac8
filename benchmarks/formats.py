"""Which files are read whole, and by whom? Writes docs/reference/formats.md from one run.

    python benchmarks/formats.py

Every form of `tests/support/forms.py` is built and given to callanalytics, ffmpeg, sox, librosa, soundfile
and pydub, as far as they are installed (ffmpeg, ffprobe and sox on the PATH). Each second of each side has a
tone of its own, so that what is missing from what they give back can be named. ffmpeg, sox, soundfile and
pydub are told what files without a header hold, as far as they let themselves be told.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

import numpy as np
from formats import FloatArray
from forms import HEADERLESS, ODD, TOLERANCE_S, WHOLE, Form, judged

from callanalytics.audio import CANONICAL_RATE_HZ, decode_recording
from callanalytics.config import AudioSettings
from callanalytics.errors import RecordingError

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "formats.md"
TIMEOUT_S = 60.0
OURS = "callanalytics"
SETTINGS = AudioSettings(headerless=AudioSettings().headerless | HEADERLESS)


class Refused(Exception):
    """A reader gave an error instead of sound."""


Sound = tuple[FloatArray, int]
"""float32 (n_channels, n) and its rate in Hz."""


def by_callanalytics(path: Path, form: Form) -> Sound:
    try:
        return decode_recording([path], SETTINGS).samples, CANONICAL_RATE_HZ
    except RecordingError as problem:
        raise Refused(problem.reason) from None


def by_ffmpeg_program(path: Path, form: Form) -> Sound:
    command = ["ffmpeg", "-nostdin", "-v", "error", *form.for_ffmpeg, "-i", str(path)]
    return _of_pipe([*command, "-c:a", "pcm_f32le", "-f", "wav", "-"])


def by_sox(path: Path, form: Form) -> Sound:
    return _of_pipe(["sox", *form.for_sox, str(path), "-t", "wav", "-e", "float", "-b", "32", "-"])


def _of_pipe(command: list[str]) -> Sound:
    """What a program writes as a WAV of floats into a pipe; whatever it says on stderr counts as said."""
    done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
    if done.returncode or not done.stdout or done.stderr.strip():
        raise Refused("error")
    at = done.stdout.index(b"fmt ")
    n_channels = int.from_bytes(done.stdout[at + 10 : at + 12], "little")
    rate_hz = int.from_bytes(done.stdout[at + 12 : at + 16], "little")
    samples = np.frombuffer(done.stdout[done.stdout.index(b"data") + 8 :], np.uint8)
    return samples[: len(samples) // 4 * 4].view("<f4").reshape(-1, n_channels).T, rate_hz


def by_librosa(path: Path, form: Form) -> Sound:
    import librosa

    samples, rate_hz = librosa.load(path, sr=None, mono=False)
    return np.atleast_2d(samples), int(rate_hz)


def by_soundfile(path: Path, form: Form) -> Sound:
    import soundfile

    raw = {"format": "RAW", "subtype": form.raw_subtype, "channels": len(form.truth), "endian": "LITTLE"}
    told = raw | {"samplerate": form.rate_hz} if form.raw_subtype else {}
    content = io.BytesIO(path.read_bytes())
    samples, rate_hz = soundfile.read(content, dtype="float32", always_2d=True, **told)
    return samples.T, rate_hz


def by_pydub(path: Path, form: Form) -> Sound:
    import pydub

    if form.raw_subtype == "PCM_16":
        size = {"sample_width": 2, "frame_rate": form.rate_hz, "channels": len(form.truth)}
        segment = pydub.AudioSegment.from_file(path, format="raw", **size)
    else:
        segment = pydub.AudioSegment.from_file(path)
    samples = np.array(segment.get_array_of_samples(), dtype=np.float32) / (1 << 8 * segment.sample_width - 1)
    return samples.reshape(-1, segment.channels).T, segment.frame_rate


READERS: dict[str, Callable[[Path, Form], Sound]] = {
    OURS: by_callanalytics,
    "ffmpeg": by_ffmpeg_program,
    "sox": by_sox,
    "librosa": by_librosa,
    "soundfile": by_soundfile,
    "pydub": by_pydub,
}


def installed() -> dict[str, str]:
    """Reader -> its version, without those that are absent."""
    found = {OURS: version(OURS)}
    for name, option in (("ffmpeg", "-version"), ("sox", "--version")):
        if shutil.which(name):
            told = subprocess.run([name, option], capture_output=True, text=True, check=True).stdout
            found[name] = (
                told.split("version ")[-1].split()[0] if name == "ffmpeg" else told.split("v")[-1].strip()
            )
    for name in ("librosa", "soundfile", "pydub"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    if "pydub" in found and not shutil.which("ffprobe"):
        found["pydub"] += " (without ffprobe)"
    return found


def verdict(read: Callable[[Path, Form], Sound], path: Path, form: Form) -> str:
    """`whole`, `refused`, or what is lost without a word."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            samples, rate_hz = read(path, form)
    except Refused as told:
        return "refused" if str(told) == "error" else f"refused: {told}"
    except Exception:  # every way in which a library may refuse
        return "refused"
    return judged(samples, rate_hz, form)


def rows(forms: list[Form], names: list[str], folder: Path) -> list[list[str]]:
    """A row for every form: its name and the verdict on every reader."""
    found = []
    for number, form in enumerate(forms):
        path = folder / f"{number:03d}.{form.extension}"
        form.build(path)
        found.append([form.name, *(verdict(READERS[name], path, form) for name in names)])
        print(" | ".join(found[-1]), flush=True)
        path.unlink()
    return found


def table(names: list[str], found: list[list[str]]) -> str:
    lines = [["form", *names], ["---"] * (len(names) + 1), *found]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def counted(names: list[str], found: list[list[str]]) -> str:
    """How often each reader read the whole, refused, and lost something silently."""
    lines = []
    for column, name in enumerate(names, start=1):
        cells = [row[column] for row in found]
        n_whole, n_refused = cells.count("whole"), sum(cell.startswith("refused") for cell in cells)
        lines.append([name, str(n_whole), str(n_refused), str(len(cells) - n_whole - n_refused)])
    head = [["reader", "whole", "refused", "wrong without a word"], ["---"] * 4]
    return "\n".join("| " + " | ".join(line) + " |" for line in [*head, *lines])


def page(versions: dict[str, str], whole: list[list[str]], odd: list[list[str]]) -> str:
    """The document."""
    names = list(versions)
    absent = [name for name in READERS if name not in versions]
    readers = ", ".join(f"{name} {versions[name]}" for name in names)
    tolerance = f"{TOLERANCE_S * 1000:.0f} ms"
    missing = f" Not installed: {', '.join(absent)}." if absent else ""
    return f"""<!-- Written by benchmarks/formats.py: change the code, then run it. -->
# Formats

Files are read by their content, whatever they are called; only what has no header is read by its extension
and `[audio] headerless`. Every form below was built from known sound, a tone of its own in each second of
each side, and read back.

- *whole*: every second of every side at its place, and the length right to {tolerance}, beside the
  delay and the last frame that a lossy codec adds without stating it
- *refused*: an error or a warning; from callanalytics with the reason that the quarantine shows
- **in bold**: what was lost, or wrong, without a word

Read on {date.today():%d %B %Y} by `python benchmarks/formats.py` with {readers}.{missing}

{counted(names, whole + odd)}

## Whole files

{len(whole)} forms.

{table(names, whole)}

## Odd and damaged files

{len(odd)} forms. Two mono tracks are the sides of a call; more, or stereo ones, are refused. Of joined
recordings all is heard, unless the number of channels changes. A file that was cut is refused.

{table(names, odd)}
"""


def main() -> None:
    """Build, read, judge, write."""
    versions = installed()
    names = list(versions)
    with tempfile.TemporaryDirectory() as folder:
        whole = rows(WHOLE, names, Path(folder))
        odd = rows(ODD, names, Path(folder))
    PAGE.write_text(page(versions, whole, odd), encoding="utf-8")


if __name__ == "__main__":
    main()
