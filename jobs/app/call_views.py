"""The list of calls and the player, with every text finished for its template."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from types import NoneType
from typing import Any

from callanalytics.store import Review
from ensemble.labels import EMOTIONS
from jobs.app.markup import render
from jobs.app.published import PAGE_ROWS, Listed, OpenedCall, Wanted
from reports.formatting import MISSING, calls_text, clock, from_to, moment, score_text, whole_number
from reports.palette import LETTERS, Badge, badge, legend
from reports.parts.call_parts import person
from reports.parts.flags import stored_text
from reports.report_source import Row
from reports.timeline import ROLE_NAMES
from reports.translation import _, marked


def list_view(listed: Listed, wanted: Wanted, rule_at: float | None) -> dict[str, Any]:
    """What list.html prints; `rule_at` is where the rule on the caller's peak frustration starts."""
    order = "descending" if wanted.descending else "ascending"

    columns = (
        *((_("When"), "when"), (_("Frustration"), "score"), (_("Length"), "length"), (_("Queue"), "queue")),
        *((_("Agent"), "agent"), (_("Reasons"), ""), (_("Reviewed"), "")),
    )
    return {
        "found": _found(listed),
        "columns": [
            {
                **{"title": title, "sort": sort, "order": order if sort == wanted.sort else ""},
                "number": sort in {"score", "length"},
            }
            for title, sort in columns
        ],
        "rows": [_row(row, rule_at) for row in listed.rows],
        "page": wanted.page,
        "n_pages": -(-listed.n_found // PAGE_ROWS),
    }


def _found(listed: Listed) -> str:
    if listed.n_all == 0:
        return _("No call has been analysed yet.")
    if listed.n_found == 0:
        text = _("None of {calls} is like that. Loosen the filters.")
        return text.format(calls=calls_text(listed.n_all))
    if listed.n_found == listed.n_all:
        return calls_text(listed.n_all)
    return _("{n} of {all}").format(n=whole_number(listed.n_found), all=calls_text(listed.n_all))


def _row(row: Row, rule_at: float | None) -> dict[str, Any]:
    return {
        **{"call_id": row["call_id"], "flagged": row["flagged"], "queue": row["queue"] or MISSING},
        "when": moment(row["started_local"]),
        "agent": person(row["agent_name"], row["agent_id"]),
        "length": clock(row["duration_s"]),
        "score": score_text(row["frustration_score"], rule_at),
        "reasons": "; ".join(map(stored_text, row["reasons"])),
        "reviewed": _("yes") if row["reviewed"] else "",
    }


# The player --------------------------------------------------------------------------------

SEGMENT_VERDICTS = {
    "confirm": marked("agreed"),
    "reject": marked("corrected"),
    "unsure": marked("cannot tell"),
}
CALL_VERDICTS = {
    "confirm": marked("worth flagging"),
    "reject": marked("not worth flagging"),
    "unsure": marked("cannot tell"),
}


def read_press(sent: object, call_id: str, reviewer: str | None) -> tuple[str, Review] | None:
    """Read the id of a press and the review it means; None for anything else that a browser may send."""
    if not isinstance(sent, dict):
        return None
    press_id, verdict, segment = sent.get("id"), sent.get("verdict"), sent.get("segment")
    emotion, note = sent.get("emotion"), sent.get("note")
    if (
        not isinstance(press_id, str)
        or verdict not in SEGMENT_VERDICTS
        or type(segment) not in (int, NoneType)  # True is an int too
        or emotion not in (None, *EMOTIONS)
        or not isinstance(note, str | None)
    ):
        return None
    note = (note or "").strip()[:500] or None
    return press_id, Review(call_id, verdict, None, segment, emotion, reviewer, note)


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
        "texts": _player_texts(choices),
    }


def _player_texts(choices: Iterable[Badge]) -> dict[str, Any]:
    """What player.js says."""
    return {
        "play": _("Play"),
        "pause": _("Pause"),
        "not_reviewed": _("not reviewed"),
        "cannot_play": _("The sound cannot be played. {reason}"),
        "browser": _("This browser cannot play the sound."),
        "choose": _("Choose a segment first: press ↓ or play."),
        "unnamed": _(
            "The ensemble named no emotion here. Say which one you hear, or X when you cannot tell."
        ),
        "noted": _("{where}: {what}. Noted for the next run."),
        "whole": _("The whole call"),
        "you_hear": {choice.key: _("you hear {emotion}").format(emotion=choice.name) for choice in choices},
        "segment": {"confirm": _("you agree"), "unsure": _("you cannot tell")},
        "call": {verdict: _(text) for verdict, text in CALL_VERDICTS.items()},
    }


def _segment_text(segment: dict[str, Any], label: Badge, confidence: str, agreement: str, note: str) -> str:
    when = from_to(clock(segment["start_s"]), clock(segment["end_s"]))
    agree = _("{confidence}, {agreement} agree").format(confidence=confidence, agreement=agreement)
    sure = agree if segment["emotion"] else note
    return f"{when}, {_(ROLE_NAMES[segment['role']])}: {label.name} ({sure})"


def _newest(reviews: Iterable[Mapping[str, Any]], *, waits: bool) -> dict[int | None, str]:
    """The newest review of each segment, and of the call under None; reviews of one rule are left out."""
    found = {}
    for review in reviews:
        segment = review.get("segment")
        if review.get("rule") is not None:
            continue
        verdicts = CALL_VERDICTS if segment is None else SEGMENT_VERDICTS
        text = _(verdicts[review["verdict"]])
        if segment is not None and review["verdict"] == "reject" and review.get("emotion"):
            text = _("you hear {emotion}") if waits else _("a person heard {emotion}")
            text = text.format(emotion=badge(review["emotion"]).name)
        found[segment] = _("{verdict} (for the next run)").format(verdict=text) if waits else text
    return found
