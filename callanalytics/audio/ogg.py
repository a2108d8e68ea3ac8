"""The pages of an Ogg file, counted without decoding them. Source of the layout: RFC 3533."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from callanalytics.audio.source import Stretch

_HEAD_BYTES, _MOST_SEGMENTS = 27, 255
_NO_PACKET_ENDS = 2**64 - 1
_SEARCH_BYTES = 65_536


@dataclass(frozen=True, slots=True)
class Page:
    """One page: where it lies, its stream, its number in it, and the time up to which it goes."""

    at: int
    n_bytes: int
    n_payload: int  # without its header
    serial: int
    number: int
    granule: int
    is_first: bool  # of its stream


def pages(part: Stretch) -> Iterator[Page]:
    """Every whole page; what lies between pages is passed over."""
    at = 0
    while at < part.n_bytes:
        page = page_at(part, at)
        if page is not None and at + page.n_bytes <= part.n_bytes:
            yield page
            at += page.n_bytes
            continue
        at += 1
        while at < part.n_bytes:
            found = part.at(at, _SEARCH_BYTES + 3).find(b"OggS")
            at += found if found >= 0 else _SEARCH_BYTES
            if found >= 0:
                break


def page_at(part: Stretch, at: int) -> Page | None:
    """The page whose header lies there, None where there is none."""
    head = part.at(at, _HEAD_BYTES + _MOST_SEGMENTS)
    if head[:5] != b"OggS\0" or len(head) <= _HEAD_BYTES or len(head) < _HEAD_BYTES + head[26]:
        return None
    n_header = _HEAD_BYTES + head[26]
    n_payload = sum(head[_HEAD_BYTES:n_header])
    granule, serial, number = (int.from_bytes(head[a:b], "little") for a, b in ((6, 14), (14, 18), (18, 22)))
    return Page(at, n_header + n_payload, n_payload, serial, number, granule, head[5] & 2 != 0)


def unread_bytes(part: Stretch, n_decoded: int) -> tuple[int, list[tuple[int, int]]]:
    """Bytes of sound in an Ogg file beyond `n_decoded`: pages that were dropped, are missing or are none.

    Of several streams, that one is compared whose size is nearest.

    Returns:
        Their number, and what lies between pages (from and to before).
    """
    n_payload: Counter[int] = Counter()
    n_pages: Counter[int] = Counter()
    n_missing: Counter[int] = Counter()
    last: dict[int, Page] = {}
    between = []
    end = 0
    for page in pages(part):
        if page.at > end:
            between.append((end, page.at))
        end = page.at + page.n_bytes
        before = last.get(page.serial)
        last[page.serial] = page
        if before is not None and page.number > before.number + 1:
            n_missing[page.serial] += page.number - before.number - 1
        if page.granule in {0, _NO_PACKET_ENDS} and not n_pages[page.serial]:
            continue  # headers come before the first page with sound
        n_pages[page.serial] += 1
        n_payload[page.serial] += page.n_payload
    if end < part.n_bytes:
        between.append((end, part.n_bytes))
    if not n_payload:
        return 0, between
    n_between = sum(to - start for start, to in between)
    n_stated = {
        serial: size + n_missing[serial] * size // n_pages[serial] for serial, size in n_payload.items()
    }
    nearest = min(n_stated.values(), key=lambda size: abs(size - n_decoded))
    return max(0, nearest - n_decoded) + n_between, between
