"""The sound of whole calls for the player: decoded once, small MP3, served in ranges."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.audio.clips import CONTRAST_NAMES, NoEncoder, clip_bytes
from callanalytics.errors import CallAnalyticsError, UsageError
from callanalytics.workspace import write_whole
from jobs.app.published import PublishedCalls

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

MAX_KEPT = 24  # calls; an hour of MP3 is 11 MB
_log = logging.getLogger(__name__)


@dataclass
class CallSounds:
    """Encoded calls in a private folder that is deleted when the server ends; the oldest make room.

    A purge empties it: then a call is made again, if it is still there. No browser keeps a copy.
    """

    calls: PublishedCalls
    folder: Path
    _kept: OrderedDict[str, Path] = field(default_factory=OrderedDict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _making: dict[str, threading.Lock] = field(default_factory=dict)

    def file(self, call_id: str) -> Path:
        """Make the file of a call that every browser plays, both sides mixed.

        Raises:
            UsageError: no such call.
            RecordingError: its recording cannot be found or read any more.
        """
        with self._lock:
            making = self._making.setdefault(call_id, threading.Lock())
        with making:  # two listeners of one call wait for one decoding, others are not held up
            with self._lock:
                if call_id in self._kept and self._kept[call_id].exists():  # no purge took it
                    self._kept.move_to_end(call_id)
                    return self._kept[call_id]
            made = self._make(call_id)
            with self._lock:
                self._kept[call_id] = made
                while len(self._kept) > MAX_KEPT:
                    _, oldest = self._kept.popitem(last=False)
                    oldest.unlink(missing_ok=True)
            return made

    def _make(self, call_id: str) -> Path:
        audio = self.calls.audio(call_id)
        whole = (audio.samples, audio.sample_rate_hz, 0.0, audio.duration_s)
        try:
            content, ending = clip_bytes(*whole), "mp3"
        except NoEncoder as problem:
            _log.warning("calls are played as WAV: %s", problem)
            content, ending = clip_bytes(*whole, clip_format="wav"), "wav"
        made = self.folder / f"{len(self._making):06d}-{call_id}.{ending}"
        write_whole(made, content)
        try:
            self.calls.require(call_id)  # a purge that emptied the folder before may have taken it meanwhile
        except BaseException:
            made.unlink(missing_ok=True)
            raise
        return made

    def contrast(self, call_id: str) -> tuple[Path, Path]:
        """The contrast clip of a call and the list of its parts: of the night, else made from the recording.

        Raises:
            UsageError: no such call, or nobody speaks in it.
            RecordingError: the night made none, and its recording cannot be found or read any more.
        """
        made = self.calls.workspace.clips_of(call_id)
        sound, parts = (made / name for name in CONTRAST_NAMES)
        if sound.is_file() and parts.is_file():
            return sound, parts
        with self._lock:
            making = self._making.setdefault(call_id, threading.Lock())
        sound, parts = (self.folder / f"{call_id}-{name}" for name in CONTRAST_NAMES)
        with making:
            if not (sound.exists() and parts.exists()):
                clips = self.calls.contrast(call_id)
                if not clips:
                    raise UsageError("Nobody speaks in this call, or this machine cannot encode clips.")
                for path, clip in zip((sound, parts), clips, strict=True):
                    write_whole(path, clip.content)
        return sound, parts

    def route(self) -> Route:
        """GET /call-audio/{call_id}"""
        from starlette.routing import Route

        return Route("/call-audio/{call_id}", self._answer)

    async def _answer(self, request: Request) -> Response:
        from anyio.to_thread import run_sync
        from starlette.responses import FileResponse, PlainTextResponse

        try:
            path = await run_sync(self.file, request.path_params["call_id"])
        except UsageError as problem:
            return PlainTextResponse(str(problem), status_code=404)
        except CallAnalyticsError as problem:
            return PlainTextResponse(str(problem), status_code=410)
        kind = "audio/mpeg" if path.suffix == ".mp3" else "audio/wav"
        return FileResponse(path, media_type=kind, headers={"cache-control": "no-store"})
