"""Turns, speakers and roles of a call: `diarize` and the models it needs."""

from callanalytics.diarize.models import SpeechModels
from callanalytics.diarize.pipeline import diarize

__all__ = ["SpeechModels", "diarize"]
