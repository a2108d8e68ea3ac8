"""The registry: what is in use, refusing worse, rolling back."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import pytest

from callanalytics.workspace import Workspace
from ensemble.inference.ensemble import SHIPPED, load_ensemble
from ensemble.inference.registry import Registry, compare, headline
from ensemble.model_errors import ModelIncompatible, ModelMissing, PromotionRefused

TEST = "the same speakers"


def variant(folder, temperature, uar, test=TEST):
    """The shipped ensemble with another temperature and score."""
    shutil.copytree(SHIPPED, folder)
    card = json.loads((folder / "card.json").read_text())
    card["temperature"] = temperature
    card["scores"] = {"headline": {"test": test, "uar": uar}} if uar is not None else {}
    (folder / "card.json").write_text(json.dumps(card))
    return folder


@pytest.fixture
def registry(tmp_path):
    return Registry(tmp_path / "ensembles")


def add(registry, tmp_path, name, *args, **kwargs):
    return registry.add(variant(tmp_path / name, *args, **kwargs))


def test_an_empty_registry_uses_the_shipped_ensemble(registry):
    assert registry.current() == SHIPPED
    assert registry.ids() == ()
    with pytest.raises(PromotionRefused, match="shipped"):
        registry.rollback()


def test_promote_and_roll_back(registry, tmp_path):
    good = add(registry, tmp_path, "a", 1.1, 0.70)
    better = add(registry, tmp_path, "b", 1.2, 0.75)
    registry.promote(good, force=True)
    registry.promote(better)
    assert load_ensemble(registry.current()).ensemble_id == better
    assert [p.ensemble_id for p in registry.history()] == [good, better]
    assert registry.rollback().name == good
    assert registry.rollback() == SHIPPED
    assert set(registry.ids()) == {good, better}


def test_a_worse_ensemble_is_refused_without_force(registry, tmp_path):
    good = add(registry, tmp_path, "a", 1.1, 0.70)
    worse = add(registry, tmp_path, "b", 1.2, 0.60)
    registry.promote(good, force=True)
    with pytest.raises(PromotionRefused, match=r"0\.600 is below"):
        registry.promote(worse)
    assert registry.current().name == good
    assert registry.promote(worse, force=True).forced
    assert registry.current().name == worse


def test_no_scores_or_another_test_is_refused(registry, tmp_path):
    registry.promote(add(registry, tmp_path, "a", 1.1, 0.70), force=True)
    with pytest.raises(PromotionRefused, match="no scores"):
        registry.promote(add(registry, tmp_path, "b", 1.2, None))
    with pytest.raises(PromotionRefused, match="on one test"):
        registry.promote(add(registry, tmp_path, "c", 1.3, 0.9, test="easier speakers"))


def test_only_what_loads_gets_in(registry, tmp_path):
    broken = variant(tmp_path / "x", 1.1, 0.7)
    (broken / "cnn.onnx").write_bytes(b"no")
    with pytest.raises(ModelIncompatible):
        registry.add(broken)
    assert registry.ids() == ()


def test_adding_twice_is_once(registry, tmp_path):
    folder = variant(tmp_path / "a", 1.1, 0.7)
    assert registry.add(folder) == registry.add(folder)
    assert len(registry.ids()) == 1


def test_many_at_once_lose_nothing(registry, tmp_path, monkeypatch):
    ids = [add(registry, tmp_path, name, 1 + n / 10, 0.7) for n, name in enumerate("ab", 1)]
    monkeypatch.setattr("ensemble.inference.registry.load_ensemble", lambda _: None)
    folder = variant(tmp_path / "c", 1.3, 0.7)
    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(registry.add, [folder] * 8))
        list(pool.map(lambda i: registry.promote(ids[i % 2], force=True), range(24)))
    assert len(set(added)) == 1
    assert len(registry.history()) == 24


@pytest.mark.parametrize("torn", ['[{"ensemble_id": "a"', "{}x", '["a"]', '[{"ensemble_id": "a"}]', "3"])
def test_a_torn_history_is_named(registry, torn):
    registry.root.mkdir()
    (registry.root / "history.json").write_text(torn)
    with pytest.raises(ModelIncompatible, match=r"history.json: expected a list of promotions.* remove it"):
        registry.current()


def test_a_history_that_cannot_be_read_is_not_taken_for_an_empty_one(registry):
    """The shipped ensemble would be in use instead of the promoted one, without a word."""
    (registry.root / "history.json").mkdir(parents=True)
    with pytest.raises(ModelIncompatible, match="restore it"):
        registry.current()
    (registry.root / "history.json").rmdir()
    (registry.root / "history.json").write_bytes(b"\xff\xfe")
    with pytest.raises(ModelIncompatible, match="restore it"):
        registry.current()
    (registry.root / "history.json").unlink()
    assert registry.current() == SHIPPED


def test_one_that_was_arriving_when_it_was_killed_is_not_kept_and_goes(registry, tmp_path):
    good = add(registry, tmp_path, "a", 1.1, 0.70)
    shutil.copytree(registry.root / good, registry.root / f".arriving-{good}")
    assert registry.ids() == (good,)
    Workspace(tmp_path).remove_leftovers()
    assert sorted(path.name for path in registry.root.iterdir()) == [".lock", good]


def test_one_that_is_arriving_stays_while_a_run_tidies(registry, tmp_path, monkeypatch):
    copy = shutil.copyfile

    def tidied(source, target, **more):
        Workspace(tmp_path).remove_leftovers()
        return copy(source, target, **more)

    monkeypatch.setattr(shutil, "copyfile", tidied)
    arrived = add(registry, tmp_path, "a", 1.1, 0.70)
    assert registry.ids() == (arrived,)


@pytest.mark.parametrize("name", ["nothing", "../a", "/etc", ""])
def test_an_unknown_id_is_refused(registry, tmp_path, name):
    variant(tmp_path / "a", 1.1, 0.7)
    with pytest.raises(ModelMissing):
        registry.promote(name)


def test_compare_names_what_differs(tmp_path):
    one, two = variant(tmp_path / "a", 1.1, 0.7), variant(tmp_path / "b", 1.2, 0.7)
    assert ("temperature", 1.1, 1.2) in compare(one, two)
    assert not compare(one, one)


def test_the_shipped_card_has_a_headline():
    found = headline(json.loads((SHIPPED / "card.json").read_text()))
    assert found is not None
    assert 0 < found[1] < 1
