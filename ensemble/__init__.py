"""Waveform segments in, votes on their emotion out; knows nothing of calls.

- ``inference``: load an ensemble and vote (ONNX Runtime, no torch on the CPU); which one is in use
- ``members``: the networks; ``corpora``: labelled speech; ``training``: from clips to an ensemble
- ``evaluation``: scores and the model card; ``baselines``: the systems of the studies, for comparison
- ``train_ensemble``: all of it in one call; ``crossval``: published protocols

Each folder imports only those before it: members, corpora, inference, training, evaluation, baselines.
"""
