"""The systems of the five studies this project grew from, for comparison; no call is ever judged by them.

- ``systems``: one declarative file per system, by the study that describes it
- ``features`` and ``cache``: what they hear, by librosa, kept in Parquet
- ``network``, ``loop``: their networks and how they train; ``classical``: their trees and perceptrons
- ``protocol``: who is trained on and who is tested on; ``bench``: all of it, resumable; ``table``: pages
"""
