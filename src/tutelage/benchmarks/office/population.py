"""Offices full of people, mails, songs and appointments, made from a seed."""

from __future__ import annotations

import datetime
import random
import sqlite3
from collections.abc import Callable
from functools import cache

from tutelage.benchmarks.office import vocabulary as v
from tutelage.benchmarks.office.catalogue import LOGIN_APPS
from tutelage.benchmarks.office.desk import Desk, copied, new_database

DOMAIN = "mail.example"


@cache
def _template(seed: str) -> sqlite3.Connection:
    connection = new_database()
    desk = Desk(connection, seed)
    rng = random.Random(f"tutelage/office/{seed}")
    connection.execute("BEGIN")
    for furnish in _FURNISH:
        furnish(desk, rng)
    connection.execute("COMMIT")
    return connection


def furnished(seed: str) -> sqlite3.Connection:
    """A furnished office, the same for the same seed; the copy belongs to the caller."""
    return copied(_template(seed))


def day_after(day: str, days: int) -> str:
    """A day so many days later, as YYYY-MM-DD."""
    return (datetime.date.fromisoformat(day) + datetime.timedelta(days=days)).isoformat()


def _people(desk: Desk, rng: random.Random) -> None:
    firsts = rng.sample(v.FIRST_NAMES, len(v.RELATIONS) + 1)
    lasts = rng.sample(v.LAST_NAMES, len(v.RELATIONS) + 1)
    today = day_after("2026-03-02", rng.randint(0, 90))
    email = f"{firsts[0]}.{lasts[0]}@{DOMAIN}".lower()
    desk.insert(
        "profile",
        id=1,
        first_name=firsts[0],
        last_name=lasts[0],
        email=email,
        phone=_phone(rng),
        city=rng.choice(v.CITIES),
        birthday=day_after("1985-01-01", rng.randint(0, 5000)),
        today=today,
        opening_cents=rng.randint(300_000, 500_000),
    )
    for app in LOGIN_APPS:
        password = "".join(rng.choices("abcdefghjkmnpqrstuvwxyz23456789", k=8))
        desk.insert("passwords", app=app.name, username=email, password=password)
    for first, last, relation in zip(firsts[1:], lasts[1:], v.RELATIONS, strict=True):
        desk.insert(
            "contacts",
            first_name=first,
            last_name=last,
            email=f"{first}.{last}@{DOMAIN}".lower(),
            phone=_phone(rng),
            company=rng.choice(v.COMPANIES),
            city=rng.choice(v.CITIES),
            birthday=day_after("1960-01-01", rng.randint(0, 15_000)),
            relation=relation,
            favourite=int(rng.random() < 0.2),
        )
    for name in v.GROUPS:
        group = desk.insert("contact_groups", name=name)
        for contact in rng.sample(range(1, len(v.RELATIONS) + 1), rng.randint(3, 5)):
            desk.insert("group_members", group_id=group, contact_id=contact)


def _mails(desk: Desk, rng: random.Random) -> None:
    emails = [row["email"] for row in desk.rows("SELECT email FROM contacts ORDER BY id")]
    profile = desk.profile
    own, today = profile["email"], profile["today"]
    for number in range(34):
        folder = ("inbox",) * 8 + ("archive", "sent")
        chosen = folder[number % 10]
        sender, recipient = rng.choice(emails), own
        if chosen == "sent":
            sender, recipient = own, sender
        elif number % 5 == 0:
            sender = rng.choice(v.SHOPS)
        sent = f"{day_after(today, -rng.randint(2, 60))} {rng.randint(8, 19):02}:{number:02}"
        desk.insert(
            "mails",
            folder=chosen,
            sender=sender,
            recipients=recipient,
            subject=f"{rng.choice((10, 20, 30))} % off"
            if "@mail" not in sender
            else rng.choice(v.SUBJECTS),
            body=" ".join(rng.sample(v.SENTENCES, 2)),
            sent_at=sent,
            read=int(chosen != "inbox" or rng.random() < 0.6),
            starred=int(rng.random() < 0.1),
        )


def _notes(desk: Desk, rng: random.Random) -> None:
    for number, title in enumerate(v.NOTE_TITLES):
        desk.insert(
            "notes",
            title=title,
            body=rng.choice(v.SENTENCES),
            tags=", ".join(rng.sample(v.NOTE_TAGS, rng.randint(0, 2))),
            pinned=int(rng.random() < 0.15),
            archived=int(number % 6 == 5),
            updated_at=f"{day_after(desk.profile['today'], -rng.randint(1, 90))} 10:00",
        )


