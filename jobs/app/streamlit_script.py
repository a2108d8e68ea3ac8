"""What Streamlit runs for every visitor: the frame around its three pages, with a way to the review queue."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from jobs.app.context import context
from jobs.app.streamlit_pages import calls, compare, try_out
from reports.formatting import localised
from reports.translation import _

# An icon of our own: Streamlit fetches the pictures of emoji and Material symbols from the internet.
ICON = Path(__file__).parent / "templates" / "icon.svg"


def review() -> None:
    """Leave Streamlit for the review queue, which the same server answers at the same path."""
    st.html("<script>location.replace('/review')</script>", unsafe_allow_javascript=True)


st.set_page_config(page_title="callanalytics", page_icon=ICON, layout="wide")
# Streamlit's own greys, and white on the light blue of its dark theme, are too faint to read for some.
STYLE = """<style>
.stMainBlockContainer { padding-top: 4.5rem; max-width: 1240px; margin: 0 auto; }
[data-testid=stCaptionContainer], [data-testid=stCaptionContainer] p, blockquote, blockquote p {
  color: inherit !important; opacity: 1 !important; }
@media (prefers-color-scheme: dark) { [data-testid=stBaseButton-primary] p { color: #15171b; } }
</style>"""
st.html(STYLE)
written = context().settings.report
with localised(written.written_locale, written.language):
    page = st.navigation(
        [
            st.Page(review, title=_("Review"), icon=":material/playlist_play:", url_path="review"),
            st.Page(try_out, title=_("Try"), icon=":material/mic:", url_path="try", default=True),
            st.Page(calls, title=_("Calls"), icon=":material/call:", url_path="calls"),
            st.Page(compare, title=_("Compare"), icon=":material/compare_arrows:", url_path="compare"),
        ],
        position="top",
    )
    page.run()
