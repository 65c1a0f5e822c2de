"""Tasks that need several apps."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed, removed
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting, full_name


def _group(s: Setting) -> tuple[str, list[dict[str, object]]]:
    group = s.one("contact_groups")
    members = s.rows(
        "contacts", "id IN (SELECT contact_id FROM group_members WHERE group_id = ?)", group["id"]
    )
    return str(group["name"]), members


def _mail_attendees(s: Setting) -> Assignment:
    title = s.choice("Strategy day", "Town hall", "Supplier visit")
    people = [row["email"] for row in s.some(3, "contacts")]
    s.add(
        "events",
        title=title,
        day=s.day(15),
        start="10:00",
        end="11:00",
        attendees=", ".join(sorted(people)),
    )
    text = s.choice("Please bring your badge.", "Lunch is included.", "Parking is scarce.")
    return Assignment(
        f'Send one mail to all attendees of "{title}" in my calendar, with the title of the event '
        f'as subject and the text "{text}"',
        {"title": title, "text": text},
        [
            added(
                "mails",
                folder="sent",
                recipients=", ".join(sorted(people)),
                subject=title,
                body=text,
            )
        ],
    )


def _pay_from_note(s: Setting) -> Assignment:
    title = s.choice("Debts", "I owe", "Dinner shares")
    people = s.some(3, "contacts")
    amounts = [s.number(5, 40) for _ in people]
    lines = [f"{full_name(one)}: ${amount}" for one, amount in zip(people, amounts, strict=True)]
    s.add("notes", title=title, body="\n".join(lines), updated_at=f"{s.day(-1)} 10:00")
    return Assignment(
        f'My note "{title}" says whom I owe how much. Pay them all, each with the note '
        f'"{title.lower()}".',
        {"title": title, "note": title.lower()},
        [
            added(
                "transfers",
                direction="sent",
                person=one["email"],
                amount_cents=amount * 100,
                note=title.lower(),
            )
            for one, amount in zip(people, amounts, strict=True)
        ],
    )


def _todos_from_mail(s: Setting) -> Assignment:
    things = s.rng.sample(["book a room", "order lunch", "print badges", "test the projector"], 3)
    manager = s.one("contacts", "relation = 'manager'")
    subject = s.choice("Before the visit", "Still open", "For next week")
    s.mail(manager["email"], subject, "\n".join(f"- {thing}" for thing in things))
    return Assignment(
        f'My manager sent me a mail "{subject}" with a list. Add each line of the list, without '
        'the dash, to my to-do list "work".',
        {"subject": subject},
        [
            added("todos", list="work", title=thing, due="", priority="normal", done=0)
            for thing in things
        ],
    )


def _birthday_event(s: Setting) -> Assignment:
    relation = s.choice("sister", "brother", "mother")
    person = s.one("contacts", "relation = ?", relation)
    year = int(s.day(0)[:4]) + 1
    day = f"{year}{person['birthday'][4:]}".replace("-02-29", "-02-28")
    s.desk.update("contacts", person["id"], birthday=f"{person['birthday'][:4]}{day[4:]}")
    title = f"Birthday of my {relation}"
    return Assignment(
        f'Put an event "{title}" from 18:00 to 21:00 into my calendar, on the birthday of my '
        f"{relation} in {year}.",
        {"relation": relation, "year": str(year), "title": title},
        [
            added(
                "events",
                title=title,
                day=day,
                start="18:00",
                end="21:00",
                place="",
                attendees="",
                details="",
            )
        ],
    )


def _save_mail(s: Setting) -> Assignment:
    name = s.choice("itinerary", "protocol", "offer")
    body = f"Number {s.number(1000, 9999)}\nValid until {s.day(90)}"
    key = s.mail("desk@tidewater.example", f"Your {name}", body)
    return Assignment(
        f'Save the text of the mail "Your {name}" in my inbox as the file /documents/{name}.txt, '
        "then move the mail to the archive.",
        {"subject": f"Your {name}", "path": f"/documents/{name}.txt"},
        [
            added("files", path=f"/documents/{name}.txt", content=body),
            changed("mails", key, folder="archive"),
        ],
    )


def _pay_bill(s: Setting) -> Assignment:
    person = s.one("contacts", "relation = ?", s.choice("landlord", "dentist"))
    amount = s.number(40, 300)
    subject = s.choice("Bill for repairs", "Your bill", "Bill of last month")
    key = s.mail(person["email"], subject, f"Please pay ${amount} by the end of the month.")
    return Assignment(
        f'My {person["relation"]} sent me a mail "{subject}". Pay the amount it names with the '
        "subject as note, and give the mail a star.",
        {"relation": person["relation"], "subject": subject},
        [
            added(
                "transfers",
                direction="sent",
                person=person["email"],
                amount_cents=amount * 100,
                note=subject,
            ),
            changed("mails", key, starred=1),
        ],
    )


def _mail_playlist(s: Setting) -> Assignment:
    playlist = s.one("playlists")
    order = s.rows("playlist_songs", "playlist_id = ?", playlist["id"])
    titles = [s.rows("songs", "id = ?", row["song_id"])[0]["title"] for row in order]
    person = s.one("contacts", "relation = 'friend'")
    return Assignment(
        f'Send {full_name(person)} a mail with the subject "{playlist["title"]}" and the titles of '
        "the songs of my playlist of that name as text, one a line, in their order.",
        {"name": full_name(person), "playlist": playlist["title"]},
        [
            added(
                "mails",
                folder="sent",
                recipients=person["email"],
                subject=playlist["title"],
                body="\n".join(titles),
            )
        ],
    )


def _agenda_note(s: Setting) -> Assignment:
    days = 45 + s.number(0, 4)
    events = [
        (f"{9 + number:02}:00", s.choice("Walk", "Call", "Meeting", "Break"))
        for number in range(s.number(2, 4))
    ]
    for start, title in events:
        s.add("events", title=title, day=s.day(days), start=start, end=f"{start[:2]}:40")
    title = f"Agenda {s.day(days)}"
    return Assignment(
        f'Write a note "{title}" that lists my events of that day in their order, one a line, '
        'each as start and title, for example "08:00 Breakfast".',
        {"title": title, "day": s.day(days)},
        [
            added(
                "notes",
                title=title,
                body="\n".join(f"{start} {what}" for start, what in events),
                tags="",
            )
        ],
    )


def _import_contacts(s: Setting) -> Assignment:
    people = s.rng.sample(["Nadia Marsh", "Oscar Tanaka", "Petra Lind", "Quentin Fox"], 3)
    lines = [f"{name},{name.split()[0].lower()}@fair.example" for name in people]
    s.add(
        "files",
        path="/downloads/fair.csv",
        content="\n".join(["name,email", *lines]),
        modified_at=f"{s.day(-1)} 12:00",
    )
    relation = s.choice("client", "supplier")
    return Assignment(
        "Add everyone in my file /downloads/fair.csv to my contacts, with the relation "
        f"{relation}, then delete the file.",
        {"relation": relation},
        [
            removed("files", s.rows("files")[-1]["id"]),
            *(
                added(
                    "contacts",
                    first_name=name.split()[0],
                    last_name=name.split()[1],
                    email=f"{name.split()[0].lower()}@fair.example",
                    relation=relation,
                    phone="",
                    company="",
                    city="",
                    birthday="",
                )
                for name in people
            ),
        ],
    )


def _call_off(s: Setting) -> Assignment:
    title = s.choice("Tennis", "Quiz night", "Brunch")
    people = [row["email"] for row in s.some(2, "contacts", "relation = 'friend'")]
    key = s.add(
        "events",
        title=title,
        day=s.day(14),
        start="19:00",
        end="21:00",
        attendees=", ".join(sorted(people)),
    )
    return Assignment(
        f'I am ill. Cancel "{title}" in my calendar, and send its attendees one mail with the '
        f'subject "{title}" and the text "Sorry, I am ill."',
        {"title": title},
        [
            removed("events", key),
            added(
                "mails",
                folder="sent",
                recipients=", ".join(sorted(people)),
                subject=title,
                body="Sorry, I am ill.",
            ),
        ],
    )


def _expense_file(s: Setting) -> Assignment:
    since = s.day(-20)
    found = s.rows("transfers", "direction = 'sent' AND made_at >= ?", since)
    total = sum(row["amount_cents"] for row in found) / 100
    return Assignment(
        f"Write a file /reports/spent.txt that holds only the sum of all payments I have sent "
        f"since {since}, that day included, with two decimals, for example 12.50.",
        {"since": since},
        [added("files", path="/reports/spent.txt", content=f"{total:.2f}")],
    )


def _mail_group(s: Setting) -> Assignment:
    name, members = _group(s)
    emails = sorted(str(one["email"]) for one in members)
    text = s.choice("We meet at noon.", "The tour is cancelled.", "Bring cash.")
    return Assignment(
        f'Send one mail to all members of my contact group "{name}", with the subject "{name}" and '
        f'the text "{text}" Then add "call {name}" to my to-do list "home".',
        {"group": name, "text": text, "title": f"call {name}"},
        [
            added("mails", folder="sent", recipients=", ".join(emails), subject=name, body=text),
            added("todos", list="home", title=f"call {name}", due="", priority="normal"),
        ],
    )


_EVENT = """
> I look for the event.
event = apis.calendar.search_events(calendar_token, query=$title)[0]
print(event)
"""

SCENARIOS = (
    Scenario(
        "mail_attendees",
        "train",
        "hard",
        _mail_attendees,
        _EVENT
        + """
