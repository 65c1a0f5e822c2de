"""Calendar: when things are, and when they should be."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed, removed
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting, full_name

FAR = 40
"""Days from today on which nothing else is planned."""


def _event(
    s: Setting, title: str, days: int, start: str = "10:00", end: str = "11:00", **values: object
) -> int:
    return s.add("events", title=title, day=s.day(days), start=start, end=end, **values)


def _when(s: Setting) -> Assignment:
    title = s.choice("Choir concert", "Eye test", "School reunion")
    days = s.number(12, 60)
    _event(s, title, days)
    return Assignment(
        f'On which day is the event "{title}" in my calendar? Answer as YYYY-MM-DD.',
        {"title": title},
        answer=s.day(days),
    )


def _cancel(s: Setting) -> Assignment:
    title = s.choice("Pottery class", "Boat tour", "Wine tasting")
    key = _event(s, title, s.number(12, 30))
    return Assignment(
        f'Cancel "{title}" in my calendar.', {"title": title}, [removed("events", key)]
    )


def _place(s: Setting) -> Assignment:
    title = s.choice("Panel talk", "Kick-off", "Retrospective")
    place = s.choice("Room 9", "the library", "the roof terrace")
    key = _event(s, title, s.number(12, 30), place="Room 1")
    return Assignment(
        f'"{title}" will take place in {place}. Change it in my calendar.',
        {"title": title, "place": place},
        [changed("events", key, place=place)],
    )


def _reminders(s: Setting) -> Assignment:
    days, minutes = FAR + s.number(0, 5), s.number(3, 9) * 10
    keys = [_event(s, f"Talk {n}", days, f"{9 + n:02}:00", f"{9 + n:02}:45") for n in range(3)]
    return Assignment(
        f"Set a reminder of {minutes} minutes for every event on {s.day(days)}.",
        {"day": s.day(days), "minutes": minutes},
        [changed("events", key, reminder_minutes=minutes) for key in keys],
    )


def _invite(s: Setting) -> Assignment:
    title = s.choice("Sprint review", "Rehearsal", "German lesson")
    person = s.one("contacts", "relation = 'coworker'")
    keys = [_event(s, title, 12 + 7 * week) for week in range(s.number(2, 4))]
    return Assignment(
        f'Invite {full_name(person)} to all events "{title}" in my calendar.',
        {"title": title, "name": full_name(person)},
        [changed("events", key, attendees=person["email"]) for key in keys],
    )


def _postpone(s: Setting) -> Assignment:
    title = s.choice("Dinner with Sam", "Car inspection", "Flat viewing")
    days = s.number(12, 20)
    key = _event(s, title, days, "15:00", "16:30")
    return Assignment(
        f'Move "{title}" in my calendar by exactly one week, at the same time of day.',
        {"title": title},
        [changed("events", key, day=s.day(days + 7))],
    )


def _book_free(s: Setting) -> Assignment:
    days, title = FAR + s.number(0, 3), s.choice("Focus time", "Gym", "Reading")
    first = s.number(9, 11)
    _event(s, "Blocked", days, "08:00", f"{first:02}:00")
    _event(s, "Blocked too", days, f"{first:02}:30", f"{first + 2:02}:00")
    start = f"{first + 2:02}:00"
    return Assignment(
        f'Put a one-hour event "{title}" into the first free hour between 08:00 and 18:00 '
        f"of {s.day(days)}.",
        {"title": title, "day": s.day(days)},
        [
            added(
                "events",
                title=title,
                day=s.day(days),
                start=start,
                end=f"{first + 3:02}:00",
                place="",
                attendees="",
                details="",
            )
        ],
    )


def _hours(s: Setting) -> Assignment:
    days = FAR + s.number(0, 5)
    total = 0
    for number in range(s.number(2, 4)):
        minutes = s.number(1, 5) * 10
        total += minutes
        _event(s, f"Block {number}", days, f"{9 + number:02}:00", f"{9 + number:02}:{minutes:02}")
    return Assignment(
        f"How many minutes do all my events on {s.day(days)} take together?",
        {"day": s.day(days)},
        answer=total,
    )


def _busiest(s: Setting) -> Assignment:
    busy = FAR + s.number(1, 5)
    for day in range(FAR, FAR + 7):
        for number in range(4 if day == busy else s.number(0, 2)):
            _event(s, f"Slot {number}", day, f"{9 + number:02}:00", f"{9 + number:02}:30")
    return Assignment(
        f"On which day from {s.day(FAR)} to {s.day(FAR + 6)} do I have the most events? "
        "Answer as YYYY-MM-DD.",
        {"first": s.day(FAR), "last": s.day(FAR + 6)},
        answer=s.day(busy),
    )


_FIND = """
> I look for the event.
event = apis.calendar.search_events(calendar_token, query=$title)[0]
print(event)
"""

SCENARIOS = (
    Scenario(
        "when_is_event",
        "train",
        "easy",
        _when,
        _FIND
        + """
