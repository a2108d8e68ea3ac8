"""Put documents that lie outside docs/ into the site, under the names that they have in the repository."""

from __future__ import annotations

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

PAGES = ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "benchmarks/RESULTS.md", "benchmarks/seeds.md")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages. MkDocs calls this once the files of docs/ are known."""
    root = Path(config.config_file_path).parent
    for name in PAGES:
        files.append(File.generated(config, name, abs_src_path=str(root / name)))
    return files
