"""Where the frames of a track lie in time, and whether all of the file was heard.

Time stamps rule over sample counts: a recorder that was paused, or that sends nothing while nobody speaks,
leaves a gap, which becomes silence. So the right length alone does not prove that nothing was lost, and
what could not be read is counted here: packets that do not decode, and bytes between and behind packets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from callanalytics.audio.declared import largest_frame
from callanalytics.audio.joined import find_beginning, id3_bytes
from callanalytics.audio.ogg import unread_bytes
from callanalytics.audio.source import Stretch, clock, shown, tolerance_s
from callanalytics.config import AudioSettings
from callanalytics.errors import TooLong, TruncatedAudio

# Less is jitter of time stamps, of which Matroska and ASF keep whole milliseconds.
_GAP_S = 0.02
_NOTED_GAP_S, _NOTED_LOSS_S = 0.5, 0.1
_BACK_S = 0.5  # time stamps that jump back so far began anew
# Bytes between packets that a container needs for itself, by FFmpeg's names; of the rest they prove nothing.
_OVERHEAD_BYTES = {
    **dict.fromkeys(("mp3", "aac", "amr", "flac", "ac3", "eac3", "gsm", "g722", "au"), 512),
    "matroska,webm": 4_096,
    "asf": 65_536,
}
_HEADERS_IN_PACKETS = frozenset({"mp3", "aac", "amr", "ac3", "eac3", "gsm", "g722"})
# What may follow the sound: tags, and the index, tags, chapters and attachments of Matroska and ASF.
_KNOWN_ENDS = (
    *(b"ID3", b"TAG", b"APETAGEX", b"LYRICSBEGIN"),
    *(
        b"\x1c\x53\xbb\x6b",
        b"\x12\x54\xc3\x67",
        b"\x10\x43\xa7\x70",
        b"\x19\x41\xa4\x69",
        b"\x11\x4d\x9b\x74",
    ),
    *(bytes.fromhex("90080033b1e5cf1189f400a0c90349cb"), bytes.fromhex("d329e2d6da35d111903400a0c90349be")),
)
_PROBE_BYTES = 4_096
_MOST_BYTES_A_SAMPLE = 16  # two channels of 64 bits


class Timeline:
    """One track while it is decoded. `unit_s` is the unit of its time stamps.

    `container` is FFmpeg's name of it, empty when other tracks lie in it, too: their bytes would look unread.
    """

    def __init__(
        self,
        path: Path,
        part: Stretch,
        container: str,
        rate_hz: int,
        settings: AudioSettings,
        notes: set[str],
    ) -> None:
        self.unit_s = 0.0
        self._path, self._part, self._container = path, part, container
        self._rate_hz, self._settings, self._notes = rate_hz, settings, notes
        self._largest = largest_frame(part) if container == "flac" else 0
        self._suspicious = self._largest or _PROBE_BYTES
        self._overhead = _OVERHEAD_BYTES.get(container, math.inf)
        self._origin_s: float | None = None  # the time stamp that sample 0 has or would have
        self._n = 0  # samples up to here, silence included
        self._end = 0  # of the last packet in the file
        self._n_packed = 0  # bytes in packets
        self._holes: list[tuple[int, int]] = []  # bytes in no packet, from and to before
        self._suspects: list[tuple[int, int]] = []  # bytes in packets that hold more than they should
        self._n_surplus = 0  # bytes in packets that no codec needs: parsers add what they do not know
        self._lost_s = 0.0

    def begin(self, starts_s: Sequence[float], track: int, *, is_edited: bool) -> float:
        """Count from the first of several tracks, so that one that begins later keeps its place.

        Args:
            starts_s: where each begins.
            track: which of them this is.
            is_edited: the container says what comes first, as MP4's edit lists do, also of one track.

        Returns:
            Seconds of silence before this track.
        """
        self._origin_s = 0.0 if is_edited and min(starts_s) > 0 else min(starts_s)
        return starts_s[track] - self._origin_s

    def take(self, packet: Any) -> None:
        """Note where a packet lies in the file."""
        size, at = packet.size, packet.pos
        self._n_packed += size
        if size > self._suspicious and packet.duration:
            samples = packet.duration * self.unit_s * self._rate_hz
            most = self._largest or samples * _MOST_BYTES_A_SAMPLE + _PROBE_BYTES
            if size > most:
                self._n_surplus += size - round(most)
                self._suspects.append((at or 0, (at or 0) + size))
        if at is None or not size:
            return
        if at - self._end > self._overhead and (self._end or self._container in _HEADERS_IN_PACKETS):
            self._holes.append((self._end, at))
        self._end = max(self._end, at + size)

    def lose(self, packet: Any) -> None:
        """Note a packet that could not be decoded."""
        self._lost_s += (packet.duration or 0) * self.unit_s
        if packet.pos is not None:
            self._suspects.append((packet.pos, packet.pos + packet.size))

    def gap_before(self, pts: int | None, n_samples: int) -> int:
        """Samples of silence to put before a frame of `n_samples` samples.

        Raises:
            TooLong: the time stamps go beyond the longest call that is allowed.
        """
        n_silent = 0
        if pts is not None and self.unit_s > 0:
            at_s, here_s = pts * self.unit_s, self._n / self._rate_hz
            if self._origin_s is None or at_s - self._origin_s - here_s < -_BACK_S:
                self._origin_s = at_s - here_s
            gap_s = at_s - self._origin_s - here_s
            if gap_s > _GAP_S:
                if here_s + gap_s > self._settings.max_duration_s:
                    raise TooLong(
                        f"{shown(self._path)}: its time stamps go up to {clock(here_s + gap_s)}; at most "
                        f"{clock(self._settings.max_duration_s)} are allowed. Raise [audio] max_duration_s "
                        "if such calls are real; else they are damaged: export it again."
                    )
                n_silent = round(gap_s * self._rate_hz)
            if gap_s > _NOTED_GAP_S:
                self._notes.add("gaps_silenced")
        self._n += n_silent + n_samples
        return n_silent

    def check_losses(self) -> None:
        """Compare what was decoded with what is in the file.

        Raises:
            TruncatedAudio: more than the tolerance could not be read.
        """
        if not self._n_packed:
            return
        found_s = self._n / self._rate_hz
        n_unread = self._unread_bytes()
        for start, end in [*self._holes, *self._suspects]:
            at = find_beginning(self._part, start, end)
            if at is not None:
                raise TruncatedAudio(
                    f"{shown(self._path)}: another recording of a different kind begins at byte {at:,}. "
                    "Two recordings were joined: split them."
                )
        lost_s = self._lost_s + found_s * n_unread / max(1, self._n_packed - self._n_surplus)
        if lost_s > tolerance_s(found_s, self._settings):
            raise TruncatedAudio(
                f"{shown(self._path)}: about {clock(lost_s)} of its sound cannot be decoded "
                f"({n_unread:,} of {self._part.n_bytes:,} bytes belong to nothing that is known). It is "
                "damaged, or two recordings of different kinds were joined: fetch it again, or split it."
            )
        if lost_s > _NOTED_LOSS_S:
            self._notes.add("partly_damaged")

    def _unread_bytes(self) -> int:
        if self._container == "ogg":
            n_unread, between = unread_bytes(self._part, self._n_packed)
            self._holes += between
            return n_unread
        if self._end and self._part.n_bytes - self._end > self._overhead:
            self._holes.append((self._end, self._part.n_bytes))
        holes = sum(end - start for start, end in self._holes if not self._is_known(start, end))
        return holes + self._n_surplus

    def _is_known(self, start: int, end: int) -> bool:
        """Whether bytes in no packet are a tag, an index or unused zeros."""
        head = self._part.at(start, min(_PROBE_BYTES, end - start))
        if size := id3_bytes(head):
            return end - start - size <= _PROBE_BYTES
        return head.startswith(_KNOWN_ENDS) or not any(head)
