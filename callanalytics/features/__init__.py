"""Acoustic descriptors of segments. See `describe.py`; the columns are in `descriptors.py`."""

from callanalytics.features.describe import extract
from callanalytics.features.descriptors import FEATURE_COMMENTS, FEATURE_NAMES

__all__ = ["FEATURE_COMMENTS", "FEATURE_NAMES", "extract"]
