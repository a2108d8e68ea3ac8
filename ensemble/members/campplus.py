"""CAM++ as a torch network, of which the graphs that a night runs are made.

It tells voices apart (``callanalytics/diarize/embedding.py``), and its middle layers know how somebody
speaks: the member ``campplus`` of an ensemble is a linear head on the mean and the deviation over time of
what comes out of the second transition layer. The published weights stay as they are; only the head is
trained here.

Wang, Zheng, Chen, Cheng, Chen: "CAM++: A Fast and Efficient Network for Speaker Verification Using
Context-Aware Masking", Interspeech 2023. Residual 2-d front end, densely connected TDNN blocks whose
outputs are masked by context (mean over the utterance and over segments of 100 frames), statistics
pooling. Module names follow the published state dict (3D-Speaker, Apache-2.0). That speaker embeddings carry
emotion: Pappagari et al., "x-vectors meet emotions", ICASSP 2020.
"""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

N_MELS = 80
CHUNK_FRAMES = 300
EMBEDDING_SIZE = 192
N_EMOTION_LAYERS = 6
"""Front end, first layer, and two blocks with their transitions: what the member `campplus` uses."""
_GROWTH = 32
_BOTTLENECK = 128
_FRONT_CHANNELS = 32
SEGMENT_FRAMES = 100
_BLOCKS = ((12, 1), (24, 2), (16, 2))  # layers, dilation


def frame_layers(network: CamPlusPlus) -> nn.Sequential:
    """All layers before pooling: (batch, 300, 80) -> (batch, 150, 512)."""
    return nn.Sequential(_Turned(), network.head, *list(network.xvector.children())[:-2], _Turned())


def load(weights: Path) -> CamPlusPlus:
    """The network with its published weights, ready for inference."""
    network = CamPlusPlus()
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return network.eval()


def load_emotion(weights: Path) -> Campplus:
    """The layers that the member uses, with their published weights."""
    return Campplus(load(weights)).eval()


class Campplus(nn.Sequential):
    """The layers up to the second transition: (n, time, 80) of any length -> (n, 1024).

    They have the numbers that they have in `frame_layers`, so that their exports name what flows between
    them alike.
    """

    def __init__(self, network: CamPlusPlus) -> None:
        super().__init__(*list(frame_layers(network))[: N_EMOTION_LAYERS + 1])

    def forward(self, mel: Tensor) -> Tensor:
        """Mean and deviation over time of log-mels minus their mean."""
        time_last, head, tdnn, block1, transit1, block2, transit2 = self
        x = tdnn(head(time_last(mel)))
        segments = _segment_of(x.shape[-1])
        x = transit2(block2(transit1(block1(x, segments)), segments))
        mean = x.mean(2, keepdim=True)
        deviation = (((x - mean) ** 2).mean(2) + 1e-5).sqrt()
        return torch.cat([mean[:, :, 0], deviation], dim=1)


