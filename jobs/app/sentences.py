"""Sentences to speak with a feeling. Their words carry none, so that only the voice can."""

from __future__ import annotations

SENTENCES: tuple[str, ...] = (
    "The parcel was left at the wrong door on Tuesday.",
    "I called you three times about the same bill.",
    "My number ends with four, seven, nine.",
    "The technician is coming at eleven o'clock.",
    "I would like to change the date of the appointment.",
    "The light on the box is green again.",
    "Das Paket liegt seit Dienstag bei der Nachbarin.",
    "Ich habe die Rechnung schon zweimal bekommen.",
    "Der Termin ist am Montag um halb neun.",
)
"""Written for this project, in the manner of call centres; English, then German."""