> I write to its attendees.
people = event["attendees"]
print(apis.mail.send_mail(mail_token, recipients=people, subject=$title, body=$text))
""",
    ),
    Scenario(
        "pay_from_note",
        "test",
        "hard",
        _pay_from_note,
        """
> I look for the note.
notes = apis.notes.search_notes(notes_token, query=$title)
note = [note for note in notes if note["title"] == $title][0]
body = apis.notes.show_note(notes_token, note_id=note["note_id"])["body"]
print(body)
> I look each person up and pay.
for line in body.splitlines():
    name, amount = line.split(": $")
    person = apis.contacts.search_contacts(contacts_token, query=name)[0]
    email = person["email"]
    apis.payments.send_money(payments_token, person=email, amount=float(amount), note=$note)
""",
    ),
    Scenario(
        "todos_from_mail",
        "train",
        "hard",
        _todos_from_mail,
        """
> I need my manager's email address.
manager = apis.contacts.search_contacts(contacts_token, relation="manager")[0]
print(manager)
> I read the mail.
mails = apis.mail.search_mail(mail_token, sender=manager["email"], query=$subject)
body = apis.mail.show_mail(mail_token, mail_id=mails[0]["mail_id"])["body"]
print(body)
> I add each line.
for line in body.splitlines():
    if line.startswith("- "):
        apis.todo.add_item(todo_token, list_name="work", title=line[2:])
