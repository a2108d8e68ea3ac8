"""The card beside an ensemble's weights: what it holds, whether its files are the ones it was written for."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble.errors import ModelIncompatible, ModelMissing

CARD_FORMAT = 1
MAX_CARD_BYTES = 10_000_000


def read_card(folder: Path) -> dict[str, Any]:
    """The card of an ensemble folder. Raises ModelMissing or ModelIncompatible."""
    path = folder / "card.json"
    if not path.is_file():
        raise ModelMissing(
            f"{path} not found: reinstall the package, or name the folder of a trained ensemble"
        )
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise ModelIncompatible(f"{path}: larger than {MAX_CARD_BYTES:,} bytes; restore it")
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelIncompatible(f"{path} is not JSON ({error}); restore it") from error
    needed = {
        "format",
        "labels",
        "members",
        "front_end",
        "reference",
        "temperature",
        "thresholds",
        "rule",
    }
    if not isinstance(card, dict) or card.get("format") != CARD_FORMAT or not needed <= set(card):
        raise ModelIncompatible(
            f"{path}: not a card of format {CARD_FORMAT} with all its entries; train again with this version"
        )
    _check_names(path, card["members"])
    return card


def _check_names(path: Path, members: object) -> None:
    """Files of a card lie beside it: their names are joined to paths here and when it is copied."""
    entries = members if isinstance(members, list) else [None]
    for entry in entries:
        for kind in ("onnx", "safetensors"):
            name = entry.get(kind) if isinstance(entry, dict) else None
            if not isinstance(name, str) or not name or Path(name).name != name:
                raise ModelIncompatible(
                    f"{path}: members: {kind} = {name!r} is no file beside the card; restore it"
                )


def fingerprint(card: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over everything in a card that can change an answer."""
    told = [
        [[e["name"], e["onnx_sha256"], e["safetensors_sha256"], e["weight"]] for e in card["members"]],
        [
            card[key]
            for key in ("labels", "front_end", "reference", "temperature", "thresholds", "rule", "format")
        ],
    ]
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:16]


def checked_file(folder: Path, name: str, sha256: str) -> Path:
    """A file of the card, as its card knows it. Raises ModelMissing or ModelIncompatible."""
    path = folder / name
    if not path.is_file():
        raise ModelMissing(f"{path}: named in the card but not there; restore it or choose another ensemble")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ModelIncompatible(f"{path}: content {found[:12]} is not the card's {sha256[:12]}; restore both")
    return path
