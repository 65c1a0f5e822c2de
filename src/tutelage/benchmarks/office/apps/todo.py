"""Things to do."""

from __future__ import annotations

from tutelage.benchmarks.office.app import LoginApp, one_of, pattern, reads, writes
from tutelage.benchmarks.office.desk import Row

PRIORITIES = ("low", "normal", "high")


class Todo(LoginApp):
    """Lists of things to do."""

    name = "todo"
    description = "Lists of things to do, with due days and priorities."

    @reads
    def list_lists(self) -> list[Row]:
        """Names all lists.

        Returns:
            list of list_name, open_items, done_items
        """
        return self.desk.rows(
            "SELECT list AS list_name, SUM(1 - done) AS open_items, SUM(done) AS done_items"
            " FROM todos GROUP BY list ORDER BY list"
        )

    @reads
    def search_items(
        self,
        list_name: str = "",
        query: str = "",
        done: bool = False,
        due_until: str = "",
        page: int = 0,
    ) -> list[Row]:
        """Finds things to do, the earliest due first; all conditions must hold.

        Args:
            list_name: Exact name of a list; empty for all.
            query: Text in the title.
            done: Whether finished things are looked for instead of open ones.
            due_until: Last due day, as YYYY-MM-DD; things without a due day are then left out.
            page: Pages of 10, counted from 0.

        Returns:
            list of item_id, list_name, title, due, priority, done
        """
        found = self._page(
            "SELECT id AS item_id, list AS list_name, title, due, priority, done FROM todos"
            " WHERE ? IN ('', list) AND title LIKE ? ESCAPE '!' AND done = ?"
            " AND (? = '' OR (due != '' AND due <= ?)) ORDER BY due = '', due, id",
            page,
            *(list_name, pattern(query), int(done), due_until, due_until),
        )
        return [{**item, "done": bool(item["done"])} for item in found]

    @reads
    def show_item(self, item_id: int) -> Row:
        """Shows one thing to do.

        Args:
            item_id: Id of the item.

        Returns:
            item_id, list_name, title, due, priority, done
        """
        found = self._get("todos", item_id, "item")
        return {
            "item_id": found["id"],
            "list_name": found["list"],
            "title": found["title"],
            "due": found["due"],
            "priority": found["priority"],
            "done": bool(found["done"]),
        }

    @writes
    def add_item(self, list_name: str, title: str, due: str = "", priority: str = "normal") -> Row:
        """Adds a thing to do; a list is made with its first item.

        Args:
            list_name: Name of the list.
            title: Title.
            due: As YYYY-MM-DD; empty for none.
            priority: low, normal or high.

        Returns:
            item_id
        """
        one_of("priority", priority, PRIORITIES)
        key = self.desk.insert("todos", list=list_name, title=title, due=due, priority=priority)
        return {"item_id": key}

    @writes
    def update_item(self, item_id: int, title: str | None = None, due: str | None = None) -> Row:
        """Changes what is given; the rest stays.

        Args:
            item_id: Id of the item.
            title: New title.
            due: New due day as YYYY-MM-DD; an empty text for none.

        Returns:
            message
        """
        found = self._get("todos", item_id, "item")
        self.desk.update(
            "todos",
            item_id,
            title=found["title"] if title is None else title,
            due=found["due"] if due is None else due,
        )
        return {"message": "The item is changed."}

    @writes
    def set_priority(self, item_id: int, priority: str) -> Row:
        """Sets how much a thing to do matters.

        Args:
            item_id: Id of the item.
            priority: low, normal or high.

        Returns:
            message
        """
        one_of("priority", priority, PRIORITIES)
        self._get("todos", item_id, "item")
        self.desk.update("todos", item_id, priority=priority)
        return {"message": "The item is changed."}

    @writes
    def move_item(self, item_id: int, list_name: str) -> Row:
        """Moves a thing to do to another list.

        Args:
            item_id: Id of the item.
            list_name: Name of the list.

        Returns:
            message
        """
        self._get("todos", item_id, "item")
        self.desk.update("todos", item_id, list=list_name)
        return {"message": "The item is moved."}

    @writes
    def finish_item(self, item_id: int) -> Row:
        """Marks a thing as done.

        Args:
            item_id: Id of the item.

        Returns:
            message
        """
        self._get("todos", item_id, "item")
        self.desk.update("todos", item_id, done=1)
        return {"message": "The item is done."}

    @writes
    def reopen_item(self, item_id: int) -> Row:
        """Marks a thing as not done.

        Args:
            item_id: Id of the item.

        Returns:
            message
        """
        self._get("todos", item_id, "item")
        self.desk.update("todos", item_id, done=0)
        return {"message": "The item is open."}

    @writes
    def delete_item(self, item_id: int) -> Row:
        """Deletes a thing to do.

        Args:
            item_id: Id of the item.

        Returns:
            message
        """
        self._get("todos", item_id, "item")
        self.desk.write("DELETE FROM todos WHERE id = ?", item_id)
        return {"message": "The item is deleted."}

    @writes
    def clear_finished(self, list_name: str) -> Row:
        """Deletes everything that is done from a list.

        Args:
            list_name: Name of the list.

        Returns:
            deleted (their number)
        """
        cursor = self.desk.connection.execute(
            "DELETE FROM todos WHERE list = ? AND done = 1", (list_name,)
        )
        return {"deleted": cursor.rowcount}