""",
    ),
    Scenario(
        "birthday_event",
        "train",
        "medium",
        _birthday_event,
        """
> I look for the birthday.
person = apis.contacts.search_contacts(contacts_token, relation=$relation)[0]
birthday = apis.contacts.show_contact(contacts_token, contact_id=person["contact_id"])["birthday"]
print(birthday)
> I put the event into the calendar.
day = $year + birthday[4:]
apis.calendar.create_event(calendar_token, title=$title, day=day, start="18:00", end="21:00")
""",
    ),
    Scenario(
        "save_mail",
        "test",
        "medium",
        _save_mail,
        """
> I look for the mail and read it.
mail = apis.mail.search_mail(mail_token, query=$subject)[0]
body = apis.mail.show_mail(mail_token, mail_id=mail["mail_id"])["body"]
print(body)
> I save it.
print(apis.files.write_file(files_token, path=$path, content=body))
> I archive the mail.
print(apis.mail.move_mail(mail_token, mail_id=mail["mail_id"], folder="archive"))
""",
    ),
    Scenario(
        "pay_bill",
        "train",
        "hard",
        _pay_bill,
        """
> I need the email address.
person = apis.contacts.search_contacts(contacts_token, relation=$relation)[0]
print(person)
> I read the mail.
import re
mail = apis.mail.search_mail(mail_token, sender=person["email"], query=$subject)[0]
body = apis.mail.show_mail(mail_token, mail_id=mail["mail_id"])["body"]
amount = float(re.search(r"[$]([0-9]+)", body).group(1))
print(body, amount)
> I pay and give the mail a star.
apis.payments.send_money(payments_token, person=person["email"], amount=amount, note=$subject)
apis.mail.star_mail(mail_token, mail_id=mail["mail_id"])
""",
    ),
    Scenario(
        "mail_playlist",
        "train",
        "hard",
        _mail_playlist,
        """
