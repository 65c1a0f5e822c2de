"""The person the agent works for."""

from __future__ import annotations

from typing import Any

from tutelage.benchmarks.office.app import App, reads, writes
from tutelage.benchmarks.office.desk import Row


class Supervisor(App):
    """Who the user is, and where the task ends."""

    name = "supervisor"
    description = "Who you work for, their accounts, today's date, and how to complete the task."

    @reads
    def show_profile(self) -> Row:
        """Shows who you work for.

        Returns:
            first_name, last_name, email, phone, city, birthday
        """
        hidden = ("id", "today", "opening_cents")
        return {name: value for name, value in self.desk.profile.items() if name not in hidden}

    @reads
    def show_account_passwords(self) -> list[Row]:
        """Lists username and password of each app that needs a login.

        Returns:
            list of app_name, username, password
        """
        return self.desk.rows("SELECT app AS app_name, username, password FROM passwords")

    @reads
    def show_today(self) -> str:
        """Tells today's date.

        Returns:
            the date as YYYY-MM-DD
        """
        return str(self.desk.profile["today"])

    @writes
    def complete_task(self, answer: Any = None) -> Row:
        """Ends the task; nothing can be done afterwards.

        Args:
            answer: The answer, if the task asks for one: a number, a text, or a list; else leave
                it out.

        Returns:
            message
        """
        self.desk.completed = True
        self.desk.answer = answer
        return {"message": "The task is completed."}
