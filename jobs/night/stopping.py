"""Stopping a run early without losing committed work: signals and the time budget."""

from __future__ import annotations

import signal
import time
from types import FrameType, TracebackType


class StopWatch:
    """Asks a run to stop on SIGINT, SIGTERM or when its time budget is used.

    Inside the block the first signal only sets `requested`; a second one does what it did before the
    block. Outside the main thread (tests, servers) no handler can be set and only the budget counts.
    """

    def __init__(self, time_budget_s: float | None = None) -> None:
        self._deadline = None if time_budget_s is None else time.monotonic() + time_budget_s
        self._signal: int | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> StopWatch:
        try:
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._note)
        except ValueError:  # not in the main thread
            self._previous.clear()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._signal is None:
            self._signal = number
            return
        before = self._previous.get(number)
        if callable(before):
            before(number, frame)
        raise KeyboardInterrupt

    def requested(self) -> bool:
        """Whether the run should end now."""
        return self._signal is not None or self.out_of_time

    @property
    def out_of_time(self) -> bool:
        """Whether the time budget is used."""
        return self._deadline is not None and time.monotonic() >= self._deadline

    def exit_code(self, n_left: int) -> int | None:
        """130 or 143 after a signal, 7 when out of time with something left to do, else None."""
        if self._signal is not None:
            return 128 + self._signal
        return 7 if n_left and self.out_of_time else None
