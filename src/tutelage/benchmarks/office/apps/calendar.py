"""The calendar."""

from __future__ import annotations

import re

from tutelage.benchmarks.office.app import (
    ApiRefused,
    LoginApp,
    joined,
    pattern,
    reads,
    words,
    writes,
)
from tutelage.benchmarks.office.desk import Row

_BRIEF = "id AS event_id, title, day, start, end, place, attendees"
_DAY = re.compile(r"\d{4}-(0\d|1[0-2])-([0-2]\d|3[01])")
_TIME = re.compile(r"([01]\d|2[0-3]):[0-5]\d")


class Calendar(LoginApp):
    """Events of a day, with attendees."""

    name = "calendar"
    description = "Events with days, times, places, attendees and reminders."

    @reads
    def list_events(self, first_day: str, last_day: str = "", page: int = 0) -> list[Row]:
        """Lists the events of some days, in their order.

        Args:
            first_day: As YYYY-MM-DD.
            last_day: As YYYY-MM-DD; empty for the first day alone.
            page: Pages of 10, counted from 0.

        Returns:
            list of event_id, title, day, start, end, place, attendees
        """
        _check(_DAY, first_day, last_day or first_day)
        found = self._page(
            f"SELECT {_BRIEF} FROM events WHERE day BETWEEN ? AND ? ORDER BY day, start, id",
            page,
            *(first_day, last_day or first_day),
        )
        return [_shown(event) for event in found]

    @reads
    def search_events(self, query: str = "", attendee: str = "", page: int = 0) -> list[Row]:
        """Finds events, in their order; all conditions must hold.

        Args:
            query: Text in title, place or details; empty finds all.
            attendee: Email address of someone who attends.
            page: Pages of 10, counted from 0.

        Returns:
            list of event_id, title, day, start, end, place, attendees
        """
        found = self._page(
            f"SELECT {_BRIEF} FROM events WHERE"
            " (title || char(10) || place || char(10) || details) LIKE ? ESCAPE '!'"
            " AND (? = '' OR (', ' || attendees || ',') LIKE ? ESCAPE '!')"
            " ORDER BY day, start, id",
            page,
            *(pattern(query), attendee, pattern(f", {attendee},")),
        )
        return [_shown(event) for event in found]

    @reads
    def show_event(self, event_id: int) -> Row:
        """Shows one event with its details.

        Args:
            event_id: Id of the event.

        Returns:
            event_id, title, day, start, end, place, attendees, details, reminder_minutes (0 for
            none)
        """
        found = self._get("events", event_id, "event")
        return _shown({"event_id": found.pop("id"), **found})

    @reads
    def find_free_times(self, day: str, minutes: int) -> list[Row]:
        """Lists the gaps between 08:00 and 18:00 of a day that are long enough.

        Args:
            day: As YYYY-MM-DD.
            minutes: How long a gap must be.

        Returns:
            list of start, end
        """
        _check(_DAY, day)
        busy = self.desk.rows("SELECT start, end FROM events WHERE day = ? ORDER BY start", day)
        gaps, free_from = [], "08:00"
        for event in [*busy, {"start": "18:00", "end": "18:00"}]:
            start = min(event["start"], "18:00")
            if _minutes(start) - _minutes(free_from) >= max(minutes, 1):
                gaps.append({"start": free_from, "end": start})
            free_from = max(free_from, event["end"])
        return gaps

    @writes
    def create_event(
        self,
        title: str,
        day: str,
        start: str,
        end: str,
        place: str = "",
        attendees: list[str] | None = None,
        details: str = "",
    ) -> Row:
        """Puts an event into the calendar.

        Args:
            title: Title.
            day: As YYYY-MM-DD.
            start: As HH:MM.
            end: As HH:MM, after the start.
            place: Where it is.
            attendees: Email addresses.
            details: Text.

        Returns:
            event_id
        """
        _check_times(day, start, end)
        key = self.desk.insert(
            "events",
            title=title,
            day=day,
            start=start,
            end=end,
            place=place,
            attendees=joined(sorted(attendees or [])),
            details=details,
        )
        return {"event_id": key}

    @writes
    def move_event(self, event_id: int, day: str, start: str, end: str) -> Row:
        """Gives an event another time.

        Args:
            event_id: Id of the event.
            day: As YYYY-MM-DD.
            start: As HH:MM.
            end: As HH:MM, after the start.

        Returns:
            message
        """
        self._get("events", event_id, "event")
        _check_times(day, start, end)
        self.desk.update("events", event_id, day=day, start=start, end=end)
        return {"message": "The event is moved."}

    @writes
    def update_event(
        self,
        event_id: int,
        title: str | None = None,
        place: str | None = None,
        details: str | None = None,
    ) -> Row:
        """Changes what is given; the rest stays.

        Args:
            event_id: Id of the event.
            title: New title.
            place: New place.
            details: New text.

        Returns:
            message
        """
        self._get("events", event_id, "event")
        given = {"title": title, "place": place, "details": details}
        self.desk.update("events", event_id, **{n: v for n, v in given.items() if v is not None})
        return {"message": "The event is changed."}

    @writes
    def cancel_event(self, event_id: int) -> Row:
        """Takes an event out of the calendar.

        Args:
            event_id: Id of the event.

        Returns:
            message
        """
        self._get("events", event_id, "event")
        self.desk.write("DELETE FROM events WHERE id = ?", event_id)
        return {"message": "The event is cancelled."}

    @writes
    def add_attendee(self, event_id: int, email: str) -> Row:
        """Invites a person to an event.

        Args:
            event_id: Id of the event.
            email: Email address.

        Returns:
            message
        """
        attendees = words(self._get("events", event_id, "event")["attendees"])
        if "@" not in email:
            raise ApiRefused(422, "email must be an email address")
        if email in attendees:
            raise ApiRefused(409, f"{email} is invited already")
        self.desk.update("events", event_id, attendees=joined(sorted([*attendees, email])))
        return {"message": f"{email} is invited."}

    @writes
    def remove_attendee(self, event_id: int, email: str) -> Row:
        """Takes back an invitation.

        Args:
            event_id: Id of the event.
            email: Email address.

        Returns:
            message
        """
        attendees = words(self._get("events", event_id, "event")["attendees"])
        if email not in attendees:
            raise ApiRefused(404, f"{email} is not invited")
        left = [one for one in attendees if one != email]
        self.desk.update("events", event_id, attendees=joined(left))
        return {"message": f"{email} is no longer invited."}

    @writes
    def set_reminder(self, event_id: int, minutes: int) -> Row:
        """Sets how long before an event the user is reminded.

        Args:
            event_id: Id of the event.
            minutes: 0 for no reminder.

        Returns:
            message
        """
        self._get("events", event_id, "event")
        if not 0 <= minutes <= 10_080:
            raise ApiRefused(422, "minutes must be 0 to 10080")
        self.desk.update("events", event_id, reminder_minutes=minutes)
        return {"message": "The reminder is set."}


def _minutes(time: str) -> int:
    return int(time[:2]) * 60 + int(time[3:])


def _check(form: re.Pattern[str], *values: str) -> None:
    for value in values:
        if not form.fullmatch(value):
            wanted = "YYYY-MM-DD" if form is _DAY else "HH:MM"
            raise ApiRefused(422, f"{value!r} is not of the form {wanted}")


def _check_times(day: str, start: str, end: str) -> None:
    _check(_DAY, day)
    _check(_TIME, start, end)
    if start >= end:
        raise ApiRefused(422, "end must be after start")


def _shown(event: Row) -> Row:
    return {**event, "attendees": words(event["attendees"])}
