"""What the player needs of a call: its drawing, its segments, what was said about them, and the keys."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ensemble.labels import EMOTIONS
from jobs.app.markup import render
from jobs.app.published import OpenedCall
from reports.formatting import clock
from reports.palette import LETTERS, Badge, badge, legend

VERDICT_WORDS = {"confirm": "agreed", "reject": "corrected", "unsure": "cannot tell"}
CALL_WORDS = {"confirm": "worth flagging", "reject": "not worth flagging", "unsure": "cannot tell"}


@dataclass(frozen=True, slots=True)
class Press:
    """A review as the browser sends it: checked, since a browser can send anything."""

    press_id: str
    verdict: str
    segment: int | None
    emotion: str | None
    note: str | None


def read_press(sent: object) -> Press | None:
    """A review out of what the browser sent, None when it is none."""
    if not isinstance(sent, dict):
        return None
    segment, emotion, note = sent.get("segment"), sent.get("emotion"), sent.get("note")
    well_formed = (
        isinstance(sent.get("id"), str)
        and sent.get("verdict") in VERDICT_WORDS
        and (segment is None or (isinstance(segment, int) and not isinstance(segment, bool)))
        and (emotion is None or emotion in EMOTIONS)
        and (note is None or isinstance(note, str))
    )
    if not well_formed:
        return None
    return Press(sent["id"], sent["verdict"], segment, emotion, (note or "").strip()[:500] or None)


def player_data(
    call: OpenedCall,
    waiting: Sequence[dict[str, Any]],
    labels: Iterable[str],
    acknowledged: Iterable[str],
    problem: str,
) -> dict[str, Any]:
    """Everything the player's script works with; see player.js."""
    page, data = call.page, call.data
    choices = [badge(label) for label in labels]
    moments = {round(m["start_s"], 3): m for e in data.escalations for m in e["evidence"]}
    said = {**_newest(call.reviews, waits=False), **_newest(waiting, waits=True)}
    return {
        "html": render(
            "player.html",
            page=page,
            call=page.call,
            choices=choices,
            legend=legend(choice.key for choice in choices),
            numbers=[segment["segment"] for segment in data.segments],
        ),
        "sound": f"/call-audio/{page.call.call_id}",
        "duration_s": float(data.facts["duration_s"]),
        "segments": [
            {
                "segment": segment["segment"],
                "start_s": segment["start_s"],
                "end_s": segment["end_s"],
                "emotion": segment["emotion"],
                "words": _words(segment, row.badge, row.confidence, row.agreement, row.note),
            }
            for segment, row in zip(data.segments, page.segments, strict=True)
        ],
        "evidence_s": sorted(moments),
        "letters": {LETTERS[choice.key].lower(): choice.key for choice in choices},
        "said": {("call" if key is None else str(key)): words for key, words in said.items()},
        "acknowledged": sorted(acknowledged),
        "problem": problem,
    }


def _words(segment: dict[str, Any], label: Badge, confidence: str, agreement: str, note: str) -> str:
    who = {"caller": "Caller", "agent": "Agent"}.get(segment["role"], "Unknown")
    sure = f"{confidence}, {agreement} agree" if segment["emotion"] else note
    return f"{clock(segment['start_s'])} to {clock(segment['end_s'])}, {who}: {label.name} ({sure})"


def _newest(reviews: Iterable[dict[str, Any]], *, waits: bool) -> dict[int | None, str]:
    """The newest word about each segment, and about the call under None; reviews of one rule are left out."""
    found = {}
    for review in reviews:
        segment = review.get("segment")
        if review.get("rule") is not None:
            continue
        words = (CALL_WORDS if segment is None else VERDICT_WORDS).get(review["verdict"], review["verdict"])
        if segment is not None and review["verdict"] == "reject" and review.get("emotion"):
            words = f"you hear {review['emotion']}" if waits else f"a person heard {review['emotion']}"
        found[segment] = f"{words} (for the next run)" if waits else words
    return found
