"""The speech models of one process, loaded when first needed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from callanalytics.diarize.clustering import VoiceSpace
from callanalytics.diarize.embedding import VoicePrinter
from callanalytics.diarize.segmentation import SpeakerSegmenter
from callanalytics.diarize.vad import VoiceDetector


@dataclass
class SpeechModels:
    """Voice activity, local speaker segmentation and voice prints; one object a process.

    Only `n_threads` is state, so the object pickles as long as nothing was loaded; each model is loaded when
    first used (stereo calls need only the voice detector). All run on the processor.
    """

    n_threads: int = 1

    @classmethod
    def load(cls, n_threads: int = 1) -> SpeechModels:
        """The models. Raises ModelMissing when the voice detector is missing."""
        models = cls(n_threads)
        _ = models.detector
        return models

    def __getstate__(self) -> dict[str, int]:
        return {"n_threads": self.n_threads}  # what is loaded does not pickle

    @cached_property
    def detector(self) -> VoiceDetector:
        """Voice activity (Silero)."""
        return VoiceDetector.load(self.n_threads)

    @cached_property
    def segmenter(self) -> SpeakerSegmenter:
        """Who of up to three local speakers talks in a 10 s window (pyannote segmentation 3.0)."""
        return SpeakerSegmenter.load(self.n_threads)

    @cached_property
    def printer(self) -> VoicePrinter:
        """Voice prints (CAM++)."""
        return VoicePrinter.load(self.n_threads)

    @cached_property
    def voice_space(self) -> VoiceSpace:
        """How voice prints vary within and between speakers."""
        return VoiceSpace.load()
