"""Review: the queue as cards to judge by keys, each with its contrast clip; a page beside Streamlit's.

It is plain HTML with one script: it plays within a second, keys need no focus, and a verdict moves on at
once. The browser names calls by their ids and never sends a path; a verdict comes as JSON, which no page of
another site can send (`serve.Gate` refuses its origin).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.analysis.contrast import frustration_rule
from callanalytics.config import Settings, write_threshold
from callanalytics.errors import CallAnalyticsError, UsageError
from callanalytics.store import Review
from callanalytics.store.review_rows import VERDICTS
from jobs.app.context import AppContext
from jobs.app.markup import asset, render
from jobs.app.playback import CallSounds
from jobs.models.rejudge import rejudge, render_rejudged
from jobs.reviews import give
from jobs.reviews.piles import (
    PERCENTS,
    PILES,
    read_misses,
    read_queue,
    read_session,
    read_thresholds,
    verdicts_of,
    window_of,
)
from jobs.reviews.queue import take_back, waiting_reviews
from reports.formatting import length, localised, window_text
from reports.parts.call_parts import page_name, person
from reports.parts.flags import stored_text
from reports.render import asset as report_asset
from reports.translation import _, plural

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import BaseRoute
    from starlette.types import ASGIApp, Scope

DAYS: dict[str, int | None] = {"last": None, "7": 7, "30": 30, "all": 0}
"""What the page offers to review -> days of `piles.window_of`."""
MAX_BODY = 2_000_000  # bytes of a request: the verdicts of a long sitting
MAX_NAME, MAX_NOTE = 100, 500  # characters
_CALL_ID = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True)
class ReviewPage:
    """The page and what its script asks for."""

    here: AppContext
    sounds: CallSounds
    may_write: bool  # config.toml, on request

    def routes(self) -> list[BaseRoute]:
        """/review, what its script asks for and sends, and /report with the pages of the folder."""
        from starlette.routing import Mount, Route

        asked: dict[str, Callable[[Request, Any], Response]] = {
            "": self._page,
            "/card/{call_id}": self._card,
            "/clip/{call_id}": self._clip,
            "/parts/{call_id}": self._parts,
            "/thresholds": self._thresholds,
            "/style.css": partial(_static, "text/css", _style),
            "/review.js": partial(_static, "text/javascript", partial(asset, "review.js")),
            "/report-links.js": partial(_static, "text/javascript", self._report_links),
        }
        sent = {"/judge": self._judge, "/undo": self._undo, "/session": self._session, "/apply": self._apply}
        return [
            *(Route(f"/review{path}", _answering(answer)) for path, answer in asked.items()),
            *(Route(f"/review{path}", _answering(answer), methods=["POST"]) for path, answer in sent.items()),
            Mount("/report", _report(self.here.workspace.reports)),
        ]

    def _page(self, request: Request, _sent: Any) -> Response:
        from starlette.responses import HTMLResponse

        here = self.here
        chosen = request.query_params.get("days", "last")
        days = DAYS.get(chosen, DAYS["last"])
        waiting = verdicts_of(waiting_reviews(here.workspace))
        with here.calls.reading() as source, in_settings(here.settings):
            window = window_of(source, days)
            queue, misses = read_queue(source, window, waiting), read_misses(source, waiting)
            span = window_text(window.since, window.until, source.now)
            counts = {pile: [call.pile for call in queue].count(pile) for pile in PILES}
            page = render(
                "review.html",
                title=here.settings.report.title,
                span=span,
                days=chosen if chosen in DAYS else "last",
                counts=counts,
                n_left=sum(call.verdict is None for call in queue),
                misses=misses.text,
                has_pages=here.workspace.report_index.is_file(),
                data={
                    "calls": [call.to_json() for call in queue],
                    "days": chosen,
                    "percents": PERCENTS,
                    "texts": _texts(),
                },
            )
        return HTMLResponse(page, headers={"cache-control": "no-store"})

    def _card(self, request: Request, _sent: Any) -> Response:
        from starlette.responses import HTMLResponse

        call_id = _id_of(request)
        with in_settings(self.here.settings):
            call, facts = self.here.calls.card(call_id)
            known = facts["agent_name"] or facts["agent_id"]
            card = render(
                "review-card.html",
                call=call,
                queue=facts["queue"] or "",
                agent=person(facts["agent_name"], facts["agent_id"]) if known else "",
                length=length(facts["duration_s"]),
                page=self._page_of(call_id),
            )
        return HTMLResponse(card, headers={"cache-control": "no-store"})

    def _report_links(self) -> str:
        """The script with its two words in front."""
        with in_settings(self.here.settings):
            words = {"play": _("Play it in the app"), "review": _("Review")}
        return f"const words = {json.dumps(words)};\n{asset('report-links.js')}"

    def _page_of(self, call_id: str) -> str:
        """Address of the page of a call, empty where it has none."""
        name = page_name(call_id)
        there = bool(name) and (self.here.workspace.call_pages / name).is_file()
        return f"/report/calls/{name}" if there else ""

    def _clip(self, request: Request, _sent: Any) -> Response:
        from starlette.responses import FileResponse

        sound, _parts = self.sounds.contrast(_id_of(request))
        return FileResponse(sound, media_type="audio/mpeg", headers={"cache-control": "no-store"})

    def _parts(self, request: Request, _sent: Any) -> Response:
        from starlette.responses import JSONResponse

        try:
            _sound, parts = self.sounds.contrast(_id_of(request))
        except CallAnalyticsError as problem:  # expected: recordings are deleted, and some hold no speech
            return JSONResponse({"problem": str(problem)})
        found = json.loads(parts.read_bytes())
        with in_settings(self.here.settings):
            for moment in found["moments"]:
                moment["text"] = stored_text(moment["text"])
        return JSONResponse(found)

    def _thresholds(self, request: Request, _sent: Any) -> Response:
        from starlette.responses import JSONResponse

        here = self.here
        waiting = verdicts_of(waiting_reviews(here.workspace))
        with here.calls.reading() as source:
            window = window_of(source, DAYS.get(request.query_params.get("days", "")))
            found = read_thresholds(source, window, waiting)
        return JSONResponse(None if found is None else asdict(found))

    def _judge(self, _request: Request, sent: Any) -> Response:
        from starlette.responses import JSONResponse

        verdict, note = sent.get("verdict"), sent.get("note")
        if verdict not in VERDICTS or not isinstance(note, str | None):
            raise UsageError("This is no verdict.")
        review = Review(
            _checked_id(sent.get("call_id")),
            verdict,
            reviewer=_name_of(sent),
            note=(note or "").strip()[:MAX_NOTE] or None,
        )
        give(self.here.workspace, [review])
        return JSONResponse({})

    def _undo(self, _request: Request, sent: Any) -> Response:
        from starlette.responses import JSONResponse

        call_id = _checked_id(sent.get("call_id"))
        if not take_back(self.here.workspace, call_id=call_id, reviewer=_name_of(sent)):
            raise UsageError(
                "A run has published this verdict meanwhile: judge the call again to overrule it."
            )
        return JSONResponse({})

    def _session(self, request: Request, sent: Any) -> Response:
        from starlette.responses import JSONResponse

        verdicts = sent.get("verdicts")
        if not isinstance(verdicts, dict) or any(each not in VERDICTS for each in verdicts.values()):
            raise UsageError("These are no verdicts.")
        waiting = verdicts_of(waiting_reviews(self.here.workspace))
        base = str(request.base_url).rstrip("/")
        with self.here.calls.reading() as source, in_settings(self.here.settings):
            session = read_session(source, verdicts, _name_of(sent))
            misses = read_misses(source, waiting).text
            links = [
                (m.text, base + (self._page_of(m.call_id) or f"/calls?call={m.call_id}"))
                for m in session.moments
            ]
            html = render("review-session.html", sentences=session.sentences, links=links)
        text = " ".join(session.sentences) + "".join(f"\n{words}\n  {link}" for words, link in links)
        return JSONResponse({"text": text, "html": html, "misses": misses})

    def _apply(self, _request: Request, sent: Any) -> Response:
        from starlette.responses import JSONResponse

        percent, rule = sent.get("percent"), frustration_rule(self.here.settings)
        if type(percent) is not int or percent not in PERCENTS or rule is None:
            raise UsageError("This is no threshold.")
        try:
            text, is_done = self._applied(rule.name, percent / 100), True
        except (CallAnalyticsError, OSError) as problem:
            text, is_done = str(problem), False
        by_hand = {} if is_done else {"rule": rule.name, "line": f"at_least = {percent / 100:g}"}
        return JSONResponse({"text": text, "command": self.here.workspace.command("rejudge"), **by_hand})

    def _applied(self, rule: str, at_least: float) -> str:
        """Write the rule, apply it to the calls that are there, and say what came and went."""
        here = self.here
        if not self.may_write:
            raise UsageError("Others reach this app, so it changes no config.toml.")
        here.settings = write_threshold(here.settings, rule, at_least)
        try:
            return render_rejudged(rejudge(here.settings, here.workspace)).splitlines()[0]
        except CallAnalyticsError as problem:
            return f"Written. The next run uses it; the calls that are there keep their flags: {problem}"


def in_settings(settings: Settings) -> AbstractContextManager[None]:
    """Texts, numbers and dates in this block as the settings of the report have them."""
    return localised(settings.report.written_locale, settings.report.language)


def _texts() -> dict[str, Any]:
    """What review.js says. Those with two forms are for one and for more."""
    return {
        "piles": {"sure": _("Sure"), "disputed": _("Disputed"), "control": _("Control")},
        "play": _("Play"),
        "pause": _("Pause"),
        "calm": _("Calm, {at}"),
        "calm_words": _("how the caller usually speaks"),
        "cannot_play": _("The clip cannot be played. {reason}"),
        "browser": _("This browser cannot play it."),
        "progress": [
            plural(
                "{pile}: {n} of {all}, about {minutes} minute left",
                "{pile}: {n} of {all}, about {minutes} minutes left",
                n,
            )
            for n in (1, 2)
        ],
        "unsaved": [
            plural(
                "{n} verdict not saved yet: {problem} Trying again.",
                "{n} verdicts not saved yet: {problem} Trying again.",
                n,
            )
            for n in (1, 2)
        ],
        "refused": _("A verdict was not taken: {reason}"),
        "skipped": [plural("{n} call skipped.", "{n} calls skipped.", n) for n in (1, 2)],
        "moment": _("One moment."),
        "copied": _("Copied."),
        "selected": _("Selected: copy it with Ctrl+C."),
        "no_rule": _("The settings have no rule on the frustration of callers."),
        "would": _("At {percent}%: {n} flagged; {worth}."),
        "worth": _("of those judged, {share}% worth it ({n} of {all})"),
        "none_judged": _("none of them judged yet"),
        "now": _("This is the rule now."),
        "applying": _("Applying it to the calls that are there …"),
        "by_hand": _("In the rule “{rule}” of config.toml, write {line}; then run {command}"),
        "show_queue": _("Show the queue as it is now"),
    }


def _report(folder: Path) -> ASGIApp:
    """The pages of a folder and what they play, each page with links into the app."""
    from starlette.responses import HTMLResponse
    from starlette.staticfiles import StaticFiles

    class Report(StaticFiles):
        async def get_response(self, path: str, scope: Scope) -> Response:
            response = await super().get_response(path, scope)
            file = getattr(response, "path", None)
            if file is None or Path(file).suffix != ".html":
                return response
            page = Path(file).read_text(encoding="utf-8")
            script = '<script src="/review/report-links.js" defer></script></head>'
            return HTMLResponse(page.replace("</head>", script, 1), headers={"cache-control": "no-cache"})

    return Report(directory=folder, html=True, check_dir=False)


def _answering(answer: Callable[[Request, Any], Response]) -> Any:
    """An endpoint that runs in a thread, and turns what may go wrong into a status with one sentence."""

    async def endpoint(request: Request) -> Response:
        from anyio.to_thread import run_sync
        from starlette.responses import PlainTextResponse

        try:
            sent = await _object_in(request) if request.method == "POST" else None
            return await run_sync(answer, request, sent)
        except UsageError as problem:
            return PlainTextResponse(str(problem), status_code=404 if request.method == "GET" else 400)
        except (CallAnalyticsError, OSError) as problem:
            return PlainTextResponse(str(problem), status_code=410 if request.method == "GET" else 503)

    return endpoint


async def _object_in(request: Request) -> dict[str, Any]:
    """The JSON object of a request. Raises UsageError for anything else."""
    if request.headers.get("content-type", "").partition(";")[0] != "application/json":
        raise UsageError("Send JSON.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise UsageError(f"More than {MAX_BODY:,} bytes.")
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        raise UsageError("This is no JSON.") from None
    if not isinstance(found, dict):
        raise UsageError("This is no JSON object.")
    return found


def _id_of(request: Request) -> str:
    return _checked_id(request.path_params["call_id"])


def _checked_id(call_id: object) -> str:
    if not isinstance(call_id, str) or not _CALL_ID.fullmatch(call_id):
        raise UsageError("This is no id of a call.")
    return call_id


def _name_of(sent: dict[str, Any]) -> str:
    name = sent.get("reviewer")
    name = name.strip()[:MAX_NAME] if isinstance(name, str) else ""
    if not name:
        raise UsageError("Say who judges: the name is kept with the verdict.")
    return name


def _style() -> str:
    return report_asset("style.css") + asset("review.css")


def _static(media_type: str, content: Callable[[], str], _request: Request, _sent: Any) -> Response:
    from starlette.responses import Response

    return Response(content(), media_type=media_type, headers={"cache-control": "no-cache"})
