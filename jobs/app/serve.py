"""The server of the app: Streamlit on loopback, telemetry off, closed to other hosts and to other sites."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callanalytics.errors import UsageError
from callanalytics.workspace import Workspace, folder_in_the_making, make_private_dir
from jobs.app.context import AppContext, set_context
from jobs.app.playback import CallSounds
from jobs.app.review_page import ReviewPage
from jobs.app.utterance import MAX_BYTES

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

LOOPBACK = ("127.0.0.1", "localhost")
EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 - compared with, not bound
REVIEW, WHOSE = "/review", "/whose"
STREAMLIT_PAGES = ("/calls", "/compare")
SCRIPT = Path(__file__).with_name("streamlit_script.py")

# Whatever a page or a library may try, the browser asks this server and nobody else. Streamlit's own
# pages need inline styles, and load components from blob: addresses that they made themselves.
CONTENT_POLICY = "; ".join(
    (
        "default-src 'self' data: blob:",
        "script-src 'self' blob: data: 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval'",
        "style-src 'self' 'unsafe-inline'",
        "connect-src 'self' blob: data:",
        "frame-ancestors 'none'",
        "form-action 'self'",
        "base-uri 'self'",
    )
)


@dataclass(frozen=True, slots=True)
class Address:
    """Where the app listens. `name` is what people type into the browser when it is not `host`."""

    host: str = LOOPBACK[0]
    port: int = 8501
    name: str | None = None

    @property
    def shown(self) -> str:
        """The name in the address bar."""
        return self.name or self.host

    @property
    def url(self) -> str:
        """Where to point a browser."""
        return f"http://{self.shown}:{self.port}"

    @property
    def is_private(self) -> bool:
        """Whether only this machine can reach it."""
        return self.host in LOOPBACK

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that a request may be addressed to."""
        return tuple(dict.fromkeys((*LOOPBACK, self.shown)))


def is_served(address: Address, workspace: Workspace) -> bool:
    """Whether the app of this workspace already listens there; False where nothing or something else does."""
    import json
    from urllib.request import ProxyHandler, build_opener

    try:
        with build_opener(ProxyHandler({})).open(f"{address.url}{WHOSE}", timeout=2) as answer:
            found = json.loads(answer.read(10_000))
        return bool(found["app"] == "callanalytics" and found["out"] == _fingerprint(workspace))
    except (OSError, ValueError, TypeError, KeyError):
        return False


def _fingerprint(workspace: Workspace) -> str:
    """Tells one output folder from another without naming it."""
    return hashlib.sha256(os.fsencode(workspace.folder.resolve())).hexdigest()[:16]


def serve(context: AppContext, address: Address, *, open_browser: bool, page: str = "") -> None:
    """Serve until interrupted.

    Args:
        page: path that the browser is opened at. With one, models are loaded while the page is looked at, so
            that a broken ensemble is named where it is needed and no page waits for it.

    Raises:
        UsageError: Streamlit is missing, or the address cannot be listened on safely.
        ensemble.model_errors.ModelError: the ensemble in use is missing or broken.
    """
    try:
        import streamlit as st
    except ImportError as problem:
        raise UsageError(
            "The app needs Streamlit, which is not installed. "
            "Install it in the checkout with: pip install '.[app]'"
        ) from problem
    from starlette.middleware import Middleware

    if address.host in EVERY_ADDRESS and not address.name:
        raise UsageError(
            f"--host {address.host} listens on every address: say by --name which host name people use, "
            "so that requests for others can be refused."
        )
    if not page:
        context.warm_up()  # a broken ensemble is named here and not in a page
    set_context(context)
    workspace = context.calls.workspace
    make_private_dir(workspace.playing)  # in the output folder, so that a purge finds what a kill left here
    with folder_in_the_making(workspace.playing / "app") as folder:
        sounds = CallSounds(context.calls, folder)
        app = st.App(
            SCRIPT,
            routes=[
                _whose(workspace),
                sounds.route(),
                *ReviewPage(context, sounds, may_write=address.is_private).routes(),
                *map(_streamlit_page, STREAMLIT_PAGES),
            ],
            middleware=[Middleware(Gate, names=address.names)],
            lifespan=_announce(address.url + page if open_browser else None),
        )
        app.run(config=streamlit_config(address))


