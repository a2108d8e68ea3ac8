"""Errors of the ensemble. Messages say what failed, what was found against what was expected, what to do."""


class EnsembleError(Exception):
    """Base of every error raised by this package."""


class ModelError(EnsembleError):
    """The trained weights cannot be used."""


class ModelMissing(ModelError):
    """No weights at the place they were looked for."""


class ModelIncompatible(ModelError):
    """Weights, card, front-end settings and code do not belong together."""


class CorpusError(EnsembleError):
    """A corpus folder or manifest cannot be read as that corpus."""


class CorpusDamaged(CorpusError):
    """A corpus is recognised, but a table of it is not as its authors ship it."""


class LeakError(CorpusError):
    """A requested split would put one speaker on both sides."""


class TrainingError(EnsembleError):
    """A training run cannot start, or cannot go on from its checkpoint."""


class DeviceMissing(EnsembleError):
    """A GPU was asked for that torch does not see on this machine."""


class WaveformError(EnsembleError):
    """A waveform handed in is not one-dimensional finite audio."""


class PromotionRefused(EnsembleError):
    """An ensemble has no scores, or scores below the promoted one."""
