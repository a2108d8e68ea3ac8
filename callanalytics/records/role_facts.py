"""Agent or caller: the nouns for who is who and for what is known of it. Part of `callanalytics.records`."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """Side of the call that a voice belongs to."""

    AGENT = "agent"
    CALLER = "caller"
    UNKNOWN = "unknown"

    @property
    def other(self) -> Role:
        """The opposite side of the call (unknown stays unknown)."""
        return {Role.AGENT: Role.CALLER, Role.CALLER: Role.AGENT}.get(self, Role.UNKNOWN)


class RoleSource(StrEnum):
    """Source of who is agent and who is caller: the one that counts most for what was decided."""

    CORRECTION = "correction"  # a person said so (`relabel --swap`)
    SIDECAR = "sidecar"
    RECORDER = "recorder"  # the recorder profile fixes the channels
    NAME = "name"
    VOICE_PROFILE = "voice_profile"
    INFERRED = "inferred"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class StatedRoles:
    """Roles of the two channels as one source states them, and how far it is to be believed."""

    source: RoleSource
    roles: tuple[Role, Role]  # of the first (left) and the second channel
    confidence: float  # 0.5..1, that they are so
    words: str  # the source, for people: "the sidecar"

    @property
    def log_odds(self) -> float:
        """That the agent is on the first channel."""
        first, second = self.roles
        way = (first is Role.AGENT or second is Role.CALLER) - (first is Role.CALLER or second is Role.AGENT)
        return way * math.log(self.confidence / (1 - self.confidence))


@dataclass(frozen=True, slots=True)
class RoleEvidence:
    """What one fact says about the roles that a call was given."""

    source: RoleSource
    log_odds: float  # that they are right; negative: that agent and caller are exchanged
    words: str  # for people: "the sidecar: the agent is on the left channel"
