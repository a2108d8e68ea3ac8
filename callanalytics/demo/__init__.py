"""`callanalytics demo`: a small folder of synthetic calls as real recorders would have left it."""

from callanalytics.demo.build import DemoSummary, build_demo

__all__ = ["DemoSummary", "build_demo"]
