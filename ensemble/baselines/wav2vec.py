"""wav2vec 2.0 (Baevski et al. 2020) from a local checkpoint folder, by transformers; nothing is downloaded.

Any folder that ``save_pretrained`` writes will do: base, large or XLSR-53, as safetensors (pickled weights
are refused). Without a folder a small model with random weights stands in, so that the systems run; the
table says so in every row of theirs.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ensemble.baselines.study_features import Feature, wave_16k
from ensemble.corpora import Clip
from ensemble.model_errors import ModelIncompatible, ModelMissing, TrainingError

if TYPE_CHECKING:
    from torch import nn

Float = NDArray[np.float32]
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
