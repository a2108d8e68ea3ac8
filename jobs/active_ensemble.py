"""Which ensemble the night uses: the configured folder, else the promoted one, else the shipped one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.errors import UsageError
from callanalytics.workspace import Workspace

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from ensemble.inference.registry import Registry


def registry(workspace: Workspace) -> Registry:
    """The ensembles kept beside the results."""
    from ensemble.inference.registry import Registry

    return Registry(workspace.ensembles)


def in_use(settings: Settings, workspace: Workspace) -> Path:
    """Folder of the ensemble in use. Raises ModelMissing when a promoted one is gone."""
    chosen = settings.emotion.ensemble
    return settings.folder / chosen if chosen else registry(workspace).current()


def is_in_use(settings: Settings, workspace: Workspace, ensemble_id: str) -> bool:
    """Whether the ensemble kept beside the results under this id is the one in use."""
    return in_use(settings, workspace).resolve() == (workspace.ensembles / ensemble_id).resolve()


def refuse_where_fixed(settings: Settings, what: str) -> None:
    """Raise UsageError where the settings name the ensemble, so that `what` would change nothing."""
    if settings.emotion.ensemble:
        raise UsageError(
            f"{settings.source}: [emotion] ensemble = {settings.emotion.ensemble!r} fixes the ensemble. "
            f"Remove that key to {what}."
        )


def named(name: str, workspace: Workspace) -> Path:
    """Folder of an ensemble named by a person: an id of the registry, ``shipped``, or a folder.

    Raises ModelMissing when it is none of these.
    """
    folder = Path(name)
    return folder if (folder / "card.json").is_file() else registry(workspace).folder(name)
