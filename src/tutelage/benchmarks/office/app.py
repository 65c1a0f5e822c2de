"""What an app is: a class whose marked methods are its APIs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Literal, TypeVar

from tutelage.benchmarks.office.desk import Desk, Row

Function = TypeVar("Function", bound=Callable[..., Any])
EFFECT = "office_effect"
PAGE_SIZE = 10


class ApiRefused(Exception):
    """An API did nothing; the agent is told why.

    Args:
        status: As in HTTP: 401 no valid token, 404 no such thing, 409 not possible now, 422 wrong
            arguments, 429 too many calls.
        reason: One sentence for the agent.
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(f"refused ({status}): {reason}")
        self.status = status


def _marked(effect: Literal["read", "write"]) -> Callable[[Function], Function]:
    def mark(function: Function) -> Function:
        setattr(function, EFFECT, effect)
        return function

    return mark


reads = _marked("read")
"""Marks an API that leaves the office as it was."""
writes = _marked("write")
"""Marks an API that may change the office."""


class App:
    """The APIs of one app over the desk of an episode."""

    name: ClassVar[str]
    description: ClassVar[str]
    needs_login: ClassVar[bool] = False

    def __init__(self, desk: Desk) -> None:
        self.desk = desk

    def _page(self, sql: str, page: int, *values: object) -> list[Row]:
        if page < 0:
            raise ApiRefused(422, "page counts from 0")
        return self.desk.rows(f"{sql} LIMIT ? OFFSET ?", *values, PAGE_SIZE, page * PAGE_SIZE)

    def _get(self, table: str, key: int, what: str) -> Row:
        found = self.desk.row(f"SELECT * FROM {table} WHERE id = ?", key)
        if found is None:
            raise ApiRefused(404, f"there is no {what} with id {key}")
        return found


class LoginApp(App):
    """An app whose other APIs want the token that its login gives."""

    needs_login = True

    @reads
    def login(self, username: str, password: str) -> Row:
        """Logs in and gives the access token that the other APIs of this app want.

        Args:
            username: As ``supervisor.show_account_passwords`` tells it.
            password: As ``supervisor.show_account_passwords`` tells it.

        Returns:
            access_token
        """
        found = self.desk.row("SELECT * FROM passwords WHERE app = ?", self.name)
        if found is None or (username, password) != (found["username"], found["password"]):
            raise ApiRefused(401, "username or password is wrong")
        self.desk.logged_in.add(self.name)
        return {"access_token": self.desk.token(self.name)}


def pattern(text: str) -> str:
    """A text as a pattern of ``LIKE ... ESCAPE '!'`` that finds it anywhere."""
    for special in "!%_":
        text = text.replace(special, f"!{special}")
    return f"%{text}%"


def words(text: str) -> list[str]:
    """A list as the tables hold it: ``"a, b"`` is ``["a", "b"]``."""
    return [word for word in text.split(", ") if word]


def joined(parts: list[str]) -> str:
    """A list as the tables hold it, without repeats, in its order."""
    return ", ".join(dict.fromkeys(part.strip() for part in parts if part.strip()))


def one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    """Refuses a value that is not among the allowed ones.

    Raises:
        ApiRefused: With status 422.
    """
    if value not in allowed:
        raise ApiRefused(422, f"{name} must be one of {', '.join(allowed)}")
