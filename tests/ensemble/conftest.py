"""Fixtures of the ensemble: the shipped one, a tiny corpus, and what was trained on it once."""

from __future__ import annotations

import pytest
from tiny_corpus import write_tiny_corpus

from ensemble.corpora import read_corpus
from ensemble.inference.ensemble import load_ensemble


@pytest.fixture(scope="session")
def shipped():
    return load_ensemble()


@pytest.fixture(scope="session")
def corpus(tmp_path_factory):
    """Six voices; anger is fast, bright and high, sadness slow and dark."""
    return read_corpus(write_tiny_corpus(tmp_path_factory.mktemp("corpus")))


@pytest.fixture(scope="session")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")
