"""PyanNet as a torch network, for exporting pyannote segmentation 3.0 to ONNX.

Bredin: "pyannote.audio 2.1 speaker diarization pipeline", Interspeech 2023; Plaquet, Bredin: "Powerset
multi-class cross entropy loss for neural speaker diarization", Interspeech 2023. Sinc filters (Ravanelli
and Bengio, 2018), two convolutions, four bidirectional LSTM layers, and 7 classes: nobody, speaker
1, 2, 3, and the pairs 1+2, 1+3, 2+3. Weights MIT, CNRS.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

WINDOW_SAMPLES = 160_000  # 10 s at 16 kHz, what it was trained on
_SAMPLE_RATE_HZ = 16_000
_SINC_STRIDE = 10
_MIN_HZ = 50.0


def export_windows(weights: Path, target: Path) -> None:
    """Write the network as ONNX: "samples" (batch, 160000) -> "log_probability" (batch, 589, 7)."""
    network = load(weights)
    # From a batch of one: exported from a batch of three it agreed with torch on 47 % of the frames.
    torch.onnx.export(
        network,
        (torch.randn(1, WINDOW_SAMPLES),),
        str(target),
        input_names=["samples"],
        output_names=["log_probability"],
        dynamic_axes={"samples": {0: "batch"}, "log_probability": {0: "batch"}},
        opset_version=17,
        dynamo=False,
    )


def load(weights: Path) -> PyanNet:
    """The network with its published weights, ready for inference."""
    state = torch.load(weights, map_location="cpu", weights_only=True)["state_dict"]
    filters = _sinc_filters(
        {key.rsplit(".", 1)[-1]: part for key, part in state.items() if "filterbank" in key}
    )
    network = PyanNet(filters)
    network.load_state_dict({key: part for key, part in state.items() if "filterbank" not in key})
    return network.eval()


def _sinc_filters(parts: dict[str, Tensor]) -> Tensor:
    """The 40 cosine and 40 sine band-pass filters of 251 taps that the learned edges describe."""
    low = _MIN_HZ + parts["low_hz_"].abs()
    high = (low + _MIN_HZ + parts["band_hz_"].abs()).clamp(_MIN_HZ, _SAMPLE_RATE_HZ / 2)
    band = high - low  # (40, 1)
    time, window = parts["n_"], parts["window_"]  # (1, 125) radians per Hz before the centre; (125,)
    even = (torch.sin(high * time) - torch.sin(low * time)) / (time / 2) * window
    odd = (torch.cos(low * time) - torch.cos(high * time)) / (time / 2) * window
    cosines = torch.cat([even, 2 * band, even.flip(1)], dim=1) / (2 * band)
    sines = torch.cat([odd, torch.zeros_like(band), -odd.flip(1)], dim=1) / (2 * band)
    return torch.cat([cosines, sines]).unsqueeze(1)


class PyanNet(nn.Module):
    """(batch, 160000) samples -> (batch, 589, 7) log probabilities of the speaker sets."""

    def __init__(self, filters: Tensor) -> None:
        super().__init__()
        self.register_buffer("filters", filters, persistent=False)
        self.sincnet = _Convolutions()
        self.lstm = nn.LSTM(60, 128, num_layers=4, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(256, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, 7)

    def forward(self, samples: Tensor) -> Tensor:
        """Map windows of samples to log probabilities."""
        x, _ = self.lstm(self.sincnet(samples.unsqueeze(1), self.filters).transpose(1, 2))
        for layer in self.linear:
            x = functional.leaky_relu(layer(x))
        return functional.log_softmax(self.classifier(x), dim=-1)


class _Convolutions(nn.Module):
    """(batch, 1, 160000) -> (batch, 60, 589): sinc filters, then two convolutions, each pooled by 3."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        # Index 0 is the sinc layer, whose filters are computed.
        self.conv1d = nn.ModuleList([nn.Identity(), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList(nn.InstanceNorm1d(width, affine=True) for width in (80, 60, 60))

    def forward(self, samples: Tensor, filters: Tensor) -> Tensor:
        x = functional.conv1d(self.wav_norm1d(samples), filters, stride=_SINC_STRIDE).abs()
        for convolution, norm in zip(self.conv1d, self.norm1d, strict=True):
            x = functional.leaky_relu(norm(functional.max_pool1d(convolution(x), 3)))
        return x
