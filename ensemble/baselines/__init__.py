"""The systems of the five studies this project grew from, for comparison; no call is ever assessed by them.

- ``systems``: what each system is, by study; ``networks``: one function per network
- ``study_features``: their inputs, by librosa, kept in Parquet; ``encoders``: of networks trained by others
- ``fitting``: how networks train; ``classical``: trees and perceptrons
- ``protocol``: training, validation and test; ``bench``: all of it, resumable; ``results_table``: pages
- ``explore``: pictures of a sound
"""
