"""Notes."""

from __future__ import annotations

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


class Notes(LoginApp):
    """Texts with tags."""

    name = "notes"
    description = "Keeps notes with titles and tags."

    @reads
    def search_notes(
        self, query: str = "", tag: str = "", archived: bool = False, page: int = 0
    ) -> list[Row]:
        """Finds notes, sorted by title; all conditions must hold.

        Args:
            query: Text in title or body; empty finds all.
            tag: A tag that the note has.
            archived: Whether the archive is searched instead of the other notes.
            page: Pages of 10, counted from 0.

        Returns:
            list of note_id, title, tags, pinned, updated_at
        """
        found = self._page(
            "SELECT id AS note_id, title, tags, pinned, updated_at FROM notes"
            " WHERE (title || char(10) || body) LIKE ? ESCAPE '!'"
            " AND (? = '' OR (', ' || tags || ',') LIKE ? ESCAPE '!') AND archived = ?"
            " ORDER BY title, id",
            page,
            *(pattern(query), tag, pattern(f", {tag},"), int(archived)),
        )
        return [_shown(note) for note in found]

    @reads
    def show_note(self, note_id: int) -> Row:
        """Shows one note with its text.

        Args:
            note_id: Id of the note.

        Returns:
            note_id, title, body, tags, pinned, archived, updated_at
        """
        found = self._get("notes", note_id, "note")
        return _shown({"note_id": found.pop("id"), **found, "archived": bool(found["archived"])})

    @reads
    def list_tags(self) -> list[Row]:
        """Lists all tags and how many notes have them, archived ones included.

        Returns:
            list of tag, notes (their number)
        """
        counts: dict[str, int] = {}
        for note in self.desk.rows("SELECT tags FROM notes"):
            for tag in words(note["tags"]):
                counts[tag] = counts.get(tag, 0) + 1
        return [{"tag": tag, "notes": count} for tag, count in sorted(counts.items())]

    @writes
    def create_note(self, title: str, body: str, tags: list[str] | None = None) -> Row:
        """Writes a new note.

        Args:
            title: Title.
            body: Text.
            tags: Tags, none by default.

        Returns:
            note_id
        """
        key = self.desk.insert(
            "notes", title=title, body=body, tags=joined(tags or []), updated_at=self.desk.now
        )
        return {"note_id": key}

    @writes
    def update_note(self, note_id: int, title: str | None = None, body: str | None = None) -> Row:
        """Changes what is given; the rest stays.

        Args:
            note_id: Id of the note.
            title: New title.
            body: New text, in place of the old one.

        Returns:
            message
        """
        found = self._get("notes", note_id, "note")
        self._touch(
            note_id,
            title=found["title"] if title is None else title,
            body=found["body"] if body is None else body,
        )
        return {"message": "The note is changed."}

    @writes
    def append_to_note(self, note_id: int, line: str) -> Row:
        """Adds a line at the end of a note.

        Args:
            note_id: Id of the note.
            line: The line.

        Returns:
            message
        """
        body = self._get("notes", note_id, "note")["body"]
        self._touch(note_id, body=f"{body}\n{line}" if body else line)
        return {"message": "The note is changed."}

    @writes
    def tag_note(self, note_id: int, tag: str) -> Row:
        """Puts a tag on a note, beside those it has.

        Args:
            note_id: Id of the note.
            tag: The tag; no comma.

        Returns:
            message
        """
        found = self._get("notes", note_id, "note")
        if "," in tag or not tag.strip():
            raise ApiRefused(422, "a tag is a text without a comma")
        self._touch(note_id, tags=joined([*words(found["tags"]), tag]))
        return {"message": "The note is tagged."}

    @writes
    def untag_note(self, note_id: int, tag: str) -> Row:
        """Takes a tag off a note.

        Args:
            note_id: Id of the note.
            tag: The tag.

        Returns:
            message
        """
        tags = words(self._get("notes", note_id, "note")["tags"])
        if tag not in tags:
            raise ApiRefused(404, f"the note has no tag {tag!r}")
        self._touch(note_id, tags=joined([one for one in tags if one != tag]))
        return {"message": "The tag is off the note."}

    @writes
    def pin_note(self, note_id: int, pinned: bool = True) -> Row:
        """Pins a note to the top, or lets it go.

        Args:
            note_id: Id of the note.
            pinned: Whether it is pinned.

        Returns:
            message
        """
        self._get("notes", note_id, "note")
        self.desk.update("notes", note_id, pinned=int(pinned))
        return {"message": "The note is changed."}

    @writes
    def archive_note(self, note_id: int, archived: bool = True) -> Row:
        """Moves a note to the archive, or back.

        Args:
            note_id: Id of the note.
            archived: Whether it is in the archive.

        Returns:
            message
        """
        self._get("notes", note_id, "note")
        self.desk.update("notes", note_id, archived=int(archived))
        return {"message": "The note is changed."}

    @writes
    def delete_note(self, note_id: int) -> Row:
        """Deletes a note for good.

        Args:
            note_id: Id of the note.

        Returns:
            message
        """
        self._get("notes", note_id, "note")
        self.desk.write("DELETE FROM notes WHERE id = ?", note_id)
        return {"message": "The note is deleted."}

    def _touch(self, note_id: int, **values: object) -> None:
        self.desk.update("notes", note_id, **values, updated_at=self.desk.now)


def _shown(note: Row) -> Row:
    return {**note, "tags": words(note["tags"]), "pinned": bool(note["pinned"])}
