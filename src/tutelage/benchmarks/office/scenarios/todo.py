"""Things to do: lists, due days, priorities."""

from __future__ import annotations

from tutelage.benchmarks.office.changes import added, changed, removed
from tutelage.benchmarks.office.population import day_after
from tutelage.benchmarks.office.scenario import Assignment, Scenario, Setting
from tutelage.benchmarks.office.vocabulary import TODO_LISTS


def _finish(s: Setting) -> Assignment:
    item = s.one("todos", "done = 0")
    return Assignment(
        f'I did "{item["title"]}". Mark it as done in my to-do list.',
        {"title": item["title"]},
        [changed("todos", item["id"], done=1)],
    )


def _add(s: Setting) -> Assignment:
    title = s.choice("pay the gym", "answer the survey", "clean the filter")
    name, due = s.choice(*TODO_LISTS), s.day(s.number(2, 20))
    priority = s.choice("low", "high")
    return Assignment(
        f'Add "{title}" to my to-do list "{name}", due on {due}, with {priority} priority.',
        {"title": title, "name": name, "due": due, "priority": priority},
        [added("todos", list=name, title=title, due=due, priority=priority, done=0)],
    )


def _overdue(s: Setting) -> Assignment:
    keys = [
        s.add(
            "todos",
            list=s.choice(*TODO_LISTS),
            title=f"late thing {number}",
            due=s.day(-s.number(1, 9)),
            priority="normal",
            done=0,
        )
        for number in range(s.number(2, 4))
    ]
    return Assignment(
        "Set the priority of every open to-do item that was due before today to high.",
        {},
        [changed("todos", key, priority="high") for key in keys],
    )


def _count_open(s: Setting) -> Assignment:
    name = s.choice(*TODO_LISTS)
    return Assignment(
        f'How many open items does my to-do list "{name}" have?',
        {"name": name},
        answer=len(s.rows("todos", "list = ? AND done = 0", name)),
    )


def _move_items(s: Setting) -> Assignment:
    old, new = s.choice(*TODO_LISTS), s.choice("weekend", "delegated", "autumn")
    items = s.rows("todos", "list = ? AND done = 0", old)
    return Assignment(
        f'Move all open items of my to-do list "{old}" to the list "{new}".',
        {"old": old, "new": new},
        [changed("todos", item["id"], list=new) for item in items],
    )


def _postpone(s: Setting) -> Assignment:
    name = s.choice(*TODO_LISTS)
    items = s.rows("todos", "list = ? AND done = 0 AND due != ''", name)
    return Assignment(
        f'Postpone every open item of my to-do list "{name}" that has a due day by 7 days.',
        {"name": name},
        [changed("todos", item["id"], due=day_after(item["due"], 7)) for item in items],
    )


def _clear(s: Setting) -> Assignment:
    name = s.choice(*TODO_LISTS)
    key = s.add("todos", list=name, title="finished long ago", due="", priority="low", done=1)
    items = s.rows("todos", "list = ? AND done = 1 AND id != ?", name, key)
    return Assignment(
        f'Delete everything that is done from my to-do list "{name}".',
        {"name": name},
        [removed("todos", key), *(removed("todos", item["id"]) for item in items)],
    )


def _next_due(s: Setting) -> Assignment:
    title = s.choice("hand in the form", "fetch the cake", "return the library books")
    s.add("todos", list="errands", title=title, due=s.day(0), priority="normal", done=0)
    return Assignment(
        "Which of my open to-do items is due first? Answer with its title.", answer=title
    )


def _delete_low(s: Setting) -> Assignment:
    name = s.choice(*TODO_LISTS)
    s.add("todos", list=name, title="learn to juggle", due="", priority="low", done=0)
    items = s.rows("todos", "list = ? AND done = 0 AND priority = 'low'", name)
    return Assignment(
        f'Delete the open items with low priority from my to-do list "{name}".',
        {"name": name},
        [removed("todos", item["id"]) for item in items],
    )


_OPEN = """
> I collect the open items of the list.
@pages items = apis.todo.search_items(todo_token, list_name=$name)
print(items)
"""

SCENARIOS = (
    Scenario(
        "finish_item",
        "train",
        "easy",
        _finish,
        """
> I look for the item.
item = apis.todo.search_items(todo_token, query=$title)[0]
print(item)
> I mark it as done.
print(apis.todo.finish_item(todo_token, item_id=item["item_id"]))
""",
    ),
    Scenario(
        "add_item",
        "test",
        "easy",
        _add,
        """
> I add the item.
print(apis.todo.add_item(todo_token, list_name=$name, title=$title, due=$due, priority=$priority))
""",
    ),
    Scenario(
        "raise_overdue",
        "train",
        "medium",
        _overdue,
        """
> I collect the items that were due before today.
today = apis.supervisor.show_today()
@pages items = apis.todo.search_items(todo_token, due_until=today)
late = [item for item in items if item["due"] < today]
print(late)
> I raise their priority.
for item in late:
    apis.todo.set_priority(todo_token, item_id=item["item_id"], priority="high")
""",
    ),
    Scenario(
        "count_open",
        "train",
        "easy",
        _count_open,
        """
> The lists come with counts.
counts = {row["list_name"]: row["open_items"] for row in apis.todo.list_lists(todo_token)}
answer = counts[$name]
print(answer)
""",
    ),
    Scenario(
        "move_items",
        "test",
        "medium",
        _move_items,
        """
> I collect the open items of the list.
@pages items = apis.todo.search_items(todo_token, list_name=$old)
print(items)
> I move them.
for item in items:
    apis.todo.move_item(todo_token, item_id=item["item_id"], list_name=$new)
""",
    ),
    Scenario(
        "postpone_items",
        "train",
        "hard",
        _postpone,
        _OPEN
        + """
> I postpone those that have a due day.
from datetime import date, timedelta
for item in items:
    if item["due"]:
        due = (date.fromisoformat(item["due"]) + timedelta(days=7)).isoformat()
        apis.todo.update_item(todo_token, item_id=item["item_id"], due=due)
""",
    ),
    Scenario(
        "clear_finished",
        "dev",
        "easy",
        _clear,
        """
> The app can do that at once.
print(apis.todo.clear_finished(todo_token, list_name=$name))
""",
    ),
    Scenario(
        "next_due",
        "train",
        "easy",
        _next_due,
        """
> The earliest due comes first.
item = apis.todo.search_items(todo_token)[0]
answer = item["title"]
print(item)
""",
    ),
    Scenario(
        "delete_low",
        "train",
        "medium",
        _delete_low,
        _OPEN
        + """
> I delete those with low priority.
for item in items:
    if item["priority"] == "low":
        apis.todo.delete_item(todo_token, item_id=item["item_id"])
""",
    ),
)
