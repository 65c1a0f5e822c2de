"""Notes: pinning, tagging, reading numbers out of them."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed, removed
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting


def _pin(s: Setting) -> Assignment:
    note = s.one("notes", "pinned = 0 AND archived = 0")
    return Assignment(
        f'Pin my note "{note["title"]}".',
        {"title": note["title"]},
        [changed("notes", note["id"], pinned=1)],
    )


def _append(s: Setting) -> Assignment:
    title = s.choice("Shopping", "Party supplies", "Hardware store")
    thing = s.choice("oat milk", "candles", "wood screws", "lemons")
    note = s.add("notes", title=title, body="bread\nbutter", updated_at=f"{s.day(-4)} 10:00")
    return Assignment(
        f'Add a line "{thing}" to the end of my note "{title}".',
        {"title": title, "thing": thing},
        [changed("notes", note, body=f"bread\nbutter\n{thing}")],
    )


def _count_tag(s: Setting) -> Assignment:
    tag = s.choice("home", "work", "ideas", "travel")
    count = sum(tag in row["tags"].split(", ") for row in s.rows("notes"))
    return Assignment(
        f'How many of my notes have the tag "{tag}", those in the archive included?',
        {"tag": tag},
        answer=count,
    )


def _archive_tag(s: Setting) -> Assignment:
    tag = s.choice("old flat", "spring", "conference")
    notes = [
        s.add(
            "notes",
            title=f"{tag.title()} {part}",
            body="Done.",
            tags=f"{tag}",
            updated_at=f"{s.day(-40)} 10:00",
        )
        for part in ("list", "costs", "people")
    ]
    return Assignment(
        f'Archive all my notes with the tag "{tag}".',
        {"tag": tag},
        [changed("notes", note, archived=1) for note in notes],
    )


def _retag(s: Setting) -> Assignment:
    old, new = s.choice("2025", "draft", "someday"), s.choice("later", "kept", "review")
    notes = [
        s.add(
            "notes",
            title=f"Thought {number}",
            body="x",
            tags=f"{old}",
            updated_at=f"{s.day(-9)} 10:00",
        )
        for number in range(s.number(2, 4))
    ]
    return Assignment(
        f'Give every note with the tag "{old}" that is not archived the tag "{new}" instead.',
        {"old": old, "new": new},
        [changed("notes", note, tags=new) for note in notes],
    )


def _sum(s: Setting) -> Assignment:
    title = s.choice("Trip expenses", "Kitchen repair", "Birthday costs")
    amounts = [s.number(5, 90) for _ in range(s.number(4, 7))]
    lines = [f"item {place}: ${amount}" for place, amount in enumerate(amounts)]
    s.add("notes", title=title, body="\n".join(lines), updated_at=f"{s.day(-3)} 10:00")
    return Assignment(
        f'What is the sum of all amounts in my note "{title}"?',
        {"title": title},
        answer=sum(amounts),
    )


def _delete_empty(s: Setting) -> Assignment:
    notes = [
        s.add("notes", title=f"Untitled {number}", body="", updated_at=f"{s.day(-9)} 10:00")
        for number in range(s.number(2, 4))
    ]
    s.add("notes", title="Untitled and full", body="Keep me.", updated_at=f"{s.day(-9)} 10:00")
    return Assignment(
        "Some of my notes that are not archived have no text at all. Delete these.",
        {},
        [removed("notes", note) for note in notes],
    )


def _merge(s: Setting) -> Assignment:
    first, second = s.choice("Ski trip", "Reunion"), s.choice("More details", "Second thoughts")
    body, more = f"Meet at {s.number(7, 9)}.", f"Bring {s.number(2, 9)} sandwiches."
    target = s.add("notes", title=first, body=body, updated_at=f"{s.day(-9)} 10:00")
    other = s.add("notes", title=second, body=more, updated_at=f"{s.day(-9)} 10:00")
    return Assignment(
        f'Append the text of my note "{second}" as a new line to my note "{first}", '
        f'then delete "{second}".',
        {"first": first, "second": second},
        [changed("notes", target, body=f"{body}\n{more}"), removed("notes", other)],
    )


def _new_note(s: Setting) -> Assignment:
    title, tag = s.choice("Door code", "Locker", "Bike lock"), s.choice("home", "work")
    body = f"The code is {s.number(1000, 9999)}."
    return Assignment(
        f'Write a new note "{title}" with the text "{body}" and the tag "{tag}".',
        {"title": title, "body": body, "tag": tag},
        [added("notes", title=title, body=body, tags=tag, pinned=0, archived=0)],
    )


SCENARIOS = (
    Scenario(
        "pin_note",
        "train",
        "easy",
        _pin,
        """
