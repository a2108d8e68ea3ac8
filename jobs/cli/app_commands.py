"""The review app in a browser: app, and open for its review queue."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobs.cli.console import say
from jobs.cli.options import folder_type, with_settings

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace


@click.command()
@with_settings
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Address to listen on; the default is private."
)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--name", help="Host name that people type, when it is not --host.")
@click.option(
    "--ensemble", "ensembles", type=folder_type, multiple=True, help="Folder of a further ensemble."
)
@click.option(
    "--corpus", "corpora", type=folder_type, multiple=True, help="Folder of a corpus to compare on."
)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def app(
    settings: Settings,
    workspace: Workspace,
    host: str,
    port: int,
    name: str | None,
    ensembles: tuple[Path, ...],
    corpora: tuple[Path, ...],
    no_browser: bool,
) -> None:
    """Try the ensemble with your own voice; listen to calls and correct them; compare ensembles.

    Needs the extra "app" (Streamlit). There is no login: whoever reaches the address hears the calls.
    """
    from jobs.app.context import AppContext
    from jobs.app.serve import Address, serve

    address = Address(host, port, name)
    if not address.is_private:
        say(
            f"Listening on {host}: everybody who reaches it hears the calls. Put a login in front of it; "
            "browsers give a microphone only to https:// addresses and to this machine.",
            quiet=False,
        )
    context = AppContext(settings, workspace, ensembles, corpora)
    say(f"The review app: {address.url} (end it with Ctrl+C)", quiet=False)
    serve(context, address, open_browser=not no_browser)


@click.command()
@with_settings
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option("--no-browser", is_flag=True, help="Do not open a browser.")
def open(settings: Settings, workspace: Workspace, port: int, no_browser: bool) -> None:  # noqa: A001
    """Open the review queue: play the calls that matter, judge them by keys, forward what came of it.

    Serves the review app on this machine alone until Ctrl+C; where it is served already, opens the browser.
    """
    import webbrowser

    from jobs.app.context import AppContext
    from jobs.app.serve import REVIEW, Address, is_served, serve

    workspace.require_results("review")
    address = Address(port=port)
    if is_served(address, workspace):
        say(f"The review queue: {address.url}{REVIEW}", quiet=False)
        if not no_browser:
            webbrowser.open(address.url + REVIEW)
        return
    say(f"The review queue: {address.url}{REVIEW} (end it with Ctrl+C)", quiet=False)
    serve(AppContext(settings, workspace), address, open_browser=not no_browser, page=REVIEW)
