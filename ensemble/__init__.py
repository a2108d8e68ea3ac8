"""Waveform segments in, votes on their emotion out; knows nothing of calls.

- ``predict``: load an ensemble and vote (ONNX Runtime, no torch on the CPU)
- ``classify``: whole clips from disk
- ``recipe``: train, calibrate, export, evaluate; ``crossval`` for published protocols
- ``registry``: which trained ensemble is in use
"""
