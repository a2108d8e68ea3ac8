"""Lessons of teachers: what the bodies learn to say of a clip beside its label.

A teacher is a frozen network of others. What it pools over every clip (mean and deviation of its layers),
heard clean, is compared with the mean of the clip's speaker, standardised, and reduced to its main
components. The bodies learn to give these numbers while they hear the same clip over telephones, codings,
noise and rooms. Teachers are needed for training only: nothing of them is in the exported graphs.

Lessons are made of training speakers alone, and their statistics and components too. Sources: hints of a
wider network (Romero et al. 2015), distillation of speech encoders (Chang et al. 2022).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, decoded_clips
from ensemble.corpora.clip import content_key
from ensemble.inference.shipped_networks import CAMPPLUS_SHA256
from ensemble.members import VOICE_MEMBER
from ensemble.model_errors import ModelIncompatible, ModelMissing
from ensemble.training.examples import Examples
from ensemble.training.pooled_features import rows_by_voice, voice_features

if TYPE_CHECKING:
    from torch import Tensor

Float = NDArray[np.float32]
Say = Callable[[str], None]
N_COMPONENTS = 256
RATE_HZ, WINDOW, HOP, STEP, SILENCE = 8000, 200, 80, 160, 4000
"""Whisper's windows, and an output, in samples of a telephone: a teacher hears no more. Silence behind."""
BATCH = 16
WHISPER_HEAD = 64
"""Values of one attention head: the same in all sizes of Whisper (Radford et al. 2022)."""
WHISPER_BASE = "f9ed0d58"
UNKNOWN = "what it was trained on is not published in full: voices of a test may be among it"


@dataclass(frozen=True, slots=True)
class Teacher:
    """A frozen network. ``pooled(clips, cache, say)`` is what it pools of each, (n, width) float32."""

    name: str
    sha256: str
    about: str
    pooled: Callable[[Sequence[Clip], Path, Say], Float]

    def to_card(self) -> dict[str, str]:
        """What a card says of it."""
        return {"name": self.name, "sha256": self.sha256, "about": self.about, "trained_on": UNKNOWN}


class WhisperBlocks:
    """Stem and first blocks of a Whisper encoder: pre-norm transformer blocks with GELU.

    ``tensors`` are those of a file of weights by the names of CTranslate2 (``layer_0.self_attention...``);
    width, blocks, heads and the longest sound follow from their shapes.
    """

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = {name: value.float() for name, value in tensors.items()}
        self.n_blocks = len({found[0] for name in tensors if (found := re.match(r"layer_\d+\.", name))})
        self.n_positions, self.width = self.tensors["position_encodings.encodings"].shape

    def __call__(self, mel: Tensor) -> list[Tensor]:
        """Output (n, frames / 2, width) of every block for log-mels (n, mels, frames)."""
        from torch.nn import functional

        t = self.tensors
        x = functional.gelu(functional.conv1d(mel, t["conv1.weight"], t["conv1.bias"], padding=1))
        x = functional.gelu(functional.conv1d(x, t["conv2.weight"], t["conv2.bias"], stride=2, padding=1))
        x = x.transpose(1, 2)
        x = x + t["position_encodings.encodings"][: x.shape[1]]

        def linear(name: str, y: Tensor) -> Tensor:
            return functional.linear(y, t[f"{name}.weight"], t[f"{name}.bias"])

        def normed(name: str, y: Tensor) -> Tensor:
            return functional.layer_norm(y, (self.width,), t[f"{name}.gamma"], t[f"{name}.beta"])

        out = []
        for number in range(self.n_blocks):
            own, feed = f"layer_{number}.self_attention", f"layer_{number}.ffn"
            joined = linear(f"{own}.linear_0", normed(f"{own}.layer_norm", x))
            parts = joined.view(*joined.shape[:2], 3, -1, WHISPER_HEAD).permute(2, 0, 3, 1, 4)
            query, key, value = parts  # each (n, heads, frames / 2, values)
            attended = functional.scaled_dot_product_attention(query, key, value)
            x = x + linear(f"{own}.linear_1", attended.transpose(1, 2).flatten(2))
            inner = functional.gelu(linear(f"{feed}.linear_0", normed(f"{feed}.layer_norm", x)))
            x = x + linear(f"{feed}.linear_1", inner)
            out.append(x)
        return out


