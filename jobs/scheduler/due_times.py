"""When a job of the schedule is due: by a cron expression, with no night doubled by daylight saving."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from apscheduler.triggers.cron import CronTrigger

from callanalytics.config.cron import WEEKDAYS, parse_cron


class DueTimes(CronTrigger):  # type: ignore[misc] # APScheduler has no types
    """Cron times of a zone; a time that the clock shows twice in autumn counts once, the first time.

    A time that the clock skips in spring comes an hour later, as APScheduler does it. Jobs that run
    every hour run in both passes.
    """

    def __init__(self, cron: str, zone: Any) -> None:
        self.cron = parse_cron(cron)
        super().__init__(
            minute=_listed(self.cron.minutes),
            hour=_listed(self.cron.hours),
            day=_listed(self.cron.days),
            month=_listed(self.cron.months),
            day_of_week=",".join(WEEKDAYS[day] for day in self.cron.weekdays),
            timezone=zone,
        )

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime | None:
        """The first time after the previous one; see CronTrigger."""
        found: datetime | None = super().get_next_fire_time(previous_fire_time, now)
        while found is not None and not self.cron.every_hour and self._second_pass(found):
            found = super().get_next_fire_time(found, found)
        return found

    def _second_pass(self, moment: datetime) -> bool:
        return moment.astimezone(UTC).astimezone(self.timezone).fold == 1

    def after(self, moment: datetime) -> datetime:
        """The first time after a moment, in UTC."""
        found = self.get_next_fire_time(moment.astimezone(self.timezone), moment.astimezone(self.timezone))
        assert found is not None  # noqa: S101 - a cron expression without an end date never ends
        return found.astimezone(UTC)


def _listed(values: Sequence[int]) -> str:
    return ",".join(map(str, values))
