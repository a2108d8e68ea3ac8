"""Features of networks that others trained: wav2vec 2.0, Whisper, CAM++. Nothing is downloaded.

wav2vec 2.0 (Baevski et al. 2020) comes from a local checkpoint folder, by transformers. Any folder that
``save_pretrained`` writes will do: base, large or XLSR-53, as safetensors (pickled weights are refused).
Without a folder a small model with random weights stands in, so that the systems run; the table says so in
every row of theirs.

The first blocks of a Whisper encoder (Radford et al. 2022) are those of :mod:`ensemble.training.teachers`.
CAM++ is the voice network that diarization uses (:mod:`ensemble.inference.shipped_networks`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.baselines.study_features import Feature, wave_16k
from ensemble.corpora import Clip
from ensemble.inference.device import voice_body
from ensemble.inference.ensemble import in_batches
from ensemble.inference.shipped_networks import networks_folder
from ensemble.inference.spectrogram import KALDI_HOP, KALDI_RATE_HZ, voice_spectra
from ensemble.model_errors import ModelIncompatible, ModelMissing, TrainingError
from ensemble.training.teachers import WhisperBlocks, load_whisper

if TYPE_CHECKING:
    from torch import nn

Float = NDArray[np.float32]
Body = Callable[[Float, Float], Float]
STAND_IN = "a small wav2vec 2.0 with random weights stood in, since no checkpoint folder was given"
STAND_IN_SEED = 1
STAND_IN_SIZE = {
    **{"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128},
    **{"conv_dim": (32,) * 7, "num_conv_pos_embeddings": 16, "num_conv_pos_embedding_groups": 4},
}


def load(folder: Path | None) -> nn.Module:
    """The model of a checkpoint folder, or the stand-in for None; float32, in evaluation mode.

    Raises:
        ModelMissing: when the folder has no model of safetensors weights.
        ModelIncompatible: when it is not wav2vec 2.0.
        TrainingError: when transformers is not installed.
    """
    try:
        from transformers import AutoConfig, Wav2Vec2Config, Wav2Vec2Model
    except ImportError as error:
        raise TrainingError("transformers is not installed; here: pip install '.[bench]'") from error
    if folder is None:
        import torch

        torch.manual_seed(STAND_IN_SEED)
        model = Wav2Vec2Model(Wav2Vec2Config(**STAND_IN_SIZE))
    else:
        if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
            raise ModelMissing(
                f"{folder}: no config.json with *.safetensors; give a folder of save_pretrained"
            )
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type != "wav2vec2":
            raise ModelIncompatible(f"{folder}: model_type is {config.model_type!r}, expected 'wav2vec2'")
        model = Wav2Vec2Model.from_pretrained(folder, local_files_only=True, use_safetensors=True)
    # Masking of time steps is for pre-training on a lot more audio; it also fails on short clips.
    model.config.apply_spec_augment = False
    made: nn.Module = model.eval()
    return made


def fingerprint(folder: Path | None) -> str:
    """Hash of the names and bytes of a checkpoint's weights and config."""
    if folder is None:
        return f"stand-in-{STAND_IN_SEED}"
    digest = hashlib.sha256()
    for path in sorted([folder / "config.json", *folder.glob("*.safetensors")]):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]


def hidden_states(folder: Path | None) -> Feature:
    """Last hidden states of a frozen model, (steps, width), as a feature for the cache: 170 of 20 ms."""
    loaded: list[nn.Module] = []

    def extract(wave: Float, clip: Clip) -> Float:
        import torch

        if not loaded:
            loaded.append(load(folder))
        with torch.inference_mode():
            batch = torch.from_numpy(wave_16k(wave, clip))[None]
            states: Float = loaded[0](batch).last_hidden_state[0].numpy()
        return states

    return Feature(f"wav2vec-{fingerprint(folder)}", 16_000, extract)


WHISPER_RATE_HZ = 16_000
_WINDOW, _HOP, _STEP = 400, 160, 320
"""Samples of a window, between windows, and between outputs of the encoder."""
_SILENCE = WHISPER_RATE_HZ // 2
WHISPER_NOTE = (
    "Whisper base (OpenAI, MIT): stem and blocks 1-3 of its encoder, frozen, 10.6 million parameters that "
    "are not counted; what it was trained on is not published in full, voices of the test may be among it"
)
CAMPPLUS_NOTE = (
    "CAM++ (3D-Speaker, Apache-2.0) up to its second transition layer, frozen, of a network of 6.85 million "
    "parameters that are not counted, trained to tell speakers apart, at 8 kHz; its recordings are not "
    "published in full, voices of the test may be among them"
)


def whisper_log_mels(wave: Float, n_mels: int = 80) -> Float:
    """Log-mels (n_mels, frames) as Whisper takes them, 100 a second, of a sound at 16 kHz."""
    import librosa

    stft = librosa.stft(wave, n_fft=_WINDOW, hop_length=_HOP, window="hann", pad_mode="reflect")[:, :-1]
    filters = librosa.filters.mel(sr=WHISPER_RATE_HZ, n_fft=_WINDOW, n_mels=n_mels)
    logs = np.log10(np.maximum(filters @ np.abs(stft) ** 2, 1e-10))
    scaled: Float = ((np.maximum(logs, logs.max() - 8) + 4) / 4).astype(np.float32)
    return scaled


def whisper_states(path: Path) -> Feature:
    """Mean and deviation over a clip of what each block of a frozen Whisper encoder gives.

    Half a second of silence follows the clip and is not pooled; what is longer than the positions is cut.
    """
    loaded: list[WhisperBlocks] = []

    def extract(wave: Float, clip: Clip) -> Float:
        import torch

        if not loaded:
            loaded.append(load_whisper(path))
        blocks = loaded[0]
        wave = wave[: blocks.n_positions * _STEP - _SILENCE]
        n_own = max(1, len(wave) // _STEP)
        padded = np.pad(wave, (0, _SILENCE + (-len(wave)) % _STEP))
        mels = whisper_log_mels(padded, blocks.tensors["conv1.weight"].shape[1])
        with torch.inference_mode():
            states = [block[0, :n_own] for block in blocks(torch.from_numpy(mels)[None])]
            pooled = [part for own in states for part in (own.mean(dim=0), own.std(dim=0, correction=0))]
            found: Float = torch.cat(pooled).numpy()
        return found

    with path.open("rb") as file:
        mark = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    return Feature(f"whisper-{mark}", WHISPER_RATE_HZ, extract)


def campplus_states() -> Feature:
    """What the shipped member ``campplus`` sees: mean and deviation after CAM++'s second transition layer."""
    bodies: list[Body] = []

    def extract(wave: Float, clip: Clip) -> Float:
        if not bodies:
            bodies.append(voice_body(1))
        nothing = np.zeros((0, 0), dtype=np.float32)
        member = {0: lambda mel, mask: (nothing, bodies[0](mel, mask))}
        parts = in_batches(voice_spectra([wave]), member, 1, KALDI_HOP / KALDI_RATE_HZ)
        found: Float = np.sum([pooled[0] * share[0, 0] for _, share, _, _, pooled in parts], axis=0)
        return found

    return Feature(f"campplus-{networks_folder().name}", KALDI_RATE_HZ, extract)