> I look for the note.
notes = apis.notes.search_notes(notes_token, query=$title)
note = [note for note in notes if note["title"] == $title][0]
print(note)
> I pin it.
print(apis.notes.pin_note(notes_token, note_id=note["note_id"]))
""",
    ),
    Scenario(
        "append_line",
        "test",
        "easy",
        _append,
        """
> I look for the note.
notes = apis.notes.search_notes(notes_token, query=$title)
note = [note for note in notes if note["title"] == $title][0]
print(note)
> I add the line.
print(apis.notes.append_to_note(notes_token, note_id=note["note_id"], line=$thing))
""",
    ),
    Scenario(
        "count_tag",
        "dev",
        "easy",
        _count_tag,
        """
> The app counts notes by tag.
counts = {row["tag"]: row["notes"] for row in apis.notes.list_tags(notes_token)}
answer = counts.get($tag, 0)
print(answer)
""",
    ),
    Scenario(
        "archive_tag",
        "train",
        "medium",
        _archive_tag,
        """
> I collect the notes with this tag.
@pages notes = apis.notes.search_notes(notes_token, tag=$tag)
print(notes)
> I archive them.
for note in notes:
    apis.notes.archive_note(notes_token, note_id=note["note_id"])
""",
    ),
    Scenario(
        "retag_notes",
        "test",
        "medium",
        _retag,
        """
> I collect the notes with the old tag.
@pages notes = apis.notes.search_notes(notes_token, tag=$old)
print(notes)
> I take the old tag off and put the new one on.
for note in notes:
    apis.notes.untag_note(notes_token, note_id=note["note_id"], tag=$old)
    apis.notes.tag_note(notes_token, note_id=note["note_id"], tag=$new)
""",
    ),
    Scenario(
        "sum_note",
        "train",
        "medium",
        _sum,
        """
> I look for the note.
notes = apis.notes.search_notes(notes_token, query=$title)
note = [note for note in notes if note["title"] == $title][0]
body = apis.notes.show_note(notes_token, note_id=note["note_id"])["body"]
print(body)
> I add the amounts up.
answer = sum(int(line.split("$")[1]) for line in body.splitlines() if "$" in line)
print(answer)
""",
    ),
    Scenario(
        "delete_empty",
        "train",
        "hard",
        _delete_empty,
        """
> I collect all notes and read each.
@pages notes = apis.notes.search_notes(notes_token, query="Untitled")
texts = {n["note_id"]: apis.notes.show_note(notes_token, note_id=n["note_id"]) for n in notes}
empty = [key for key, note in texts.items() if not note["body"].strip()]
print(empty)
> I delete the empty ones.
for key in empty:
    apis.notes.delete_note(notes_token, note_id=key)
""",
    ),
    Scenario(
        "merge_notes",
        "test",
        "hard",
        _merge,
        """
> I look for both notes.
ids = {}
for title in ($first, $second):
    for note in apis.notes.search_notes(notes_token, query=title):
        if note["title"] == title:
            ids[title] = note["note_id"]
print(ids)
> I read the second one.
text = apis.notes.show_note(notes_token, note_id=ids[$second])["body"]
print(text)
> I append its text and delete it.
apis.notes.append_to_note(notes_token, note_id=ids[$first], line=text)
apis.notes.delete_note(notes_token, note_id=ids[$second])
""",
    ),
    Scenario(
        "new_note",
        "train",
        "easy",
        _new_note,
        """
> I write the note.
print(apis.notes.create_note(notes_token, title=$title, body=$body, tags=[$tag]))
""",
    ),
)
