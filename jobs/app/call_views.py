"""The list of calls and the player, with every text finished for its template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from callanalytics.store import Review
from ensemble.labels import EMOTIONS
from jobs.app.markup import render
from jobs.app.published import PAGE_ROWS, Listed, OpenedCall, Wanted
from reports.formatting import MISSING, clock, count, moment, percent
from reports.palette import LETTERS, Badge, badge, legend
from reports.parts.call_parts import person
from reports.report_source import Row


@dataclass(frozen=True, slots=True)
class Column:
    """A column head. `sort` is empty where it cannot be sorted by, `order` says how it is."""

    title: str
    sort: str
    order: str
    number: bool = False


@dataclass(frozen=True, slots=True)
class ListedCall:
    """A row."""

    call_id: str
    when: str
    queue: str
    agent: str
    length: str
    score: str
    flagged: bool
    reasons: str
    reviewed: str


def list_view(listed: Listed, wanted: Wanted) -> dict[str, Any]:
    """What list.html prints."""
    order = "descending" if wanted.descending else "ascending"

    def column(title: str, sort: str = "", *, number: bool = False) -> Column:
        return Column(title, sort, order if sort == wanted.sort else "", number)

    return {
        "found": _found(listed),
        "columns": (
            *(column("When", "when"), column("Frustration", "score", number=True)),
            *(column("Length", "length", number=True), column("Queue", "queue"), column("Agent", "agent")),
            *(column("Reasons"), column("Reviewed")),
        ),
        "rows": [_row(row) for row in listed.rows],
        "page": wanted.page,
        "n_pages": -(-listed.n_found // PAGE_ROWS),
    }


def _found(listed: Listed) -> str:
    if listed.n_all == 0:
        return "No call has been analysed yet."
    if listed.n_found == 0:
        return f"None of {count(listed.n_all, 'call')} is like that. Loosen the filters."
    if listed.n_found == listed.n_all:
        return count(listed.n_all, "call")
    return f"{listed.n_found:,} of {count(listed.n_all, 'call')}"


def _row(row: Row) -> ListedCall:
    return ListedCall(
        call_id=row["call_id"],
        when=moment(row["started_local"]),
        queue=row["queue"] or MISSING,
        agent=person(row["agent_name"], row["agent_id"]),
        length=clock(row["duration_s"]),
        score=percent(row["frustration_score"]),
        flagged=row["flagged"],
        reasons="; ".join(row["reasons"]),
        reviewed="yes" if row["reviewed"] else "",
    )


# The player --------------------------------------------------------------------------------

SEGMENT_VERDICTS = {"confirm": "agreed", "reject": "corrected", "unsure": "cannot tell"}
CALL_VERDICTS = {"confirm": "worth flagging", "reject": "not worth flagging", "unsure": "cannot tell"}


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
        and sent.get("verdict") in SEGMENT_VERDICTS
        and (segment is None or (isinstance(segment, int) and not isinstance(segment, bool)))
        and (emotion is None or emotion in EMOTIONS)
        and (note is None or isinstance(note, str))
    )
    if not well_formed:
        return None
    return Press(sent["id"], sent["verdict"], segment, emotion, (note or "").strip()[:500] or None)


def player_view(
    call: OpenedCall,
    waiting: Sequence[Review],
    labels: Iterable[str],
    acknowledged: Iterable[str],
    problem: str,
) -> dict[str, Any]:
    """Everything that player.js works with. `waiting` are the reviews of the call that are still queued."""
    page, data = call.page, call.data
    choices = [badge(label) for label in labels]
    moments = {round(m["start_s"], 3): m for e in data.escalations for m in e["evidence"]}
    reviewed = {**_newest(call.reviews, waits=False), **_newest(map(asdict, waiting), waits=True)}
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
                "text": _segment_text(segment, row.badge, row.confidence, row.agreement, row.note),
            }
            for segment, row in zip(data.segments, page.segments, strict=True)
        ],
        "evidence_s": sorted(moments),
        "letters": {LETTERS[choice.key].lower(): choice.key for choice in choices},
        "reviewed": {("call" if key is None else str(key)): text for key, text in reviewed.items()},
        "acknowledged": sorted(acknowledged),
        "problem": problem,
    }


def _segment_text(segment: dict[str, Any], label: Badge, confidence: str, agreement: str, note: str) -> str:
    who = {"caller": "Caller", "agent": "Agent"}.get(segment["role"], "Unknown")
    sure = f"{confidence}, {agreement} agree" if segment["emotion"] else note
    return f"{clock(segment['start_s'])} to {clock(segment['end_s'])}, {who}: {label.name} ({sure})"


def _newest(reviews: Iterable[Mapping[str, Any]], *, waits: bool) -> dict[int | None, str]:
    """The newest review of each segment, and of the call under None; reviews of one rule are left out."""
    found = {}
    for review in reviews:
        segment = review.get("segment")
        if review.get("rule") is not None:
            continue
        verdicts = CALL_VERDICTS if segment is None else SEGMENT_VERDICTS
        text = verdicts.get(review["verdict"], review["verdict"])
        if segment is not None and review["verdict"] == "reject" and review.get("emotion"):
            text = f"you hear {review['emotion']}" if waits else f"a person heard {review['emotion']}"
        found[segment] = f"{text} (for the next run)" if waits else text
    return found