class _Turned(nn.Module):
    """(batch, frames, channels) -> (batch, channels, frames), and back."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class CamPlusPlus(nn.Module):
    """(batch, frames, 80) log-mel, mean removed per mel -> (batch, 192)."""

    def __init__(self) -> None:
        super().__init__()
        self.head = _FrontEnd()
        width = 128
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        layers["tdnn"] = _Tdnn(_FRONT_CHANNELS * N_MELS // 8, width)
        for number, (n_layers, dilation) in enumerate(_BLOCKS, start=1):
            layers[f"block{number}"] = _DenseBlock(n_layers, width, dilation)
            width += n_layers * _GROWTH
            layers[f"transit{number}"] = _Transit(width, width // 2)
            width //= 2
        layers["out_nonlinear"] = _normalised(width)
        layers["stats"] = _Statistics()
        layers["dense"] = _Dense(2 * width, EMBEDDING_SIZE)
        self.xvector = nn.Sequential(layers)

    def forward(self, features: Tensor) -> Tensor:
        """Map log-mel features to voice prints, not normalised."""
        return cast(Tensor, self.xvector(self.head(features.transpose(1, 2))))


def _normalised(width: int) -> nn.Sequential:
    return nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(width), relu=nn.ReLU()))


class _Residual(nn.Module):
    def __init__(self, stride: int) -> None:
        super().__init__()
        width = _FRONT_CHANNELS
        self.conv1 = nn.Conv2d(width, width, 3, stride=(stride, 1), padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.shortcut = nn.Sequential()
        if stride != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(width, width, 1, stride=(stride, 1), bias=False), nn.BatchNorm2d(width)
            )

    def forward(self, x: Tensor) -> Tensor:
        inner = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(inner + self.shortcut(x))


class _FrontEnd(nn.Module):
    """(batch, mels, frames) -> (batch, channels * mels / 8, frames): frequency shrinks by 8, time stays."""

    def __init__(self) -> None:
        super().__init__()
        width = _FRONT_CHANNELS
        self.conv1 = nn.Conv2d(1, width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(_Residual(2), _Residual(1))
        self.layer2 = nn.Sequential(_Residual(2), _Residual(1))
        self.conv2 = nn.Conv2d(width, width, 3, stride=(2, 1), padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x.unsqueeze(1))))
        for layer in (*self.layer1, *self.layer2):
            x = layer(x)
        x = functional.relu(self.bn2(self.conv2(x)))
        return x.flatten(1, 2)


class _Tdnn(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(n_in, n_out, 5, stride=2, padding=2, bias=False)
        self.nonlinear = _normalised(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.nonlinear(self.linear(x)))


class _ContextMask(nn.Module):
    """A dilated convolution whose output is scaled by what the whole utterance and the segment say."""

    def __init__(self, dilation: int) -> None:
        super().__init__()
        self.linear_local = nn.Conv1d(
            _BOTTLENECK, _GROWTH, 3, padding=dilation, dilation=dilation, bias=False
        )
        self.linear1 = nn.Conv1d(_BOTTLENECK, _BOTTLENECK // 2, 1)
        self.linear2 = nn.Conv1d(_BOTTLENECK // 2, _GROWTH, 1)

    def forward(self, x: Tensor, segments: Tensor | None = None) -> Tensor:
        # Each segment has one mask: it is worked out once, not once per frame (equal, and a fifth faster).
        member = _segment_of(int(x.shape[-1])).to(x.device) if segments is None else segments
        context = x.mean(-1, keepdim=True) + x @ (member / member.sum(0))
        mask = torch.sigmoid(self.linear2(functional.relu(self.linear1(context))))
        return cast(Tensor, self.linear_local(x) * (mask @ member.T))


def _segment_of(n_frames: int) -> Tensor:
    """(n_frames, n_segments): 1 where the frame lies in the segment of 100; the last may be shorter.

    In a trace the number may be a tensor: then the graph takes any length.
    """
    n_segments = (n_frames + SEGMENT_FRAMES - 1) // SEGMENT_FRAMES
    segment = torch.arange(n_frames)[:, None] // SEGMENT_FRAMES
    return (segment == torch.arange(n_segments)[None, :]).to(torch.float32)


class _DenseLayer(nn.Module):
    def __init__(self, n_in: int, dilation: int) -> None:
        super().__init__()
        self.nonlinear1 = _normalised(n_in)
        self.linear1 = nn.Conv1d(n_in, _BOTTLENECK, 1, bias=False)
        self.nonlinear2 = _normalised(_BOTTLENECK)
        self.cam_layer = _ContextMask(dilation)

    def forward(self, x: Tensor, segments: Tensor | None = None) -> Tensor:
        return cast(Tensor, self.cam_layer(self.nonlinear2(self.linear1(self.nonlinear1(x))), segments))


class _DenseBlock(nn.Module):
    def __init__(self, n_layers: int, n_in: int, dilation: int) -> None:
        super().__init__()
        for number in range(n_layers):
            self.add_module(f"tdnnd{number + 1}", _DenseLayer(n_in + number * _GROWTH, dilation))

    def forward(self, x: Tensor, segments: Tensor | None = None) -> Tensor:
        for layer in self.children():
            x = torch.cat([x, layer(x, segments)], dim=1)
        return x


class _Transit(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.nonlinear = _normalised(n_in)
        self.linear = nn.Conv1d(n_in, n_out, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.linear(self.nonlinear(x)))


class _Statistics(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(-1), x.std(-1)], dim=1)


class _Dense(nn.Module):
    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.linear = nn.Conv1d(n_in, n_out, 1, bias=False)
        self.nonlinear = nn.Sequential(OrderedDict(batchnorm=nn.BatchNorm1d(n_out, affine=False)))

    def forward(self, x: Tensor) -> Tensor:
        return cast(Tensor, self.nonlinear(self.linear(x.unsqueeze(-1)).squeeze(-1)))