> It tells the day.
answer = event["day"]
print(answer)
""",
    ),
    Scenario(
        "cancel_event",
        "test",
        "easy",
        _cancel,
        _FIND
        + """
> I cancel it.
print(apis.calendar.cancel_event(calendar_token, event_id=event["event_id"]))
""",
    ),
    Scenario(
        "change_place",
        "train",
        "easy",
        _place,
        _FIND
        + """
> I change the place.
key = event["event_id"]
print(apis.calendar.update_event(calendar_token, event_id=key, place=$place))
""",
    ),
    Scenario(
        "set_reminders",
        "train",
        "medium",
        _reminders,
        """
> I list the events of the day.
events = apis.calendar.list_events(calendar_token, first_day=$day)
print(events)
> I set the reminders.
for event in events:
    key = event["event_id"]
    apis.calendar.set_reminder(calendar_token, event_id=key, minutes=$minutes)
""",
    ),
    Scenario(
        "invite_to_series",
        "test",
        "medium",
        _invite,
        """
> I need the email address.
person = apis.contacts.search_contacts(contacts_token, query=$name)[0]
print(person)
> I collect the events.
@pages events = apis.calendar.search_events(calendar_token, query=$title)
print(events)
> I invite the person to each.
for event in events:
    key = event["event_id"]
    apis.calendar.add_attendee(calendar_token, event_id=key, email=person["email"])
""",
    ),
    Scenario(
        "postpone_week",
        "train",
        "medium",
        _postpone,
        _FIND
        + """
> I compute the new day and move the event.
from datetime import date, timedelta
day = (date.fromisoformat(event["day"]) + timedelta(days=7)).isoformat()
apis.calendar.move_event(calendar_token, event_id=event["event_id"], day=day,
    start=event["start"], end=event["end"])
print(day)
""",
    ),
    Scenario(
        "book_free_hour",
        "test",
        "hard",
        _book_free,
        """
> I look for free times.
gaps = apis.calendar.find_free_times(calendar_token, day=$day, minutes=60)
print(gaps)
> I put the event into the first one.
start = gaps[0]["start"]
end = f"{int(start[:2]) + 1:02}{start[2:]}"
apis.calendar.create_event(calendar_token, title=$title, day=$day, start=start, end=end)
""",
    ),
    Scenario(
        "minutes_of_day",
        "dev",
        "hard",
        _hours,
        """
> I list the events of the day.
events = apis.calendar.list_events(calendar_token, first_day=$day)
print(events)
> I add the minutes up.
def minutes(time):
    return int(time[:2]) * 60 + int(time[3:])
answer = sum(minutes(event["end"]) - minutes(event["start"]) for event in events)
print(answer)
""",
    ),
    Scenario(
        "busiest_day",
        "train",
        "hard",
        _busiest,
        """
> I collect the events of these days.
from collections import Counter
first, last = $first, $last
@pages events = apis.calendar.list_events(calendar_token, first_day=first, last_day=last)
days = Counter(event["day"] for event in events)
print(days)
> I take the busiest.
answer = days.most_common(1)[0][0]
print(answer)
""",
    ),
)
