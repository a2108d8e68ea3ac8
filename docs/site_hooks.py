"""Hooks of MkDocs: pages that lie outside docs/, and no page that fetches anything from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

from markdown.extensions.toc import slugify
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT_PAGES = (
    *("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"),
    *("benchmarks/RESULTS.md", "benchmarks/seeds.md"),
)
FETCHED = re.compile(r"<(?:script|link|img|iframe|source)\b[^>]*(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


def slug(text: str, separator: str) -> str:
    """The anchor of a heading. It begins with a letter, or the theme's scripts fail on it."""
    plain = slugify(text, separator)
    return f"at{separator}{plain}" if plain[:1].isdigit() else plain


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Use our anchors."""
    config.mdx_configs.setdefault("toc", {})["slugify"] = slug
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages of the repository's root, under the names that they have there."""
    root = Path(config.config_file_path).parent
    for name in ROOT_PAGES:
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse a page that would fetch anything from the network when it is opened."""
    if found := FETCHED.search(output):
        raise PluginError(f"{page.file.src_uri} would fetch {found[0]}")
    return output