def load_whisper(path: Path) -> WhisperBlocks:
    """The blocks of a safetensors file.

    Raises:
        ModelMissing: when there is no such file.
        ModelIncompatible: when it is not of a Whisper encoder.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        raise ModelMissing(f"{path}: no such file; give the safetensors of a Whisper encoder's first blocks")
    try:
        blocks = WhisperBlocks(load_file(path))
        n_mels = blocks.tensors["conv1.weight"].shape[1]
        blocks(blocks.tensors["conv1.weight"].new_zeros((1, n_mels, 4)))  # every tensor is there and fits
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelIncompatible(f"{path}: not the first blocks of a Whisper encoder ({error})") from error
    return blocks


def load_teacher(name: str) -> Teacher:
    """``campplus``, or the path of a Whisper encoder's first blocks (safetensors, any size).

    Raises:
        ModelMissing: when there is no such file.
        ModelIncompatible: when it is not of a Whisper encoder.
    """
    if name == VOICE_MEMBER:
        about = "CAM++ (3D-Speaker, Apache-2.0) up to its second transition layer"
        return Teacher(
            name, CAMPPLUS_SHA256, about, lambda clips, *more: voice_features(clips, "clean", *more)
        )
    path = Path(name)
    blocks = load_whisper(path)
    mark = hashlib.sha256(path.read_bytes()).hexdigest()
    whose = (
        "Whisper base (OpenAI, MIT)"
        if mark.startswith(WHISPER_BASE)
        else "an encoder like Whisper's, licence not known"
    )
    about = f"{whose}, blocks 1-{blocks.n_blocks}, {blocks.width} wide"

    def pooled(clips: Sequence[Clip], cache: Path, say: Say) -> Float:
        key = hashlib.sha256(f"{mark} {content_key(clips)}".encode()).hexdigest()[:16]
        kept = cache / f"teacher-{key}.npy"
        if kept.is_file():
            say(f"What {path.name} says of {len(clips)} clips is there from before.")
        else:
            say(f"Asking {path.name} about {len(clips)} clips ...")
            cache.mkdir(parents=True, exist_ok=True)
            unfinished = kept.with_suffix(".part.npy")
            np.save(unfinished, whisper_pooled(blocks, decoded_clips(clips, RATE_HZ)))
            unfinished.replace(kept)  # a kill at any moment leaves no half of it
        said: Float = np.load(kept).astype(np.float32)
        return said

    return Teacher(path.stem, mark, about, pooled)


def whisper_pooled(blocks: WhisperBlocks, waves: Sequence[Float]) -> NDArray[np.float16]:
    """Mean and deviation of every block's outputs over each sound at 8 kHz: (n, 2 x blocks x width).

    Sounds of like length share a batch; at least half a second of silence follows each and is not pooled.
    """
    import torch

    longest = blocks.n_positions * STEP - SILENCE
    waves = [wave[:longest] for wave in waves]
    filters = _filters(blocks.tensors["conv1.weight"].shape[1])
    found = np.zeros((len(waves), 2 * blocks.n_blocks * blocks.width), dtype=np.float16)
    order = sorted(range(len(waves)), key=lambda i: len(waves[i]))
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        n = -(-(len(waves[rows[-1]]) + SILENCE) // STEP) * STEP
        mels = torch.from_numpy(
            np.stack([_log_mels(np.pad(waves[i], (0, n - len(waves[i]))), filters) for i in rows])
        )
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            states = [block.float() for block in blocks(mels)]
        for j, i in enumerate(rows):
            own = [state[j, : max(1, len(waves[i]) // STEP)] for state in states]
            pooled = [part for each in own for part in (each.mean(dim=0), each.std(dim=0, correction=0))]
            found[i] = torch.cat(pooled).numpy()
    return found


def _filters(n_mels: int) -> Float:
    import librosa

    whole: Float = librosa.filters.mel(sr=2 * RATE_HZ, n_fft=2 * WINDOW, n_mels=n_mels)
    return whole[:, : WINDOW // 2 + 1]


def _log_mels(wave: Float, filters: Float) -> Float:
    """Log-mels (n_mels, frames) as Whisper takes them at 16 kHz, of a sound (n,) at 8 kHz."""
    from scipy.fft import rfft

    padded = np.pad(wave, WINDOW // 2, mode="reflect")
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP][: len(wave) // HOP]
    # Twice the samples are twice the amplitude.
    power = np.abs(2 * rfft(frames * np.hanning(WINDOW + 1)[:-1], axis=1)) ** 2
    logs = np.log10(np.maximum(power @ filters.T, 1e-10))
    scaled: Float = ((np.maximum(logs, logs.max() - 8) + 4) / 4).astype(np.float32).T
    return scaled


def taught(
    examples: Examples, names: Sequence[str], speakers: frozenset[str], cache: Path, say: Say
) -> Examples:
    """The examples with lessons of the training ``speakers``; as they are without names of teachers."""
    if not names:
        return examples
    teachers = [load_teacher(name) for name in names]
    return replace(examples, lessons=lessons_of(teachers, examples.clips, speakers, cache, say))


def lessons_of(
    teachers: Sequence[Teacher], clips: Sequence[Clip], speakers: frozenset[str], cache: Path, say: Say
) -> Float:
    """Lessons (n, components) of the clips of the training ``speakers``; zeros for all others.

    Teachers count alike; the squares of a lesson's numbers are 1 on average in sum.
    """
    training = np.array([i for i, clip in enumerate(clips) if clip.speaker in speakers], dtype=np.int64)
    heard = [clips[i] for i in training]
    voices = rows_by_voice([clip.speaker for clip in heard], np.arange(len(heard)))
    parts = []
    for teacher in teachers:
        own = teacher.pooled(heard, cache, say)
        for rows in voices.values():
            own[rows] -= own[rows].mean(axis=0)
        own /= own.std(axis=0) + 1e-3 * np.abs(own).max(axis=0) + 1e-6
        parts.append(own / np.sqrt(own.shape[1] * len(teachers)))
    joined = np.concatenate(parts, axis=1)
    _, axes = np.linalg.eigh(joined.T @ joined)
    components = joined @ axes[:, ::-1][:, :N_COMPONENTS]
    lessons = np.zeros((len(clips), components.shape[1]), dtype=np.float32)
    lessons[training] = components / np.sqrt((components**2).sum(axis=1).mean())
    return lessons
