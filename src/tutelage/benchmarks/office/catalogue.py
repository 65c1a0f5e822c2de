"""Which apps the office has."""

from __future__ import annotations

from functools import cache

from tutelage.benchmarks.office.apps.api_docs import documented
from tutelage.benchmarks.office.apps.calendar import Calendar
from tutelage.benchmarks.office.apps.contacts import Contacts
from tutelage.benchmarks.office.apps.files import Files
from tutelage.benchmarks.office.apps.mail import Mail
from tutelage.benchmarks.office.apps.music import Music
from tutelage.benchmarks.office.apps.notes import Notes
from tutelage.benchmarks.office.apps.payments import Payments
from tutelage.benchmarks.office.apps.supervisor import Supervisor
from tutelage.benchmarks.office.apps.todo import Todo
from tutelage.benchmarks.office.registry import Registry

LOGIN_APPS = (Mail, Notes, Payments, Music, Files, Contacts, Calendar, Todo)


@cache
def office_apis() -> Registry:
    """All APIs; read from the apps' signatures and docstrings once."""
    return documented((Supervisor, *LOGIN_APPS))
