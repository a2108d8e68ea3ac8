"""Every error callanalytics raises on purpose.

Each message says what failed, what was found against what was expected, and what to do next.
"""

from __future__ import annotations

import errno


class CallAnalyticsError(Exception):
    """Anything callanalytics raises on purpose; `exit_code` is what the command line ends with."""

    exit_code = 1


class UsageError(CallAnalyticsError):
    """A command was given something it cannot use."""

    exit_code = 2


class ExtraMissing(UsageError):
    """A command needs packages of an extra that was not installed."""


class ConfigError(UsageError):
    """config.toml holds an unknown key, a wrong type or an impossible value."""


class RecordingError(CallAnalyticsError):
    """One recording cannot be analysed. It goes to quarantine; the other calls are not touched.

    `reason` is the short closed word stored in the quarantine table, the message is for people.
    """

    reason = "error"


class UnreadableFile(RecordingError):
    """The file cannot be opened or read (permission, vanished, I/O error)."""

    reason = "unreadable"


class NotAudio(RecordingError):
    """The content is no audio format that the decoders know, whatever the extension says."""

    reason = "not_audio"


class EmptyAudio(RecordingError):
    """The file, or the audio stream in it, holds no samples."""

    reason = "empty"


class TruncatedAudio(RecordingError):
    """The decoded length differs from the length that the container, sidecar or CDR states."""

    reason = "truncated"


class InvalidAudio(RecordingError):
    """The samples, the sampling rate or the channel count are impossible for a telephone call."""

    reason = "invalid_audio"


class TooShort(RecordingError):
    """Shorter than `[audio] min_duration_s`: a test, a click or a misdial, but no call."""

    reason = "too_short"


class TooLong(RecordingError):
    """Longer, larger or slower to decode than the limits in `[audio]` allow."""

    reason = "too_long"


class RecordingChanged(UnreadableFile):
    """Another recording, or another content, lies where this one was found."""

    reason = "changed"


class OutOfMemory(RecordingError):
    """Memory ran out while this recording was analysed, also with no other one beside it."""

    reason = "out_of_memory"


class WorkerDied(RecordingError):
    """The worker process that analysed this recording crashed or did not answer in time."""

    reason = "worker_died"


class StoreError(CallAnalyticsError):
    """The database, or a note kept beside it, cannot be read, written, published or upgraded."""


class EngineError(CallAnalyticsError):
    """No worker process can start, so that nothing can be analysed."""


class LockHeld(CallAnalyticsError):
    """Another run holds the lock of this output folder."""

    exit_code = 5


class ClockDoubtful(CallAnalyticsError):
    """What is to be deleted by its age hangs on a clock that lies far beyond every call known."""

    exit_code = 9


class ReportError(CallAnalyticsError):
    """A report page cannot be built."""


class TranscriptError(CallAnalyticsError):
    """A transcript cannot be used. The call is analysed without words, and the reason is kept with it.

    `reason` is the short closed word that is stored, see `callanalytics.analysis.words.NOTE_TEXT`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


_REMEDIES = {
    (errno.ENOSPC, errno.EDQUOT, errno.EFBIG): "Free disk space",
    (errno.EACCES,): "Correct permissions",
    (errno.EROFS,): "Mount it for writing",
    (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS): (
        "This disk or share may keep no permissions, which would open the results to others (or the file is "
        "immutable). Mount it for its owner only (umask=077; CIFS: file_mode=0600,dir_mode=0700) or give "
        "--out a folder on another,"
    ),
    (errno.EBUSY, errno.ETXTBSY): "Close it where it is open: this share replaces no open files. Do so",
    (
        errno.EIO,
        errno.EINVAL,
        errno.ESTALE,
        errno.ENOTCONN,
        errno.EHOSTDOWN,
        errno.ETIMEDOUT,
    ): "Check the disk or share",
}


def remedy(problem: BaseException) -> str:
    """What to do where something cannot be written, as words that "and run again" can follow."""
    number = problem.errno if isinstance(problem, OSError) else None
    return next((text for numbers, text in _REMEDIES.items() if number in numbers), _ANY_REMEDY)


_ANY_REMEDY = "Free disk space or correct permissions"
