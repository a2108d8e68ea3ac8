"""Nightly emotion analytics for recorded calls."""

__version__ = "0.1.0"
