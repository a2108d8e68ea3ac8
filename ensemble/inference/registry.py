"""Which trained ensemble is in use: a folder of ensembles and a history, all JSON.

    root/<ensemble_id>/card.json, *.onnx, *.safetensors
    root/history.json        promotions in order; the last one is in use

With an empty history the shipped ensemble is in use. Nothing is deleted by
promoting or rolling back.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ensemble.inference.card import checked_file, files_of, fingerprint, read_card
from ensemble.inference.ensemble import SHIPPED, load_ensemble
from ensemble.model_errors import ModelIncompatible, ModelMissing, PromotionRefused

TOLERANCE_UAR = 0.005
"""An ensemble may score this much below the promoted one: less than one clip in two hundred is noise."""


@dataclass(frozen=True, slots=True)
class Promotion:
    """One entry of the history. ``ensemble_id`` is ``shipped`` for the one in the package."""

    ensemble_id: str
    promoted_at: str
    forced: bool
    note: str


@dataclass(frozen=True, slots=True)
class Registry:
    """The ensembles under ``root``. Folders are made when first needed."""

    root: Path

    def ids(self) -> tuple[str, ...]:
        """Ids of every ensemble kept here, sorted."""
        found = (path.parent.name for path in self.root.glob("*/card.json"))
        return tuple(sorted(name for name in found if not name.startswith(".")))  # one may be arriving

    def history(self) -> tuple[Promotion, ...]:
        """Promotions, oldest first.

        Raises:
            ModelIncompatible: when they cannot be read.
        """
        path = self.root / "history.json"
        try:
            return tuple(Promotion(**row) for row in json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return ()
        except (OSError, ValueError, TypeError) as error:  # never taken for none: another would be in use
            raise ModelIncompatible(
                f"{path}: expected a list of promotions, found something else ({error}); restore it, or "
                "remove it: then the shipped ensemble is in use and those kept can be promoted again"
            ) from error

    def current(self) -> Path:
        """Folder of the ensemble in use: the last promoted one, else the shipped one."""
        past = self.history()
        return self.folder(past[-1].ensemble_id) if past else SHIPPED

    def folder(self, ensemble_id: str) -> Path:
        """Folder of an ensemble; ``shipped`` is the package's.

        Raises:
            ModelMissing: for an unknown id.
        """
        if ensemble_id == "shipped":
            return SHIPPED
        # An id is a name typed by a person: compared with what is there, never joined to a path unseen.
        if ensemble_id not in self.ids():
            kept = ", ".join(self.ids()) or "none"
            raise ModelMissing(
                f"no ensemble {ensemble_id!r} in {self.root}; kept there: {kept}, and 'shipped'"
            )
        return self.root / ensemble_id

    def add(self, folder: Path) -> str:
        """Copy a trained ensemble in after loading it once; returns its id.

        Raises:
            ModelError: when it cannot be loaded.
        """
        load_ensemble(folder)
        card = read_card(folder)
        ensemble_id = fingerprint(card)
        target = self.root / ensemble_id
        sources = [checked_file(folder, name, sha256) for name, sha256 in files_of(card)]
        with self._alone():
            if target.exists():
                return ensemble_id
            with self._arriving(ensemble_id) as arriving:
                shutil.copyfile(folder / "card.json", arriving / "card.json")
                for source in sources:
                    shutil.copyfile(source, arriving / source.name)
                for name in ("results.json", "model-card.md", "model-card.html"):
                    if (folder / name).is_file():
                        shutil.copyfile(folder / name, arriving / name)
                arriving.rename(target)
        return ensemble_id

    @contextmanager
    def _arriving(self, ensemble_id: str) -> Iterator[Path]:
        """An empty folder to be filled and renamed, locked while its maker lives: else it was left by a kill
        and whoever tidies the folder of results removes it."""
        folder = self.root / f".arriving-{ensemble_id}"
        shutil.rmtree(folder, ignore_errors=True)
        while True:
            folder.mkdir(parents=True)
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            with suppress(OSError):  # a share may lock no folders: there the age tells
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink:  # else it was taken for left in the moment before the lock
                break
            os.close(descriptor)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(descriptor)

    def promote(self, ensemble_id: str, *, force: bool = False, note: str = "") -> Promotion:
        """Put an ensemble to use.

        Raises:
            PromotionRefused: when it has no scores or worse ones, unless forced.
        """
        proposed = self.folder(ensemble_id)
        load_ensemble(proposed)
        with self._alone():
            if not force:
                refuse_worse(read_card(proposed), read_card(self.current()))
            done = Promotion(ensemble_id, datetime.now(UTC).isoformat(timespec="seconds"), force, note)
            self._write((*self.history(), done))
        return done

    def rollback(self) -> Path:
        """Undo the last promotion; returns the folder then in use.

        Raises:
            PromotionRefused: when nothing was promoted.
        """
        with self._alone():
            past = self.history()
            if not past:
                raise PromotionRefused(
                    f"{self.root}: nothing was promoted, the shipped ensemble is already in use"
                )
            before = self.folder(past[-2].ensemble_id) if len(past) > 1 else SHIPPED
            load_ensemble(before)
            self._write(past[:-1])
        return before

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody else adds, promotes or rolls back meanwhile; each takes a moment, so one waits."""
        self.root.mkdir(parents=True, exist_ok=True)
        with (self.root / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _write(self, history: tuple[Promotion, ...]) -> None:
        unfinished = self.root / "history.part"
        unfinished.write_text(json.dumps([asdict(p) for p in history], indent=1) + "\n", encoding="utf-8")
        unfinished.replace(self.root / "history.json")


def refuse_worse(proposed: Mapping[str, Any], promoted: Mapping[str, Any]) -> None:
    """Compare the headline scores of two cards; they must be of the same test.

    Raises:
        PromotionRefused: when the proposed one has none, of another test, or one below the promoted one's.
    """
    new, old = headline(proposed), headline(promoted)
    if new is None:
        raise PromotionRefused(
            "the candidate's card has no scores, as training writes them; --force promotes it all the same"
        )
    if old is None:
        return
    if new[0] != old[0]:
        raise PromotionRefused(
            f"the candidate was scored on {new[0]!r}, the promoted one on {old[0]!r}: "
            "that does not say which is better. Compare them on one test (callanalytics evaluate --corpus "
            "PATH --ensemble ID for each), then promote with --force; or use callanalytics retrain"
        )
    if new[1] < old[1] - TOLERANCE_UAR:
        raise PromotionRefused(
            f"the candidate's UAR {new[1]:.3f} is below the promoted one's {old[1]:.3f} on {new[0]!r}; "
            "--force promotes it all the same"
        )


def headline(card: Mapping[str, Any]) -> tuple[str, float] | None:
    """(test, UAR) that promotions compare, or None."""
    scores = card.get("scores")
    if not isinstance(scores, Mapping) or not isinstance(scores.get("headline"), Mapping):
        return None
    return str(scores["headline"]["test"]), float(scores["headline"]["uar"])


def compare(one: Path, other: Path) -> list[tuple[str, object, object]]:
    """What differs between two ensembles' cards: (entry, one's, other's), scores flattened by dots."""
    first, second = _flat(read_card(one)), _flat(read_card(other))
    keys = sorted(first.keys() | second.keys())
    return [(k, first.get(k), second.get(k)) for k in keys if first.get(k) != second.get(k)]


def _flat(value: Any, prefix: str = "") -> dict[str, object]:
    if isinstance(value, Mapping):
        return {k: v for key, inner in value.items() for k, v in _flat(inner, f"{prefix}{key}.").items()}
    return {prefix.rstrip("."): value}
