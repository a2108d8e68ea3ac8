"""Every system of the studies, by name, in the order of the studies."""

from __future__ import annotations

from collections.abc import Mapping

from ensemble.baselines.system import System
from ensemble.baselines.systems import study_000, study_001, study_002, study_003, study_004

SYSTEMS: Mapping[str, System] = {
    system.name: system
    for study in (study_000, study_001, study_002, study_003, study_004)
    for system in study.SYSTEMS
}
