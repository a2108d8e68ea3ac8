"""What can go wrong inside the ensemble.

EnsembleError
├── ModelError
│   ├── ModelMissing        no weights where they were looked for
│   └── ModelIncompatible   weights, card and code do not belong together
├── CorpusError             a corpus folder or manifest cannot be read as one
│   └── LeakError           a split would put one speaker on both sides
├── TrainingError           a training run cannot start or go on
├── DeviceMissing           a GPU was asked for and is not there
├── WaveformError           a waveform is not 1-D finite float audio
└── PromotionRefused        a registry change that would make things worse

Messages say what failed, what was found against what was expected, and what
to do next.
"""


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
    """A candidate ensemble has no card, or scores below the promoted one."""