> I need the email address.
person = apis.contacts.search_contacts(contacts_token, query=$name)[0]
print(person)
> I list the songs of the playlist.
playlists = apis.music.list_playlists(music_token)
playlist = [one for one in playlists if one["title"] == $playlist][0]
songs = apis.music.show_playlist(music_token, playlist_id=playlist["playlist_id"])
body = "\\n".join(song["title"] for song in songs)
print(body)
> I send the mail.
people = [person["email"]]
print(apis.mail.send_mail(mail_token, recipients=people, subject=$playlist, body=body))
""",
    ),
    Scenario(
        "agenda_note",
        "test",
        "hard",
        _agenda_note,
        """
> I list the events of the day.
events = apis.calendar.list_events(calendar_token, first_day=$day)
body = "\\n".join(event["start"] + " " + event["title"] for event in events)
print(body)
> I write the note.
print(apis.notes.create_note(notes_token, title=$title, body=body))
""",
    ),
    Scenario(
        "import_contacts",
        "test",
        "hard",
        _import_contacts,
        """
> I read the file.
content = apis.files.read_file(files_token, path="/downloads/fair.csv")["content"]
print(content)
> I add the people.
for line in content.splitlines()[1:]:
    name, email = line.split(",")
    first, last = name.split(" ")
    apis.contacts.add_contact(contacts_token, first_name=first, last_name=last, email=email,
        relation=$relation)
> I delete the file.
print(apis.files.delete_file(files_token, path="/downloads/fair.csv"))
""",
    ),
    Scenario(
        "call_off_event",
        "dev",
        "hard",
        _call_off,
        _EVENT
        + """
> I write to its attendees.
people, text = event["attendees"], "Sorry, I am ill."
print(apis.mail.send_mail(mail_token, recipients=people, subject=$title, body=text))
> I cancel the event.
print(apis.calendar.cancel_event(calendar_token, event_id=event["event_id"]))
""",
    ),
    Scenario(
        "expense_file",
        "test",
        "hard",
        _expense_file,
        """
> I collect the payments.
@pages sent = apis.payments.list_transfers(payments_token, direction="sent", since=$since)
total = sum(transfer["amount"] for transfer in sent)
print(total)
> I write the file.
apis.files.write_file(files_token, path="/reports/spent.txt", content=f"{total:.2f}")
""",
    ),
    Scenario(
        "mail_group",
        "train",
        "hard",
        _mail_group,
        """
> I look for the group.
groups = apis.contacts.list_groups(contacts_token)
group = [group for group in groups if group["name"] == $group][0]
people = [one["email"] for one in apis.contacts.show_group(contacts_token, group["group_id"])]
print(people)
> I send the mail.
print(apis.mail.send_mail(mail_token, recipients=people, subject=$group, body=$text))
> I add the item.
print(apis.todo.add_item(todo_token, list_name="home", title=$title))
""",
    ),
)