def _money(desk: Desk, rng: random.Random) -> None:
    emails = [row["email"] for row in desk.rows("SELECT email FROM contacts ORDER BY id")]
    today = desk.profile["today"]
    days = sorted(rng.randint(1, 80) for _ in range(28))
    for number, days_ago in enumerate(reversed(days)):
        desk.insert(
            "transfers",
            direction=rng.choice(("sent", "sent", "received")),
            person=rng.choice(emails),
            amount_cents=rng.randint(300, 9_000),
            note=rng.choice(v.TRANSFER_NOTES),
            made_at=f"{day_after(today, -days_ago)} {rng.randint(8, 20):02}:{number:02}",
            card="1111",
        )
    for number in range(7):
        desk.insert(
            "money_requests",
            direction="incoming" if number < 4 else "outgoing",
            person=rng.choice(emails),
            amount_cents=rng.randint(500, 6_000),
            note=rng.choice(v.TRANSFER_NOTES),
            state="paid" if number in (3, 6) else "open",
            made_at=f"{day_after(today, -rng.randint(1, 20))} 11:0{number}",
        )
    year = int(today[:4])
    for number, (label, expires) in enumerate(
        (("debit", f"{year + 1}-05"), ("credit", f"{year + 3}-09"), ("travel", f"{year + 2}-11"))
    ):
        digits = str(rng.randint(1000, 9999))
        desk.insert(
            "cards", label=label, last_digits=digits, expires=expires, is_default=int(number == 0)
        )


def _music(desk: Desk, rng: random.Random) -> None:
    titles = [f"{start} {end}" for start in v.TITLE_STARTS for end in v.TITLE_ENDS]
    plays = rng.sample(range(100, 9_000), 48)
    seconds = rng.sample(range(120, 420), 48)
    for number, title in enumerate(rng.sample(titles, 48)):
        artist = v.ARTISTS[number % len(v.ARTISTS)]
        desk.insert(
            "songs",
            id=number + 1,
            title=title,
            artist=artist,
            album=f"{artist} {1 + number % 3}",
            genre=rng.choice(v.GENRES),
            year=rng.randint(1975, 2025),
            seconds=seconds[number],
            plays=plays[number],
        )
    for song in sorted(rng.sample(range(1, 49), 22)):
        desk.insert(
            "library", id=song, liked=int(rng.random() < 0.3), rating=rng.choice((0, 0, 3, 4))
        )
    for title in ("Morning run", "Late evening", "Kitchen"):
        playlist = desk.insert("playlists", title=title, public=0)
        for song in rng.sample(range(1, 49), rng.randint(4, 6)):
            desk.insert("playlist_songs", playlist_id=playlist, song_id=song)
    for song in rng.sample(range(1, 49), 3):
        desk.insert("queue", song_id=song)


def _files(desk: Desk, rng: random.Random) -> None:
    today = desk.profile["today"]
    for path in v.FOLDERS:
        desk.insert("folders", path=path)
    names = ("plan", "letter", "ideas", "agenda", "summary", "contract", "inventory", "draft")
    for number, name in enumerate(names):
        desk.insert(
            "files",
            path=f"{v.FOLDERS[number % 4]}/{name}.txt",
            content="\n".join(rng.sample(v.SENTENCES, rng.randint(1, 4))),
            modified_at=f"{day_after(today, -rng.randint(1, 200))} 12:00",
        )


def _events(desk: Desk, rng: random.Random) -> None:
    emails = [row["email"] for row in desk.rows("SELECT email FROM contacts ORDER BY id")]
    for number in range(14):
        start = 8 + number % 9
        desk.insert(
            "events",
            title=rng.choice(v.EVENT_TITLES),
            day=day_after(desk.profile["today"], number // 2 - 2),
            start=f"{start:02}:00",
            end=f"{start:02}:{rng.choice((30, 45))}",
            place=rng.choice(v.PLACES),
            attendees=", ".join(sorted(rng.sample(emails, rng.randint(0, 2)))),
            reminder_minutes=rng.choice((0, 10)),
        )


def _todos(desk: Desk, rng: random.Random) -> None:
    for number, title in enumerate(v.TODO_TITLES):
        due = day_after(desk.profile["today"], rng.randint(1, 30))
        desk.insert(
            "todos",
            list=v.TODO_LISTS[number % 3],
            title=title,
            due=due if rng.random() < 0.7 else "",
            priority=rng.choice(("low", "normal", "normal")),
            done=int(rng.random() < 0.25),
        )


def _phone(rng: random.Random) -> str:
    return f"+1 555 {rng.randint(100, 999)} {rng.randint(1000, 9999)}"


_FURNISH: tuple[Callable[[Desk, random.Random], None], ...] = (
    *(_people, _mails, _notes, _money, _music, _files, _events, _todos),
)
