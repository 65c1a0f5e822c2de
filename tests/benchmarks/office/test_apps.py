from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from tutelage.benchmarks.office.app import ApiRefused
from tutelage.benchmarks.office.catalogue import LOGIN_APPS, office_apis
from tutelage.benchmarks.office.changes import changes, state_of
from tutelage.benchmarks.office.desk import Desk
from tutelage.benchmarks.office.population import furnished
from tutelage.benchmarks.office.registry import Caller

Ask = Callable[..., Any]


@pytest.fixture
def desk() -> Desk:
    desk = Desk(furnished("2"), "test")
    desk.logged_in = {app.name for app in LOGIN_APPS}
    return desk


@pytest.fixture
def ask(desk: Desk) -> Ask:
    caller = Caller(office_apis(), desk)

    def call(app: str, api: str, **named: object) -> Any:
        token = {} if app in ("supervisor", "api_docs") else {"access_token": desk.token(app)}
        return caller.call(app, api, (), {**token, **named})

    return call


@pytest.mark.parametrize(
    ("app", "api", "named", "status", "says"),
    [
        ("mail", "search_mail", {"folder": "spam"}, 422, "folder must be one of inbox"),
        ("mail", "search_mail", {"page": -1}, 422, "page counts from 0"),
        ("mail", "show_mail", {"mail_id": 999}, 404, "no mail with id 999"),
        ("mail", "send_mail", {"recipients": [], "subject": "", "body": ""}, 422, "recipients"),
        ("mail", "save_draft", {"recipients": ["x"], "subject": "", "body": ""}, 422, "addresses"),
        ("mail", "send_draft", {"mail_id": 1}, 409, "no draft"),
        ("mail", "move_mail", {"mail_id": 1, "folder": "sent"}, 422, "folder must be one of"),
        ("mail", "label_mail", {"mail_id": 1, "label": "a,b"}, 422, "without a comma"),
        ("mail", "count_mail", {"folder": "x"}, 422, "folder must be"),
        ("notes", "tag_note", {"note_id": 1, "tag": " "}, 422, "without a comma"),
        ("notes", "untag_note", {"note_id": 1, "tag": "none"}, 404, "no tag 'none'"),
        ("payments", "send_money", {"person": "a@b.example", "amount": -1}, 422, "above 0"),
        ("payments", "send_money", {"person": "a@b.example", "amount": 1e9}, 422, "at most"),
        ("payments", "send_money", {"person": "a", "amount": 1}, 422, "email address"),
        ("payments", "send_money", {"person": "a@b.example", "amount": 99_999}, 409, "too low"),
        ("payments", "list_requests", {"direction": "x"}, 422, "direction must be"),
        ("payments", "list_transfers", {"direction": "x"}, 422, "direction must be"),
        ("payments", "pay_request", {"request_id": 5}, 409, "no open incoming"),
        ("payments", "cancel_request", {"request_id": 1}, 409, "no open outgoing"),
        ("payments", "remove_card", {"card_id": 1}, 409, "default card"),
        ("music", "rate_song", {"song_id": 1, "rating": 6}, 422, "1 to 5"),
        ("music", "like_song", {"song_id": 999}, 404, "song in the library"),
        ("music", "remove_from_playlist", {"playlist_id": 1, "song_id": 999}, 404, "not in"),
        ("files", "read_file", {"path": "/x"}, 404, "no file /x"),
        ("files", "list_folder", {"path": "/x"}, 404, "no folder /x"),
        ("files", "write_file", {"path": "x", "content": ""}, 422, "a path looks like"),
        ("files", "write_file", {"path": "/x/y", "content": ""}, 404, "no folder /x"),
        ("files", "write_file", {"path": "/documents", "content": ""}, 409, "is a folder"),
        ("files", "delete_folder", {"path": "/documents"}, 409, "not empty"),
        ("files", "delete_folder", {"path": "/"}, 409, "not empty"),
        ("files", "make_folder", {"path": "/documents"}, 409, "is a folder"),
        ("contacts", "show_contact", {"contact_id": 0}, 404, "no contact"),
        ("contacts", "create_group", {"name": "chess"}, 409, "there is a group"),
        ("contacts", "remove_from_group", {"group_id": 1, "contact_id": 99}, 404, "not in"),
        ("calendar", "list_events", {"first_day": "today"}, 422, "YYYY-MM-DD"),
        ("calendar", "find_free_times", {"day": "2026", "minutes": 1}, 422, "YYYY-MM-DD"),
        (
            "calendar",
            "move_event",
            {"event_id": 1, "day": "2026-01-01", "start": "9", "end": "x"},
            422,
            "HH:MM",
        ),
        (
            "calendar",
            "create_event",
            {"title": "", "day": "2026-01-01", "start": "09:00", "end": "09:00"},
            422,
            "after start",
        ),
        ("calendar", "add_attendee", {"event_id": 1, "email": "x"}, 422, "email address"),
        ("calendar", "remove_attendee", {"event_id": 1, "email": "x"}, 404, "not invited"),
        ("calendar", "set_reminder", {"event_id": 1, "minutes": -1}, 422, "0 to 10080"),
        ("todo", "add_item", {"list_name": "", "title": "", "priority": "x"}, 422, "priority"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    desk: Desk, ask: Ask, app: str, api: str, named: dict[str, object], status: int, says: str
) -> None:
    before = state_of(desk.connection)
    with pytest.raises(ApiRefused, match=says) as refused:
        ask(app, api, **named)
    assert refused.value.status == status
    assert changes(before, desk.connection) == []


def test_apis_that_read_change_nothing(desk: Desk, ask: Ask) -> None:
    before = state_of(desk.connection)
    for apis in office_apis().apis.values():
        for api in apis.values():
            if api.effect == "read":
                fitting = {"integer": 1, "string": "2026-01-01", "boolean": True, "number": 1.0}
                named = {
                    one.name: fitting[one.type]
                    for one in api.parameters
                    if one.required and one.name != "access_token"
                }
                with suppress(ApiRefused):
                    ask(api.app, api.name, **named)
    assert changes(before, desk.connection) == []


def test_mail_is_written_and_sorted(ask: Ask) -> None:
    draft = ask(
        "mail", "save_draft", recipients=["b@x.example", "a@x.example"], subject="S", body="B"
    )
    shown = ask("mail", "show_mail", **draft)
    assert (shown["folder"], shown["recipients"]) == ("drafts", ["a@x.example", "b@x.example"])
    ask("mail", "send_draft", **draft)
    assert ask("mail", "search_mail", folder="sent", query="S")[0]["mail_id"] == draft["mail_id"]
    for label in ("one", "two", "one"):
        ask("mail", "label_mail", **draft, label=label)
    ask("mail", "mark_mail", **draft, read=False)
    shown = ask("mail", "show_mail", **draft)
    assert (shown["labels"], shown["read"]) == (["one", "two"], False)
    forwarded = ask("mail", "forward_mail", **draft, recipients=["c@x.example"], comment="See")
    assert ask("mail", "show_mail", **forwarded)["body"] == "See\n\nB"
    ask("mail", "delete_mail", **draft)
    assert ask("mail", "search_mail", folder="sent", label="two") == []


def test_special_characters_of_patterns_are_found_as_they_are(ask: Ask) -> None:
    ask("notes", "create_note", title="100% sure!", body="a_b", tags=["x", "x"])
    assert [n["title"] for n in ask("notes", "search_notes", query="0% sure!")] == ["100% sure!"]
    assert ask("notes", "search_notes", query="a%b") == []
    assert ask("notes", "search_notes", query="100% sure!")[0]["tags"] == ["x"]


def test_notes_are_changed_in_part(ask: Ask) -> None:
    note = ask("notes", "create_note", title="T", body="")
    ask("notes", "append_to_note", **note, line="first")
    ask("notes", "update_note", **note, title="U")
    ask("notes", "pin_note", **note)
    ask("notes", "archive_note", **note)
    shown = ask("notes", "show_note", **note)
    assert (shown["title"], shown["body"], shown["pinned"]) == ("U", "first", True)
    assert ask("notes", "search_notes", query="U", archived=True)
    ask("notes", "update_note", **note, body="other")
    assert ask("notes", "show_note", **note)["body"] == "other"


def test_money_that_is_sent_is_gone(ask: Ask) -> None:
    before = ask("payments", "show_balance")["balance"]
    paid = ask("payments", "send_money", person="a@b.example", amount=12.5, note="n")
    assert ask("payments", "show_balance")["balance"] == before - 12.5
    shown = ask("payments", "show_transfer", **paid)
    assert (shown["amount"], shown["direction"]) == (12.5, "sent")
    assert ask("payments", "list_transfers", until="2000-01-01") == []


def test_songs_move_between_library_playlists_and_queue(ask: Ask) -> None:
    song = next(
        key for key in range(1, 49) if not ask("music", "show_song", song_id=key)["in_library"]
    )
    ask("music", "add_to_library", song_id=song)
    ask("music", "rate_song", song_id=song, rating=5)
    shown = ask("music", "show_song", song_id=song)
    assert (shown["in_library"], shown["liked"], shown["rating"]) == (True, False, 5)
    with pytest.raises(ApiRefused, match="already"):
        ask("music", "add_to_library", song_id=song)
    playlist = ask("music", "create_playlist", title="P")
    ask("music", "add_to_playlist", **playlist, song_id=song)
    with pytest.raises(ApiRefused, match="already"):
        ask("music", "add_to_playlist", **playlist, song_id=song)
    ask("music", "update_playlist", **playlist, public=True)
    assert ask("music", "list_playlists")[-1] == {
        **playlist,
        "title": "P",
        "public": True,
        "songs": 1,
    }
    ask("music", "remove_from_playlist", **playlist, song_id=song)
    assert ask("music", "show_playlist", **playlist) == []
    ask("music", "delete_playlist", **playlist)
    ask("music", "clear_queue")
    ask("music", "queue_song", song_id=song)
    assert [one["song_id"] for one in ask("music", "show_queue")] == [song]


def test_files_are_written_moved_and_deleted(ask: Ask) -> None:
    ask("files", "make_folder", path="/new")
    ask("files", "write_file", path="/new/a.txt", content="")
    ask("files", "append_to_file", path="/new/a.txt", line="one")
    ask("files", "append_to_file", path="/new/a.txt", line="two")
    with pytest.raises(ApiRefused, match="there is a file"):
        ask("files", "write_file", path="/new/a.txt", content="x")
    shown = ask("files", "describe_file", path="/new/a.txt")
    assert (shown["lines"], shown["characters"]) == (2, 7)
    ask("files", "copy_file", path="/new/a.txt", target="/new/b.txt")
    ask("files", "write_file", path="/new/b.txt", content="x", overwrite=True)
    assert ask("files", "list_folder", path="/new/")["files"] == ["/new/a.txt", "/new/b.txt"]
    assert "/new" in ask("files", "list_folder", path="/")["folders"]
    found = ask("files", "find_files", query="two", folder="/new")
    assert [one["path"] for one in found] == ["/new/a.txt"]
    for name in ("a", "b"):
        ask("files", "delete_file", path=f"/new/{name}.txt")
    ask("files", "delete_folder", path="/new")
    assert "/new" not in ask("files", "list_folder", path="/")["folders"]


def test_contacts_are_grouped_and_deleted(ask: Ask) -> None:
    person = ask("contacts", "add_contact", first_name="A", last_name="B", email="a@b.example")
    with pytest.raises(ApiRefused, match="there is a contact"):
        ask("contacts", "add_contact", first_name="A", last_name="B", email="a@b.example")
    group = ask("contacts", "create_group", name="new")
    ask("contacts", "add_to_group", **group, **person)
    with pytest.raises(ApiRefused, match="already"):
        ask("contacts", "add_to_group", **group, **person)
    assert ask("contacts", "list_groups")[-1]["members"] == 1
    ask("contacts", "delete_contact", **person)
    assert ask("contacts", "list_groups")[-1]["members"] == 0


def test_free_times_lie_between_events(ask: Ask) -> None:
    def create(start: str, end: str) -> Any:
        return ask("calendar", "create_event", title="x", day="2030-01-01", start=start, end=end)

    assert ask("calendar", "find_free_times", day="2030-01-01", minutes=600)
    create("07:00", "09:00")
    create("10:00", "12:00")
    event = create("11:00", "11:30")
    create("17:30", "19:00")
    assert ask("calendar", "find_free_times", day="2030-01-01", minutes=60) == [
        {"start": "09:00", "end": "10:00"},
        {"start": "12:00", "end": "17:30"},
    ]
    ask("calendar", "add_attendee", **event, email="a@b.example")
    with pytest.raises(ApiRefused, match="invited already"):
        ask("calendar", "add_attendee", **event, email="a@b.example")
    assert (
        ask("calendar", "search_events", attendee="a@b.example")[0]["event_id"]
        == (event["event_id"])
    )
    ask("calendar", "remove_attendee", **event, email="a@b.example")
    ask("calendar", "set_reminder", **event, minutes=5)
    assert ask("calendar", "show_event", **event)["reminder_minutes"] == 5


def test_items_are_done_and_reopened(ask: Ask) -> None:
    item = ask("todo", "add_item", list_name="new", title="t", due="2030-01-01")
    ask("todo", "finish_item", **item)
    assert ask("todo", "search_items", list_name="new", done=True)[0]["done"] is True
    ask("todo", "reopen_item", **item)
    ask("todo", "update_item", **item, due="")
    shown = ask("todo", "show_item", **item)
    assert (shown["done"], shown["due"], shown["title"]) == (False, "", "t")
    assert ask("todo", "search_items", list_name="new", due_until="2099-01-01") == []


def test_the_profile_shows_the_person_and_nothing_behind_it(ask: Ask) -> None:
    assert set(ask("supervisor", "show_profile")) == {
        "first_name",
        "last_name",
        "email",
        "phone",
        "city",
        "birthday",
    }