def streamlit_config(address: Address) -> dict[str, Any]:
    """Streamlit's settings. Given here they win over any file or environment of the user."""
    return {
        "server.address": address.host,
        "server.port": address.port,
        "browser.serverAddress": address.shown,
        "browser.serverPort": address.port,
        "browser.gatherUsageStats": False,
        "server.headless": True,  # no prompt for an e-mail address; the browser is opened by us
        "server.enableCORS": True,
        "server.enableXsrfProtection": True,
        "server.allowedHosts": list(address.names),
        "server.enableStaticServing": False,
        "server.enableAgentApi": False,
        "server.fileWatcherType": "none",
        "server.maxUploadSize": MAX_BYTES // 1_000_000,
        "client.toolbarMode": "minimal",
        "client.showErrorDetails": "none",
        "client.showErrorLinks": False,
        "logger.hideWelcomeMessage": True,
        "logger.level": "warning",
        "runner.magicEnabled": False,
        "theme.light.backgroundColor": "#fbfaf7",
        "theme.light.secondaryBackgroundColor": "#f2f0ea",
        "theme.light.textColor": "#1c1d21",
        "theme.light.primaryColor": "#2b5f9e",
        "theme.dark.backgroundColor": "#15171b",
        "theme.dark.secondaryBackgroundColor": "#22262c",
        "theme.dark.textColor": "#ececea",
        "theme.dark.primaryColor": "#85b4ea",
    }


def _whose(workspace: Workspace) -> Route:
    """Whose app this is, for a second `callanalytics open`."""
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    async def answer(_request: Request) -> Response:
        return JSONResponse({"app": "callanalytics", "out": _fingerprint(workspace)})

    return Route(WHOSE, answer)


def _streamlit_page(path: str) -> Route:
    """Streamlit's page below the root. Told where the server is, it does not ask below its own path first,
    which would leave two errors in the console of every visitor.
    """
    from importlib import resources

    from starlette.responses import HTMLResponse
    from starlette.routing import Route

    page = (resources.files("streamlit") / "static" / "index.html").read_text(encoding="utf-8")
    told = "<head><script>window.__streamlit = { BACKEND_BASE_URL: location.origin + '/' }</script>"

    async def answer(_request: Request) -> Response:
        return HTMLResponse(page.replace("<head>", told, 1), headers={"cache-control": "no-cache"})

    return Route(path, answer)


def _announce(url: str | None) -> Any:
    @asynccontextmanager
    async def lifespan(_app: object) -> AsyncIterator[None]:
        if url:
            import webbrowser

            webbrowser.open(url)
        yield

    return lifespan


class Gate:
    """Refuses requests addressed to other names (DNS rebinding) or sent by pages of other sites."""

    def __init__(self, app: ASGIApp, names: tuple[str, ...]) -> None:
        self.app, self.names = app, names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, with the content policy added to the answer, or refuse it."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        host, origin = headers.get("host", ""), headers.get("origin")
        if _host_name(host) not in self.names or (origin is not None and origin.split("://")[-1] != host):
            await self._refuse(scope, receive, send)
            return

        async def guarded(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *_GUARDS]}
            await send(message)

        await self.app(scope, receive, guarded if scope["type"] == "http" else send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        from starlette.responses import PlainTextResponse

        text = f"This app answers to {', '.join(self.names)} only.\n"
        await PlainTextResponse(text, status_code=403)(scope, receive, send)


_GUARDS = (
    (b"content-security-policy", CONTENT_POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)


def _host_name(host: str) -> str:
    """The name of a Host header without its port; IPv6 addresses stand in brackets."""
    return host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
