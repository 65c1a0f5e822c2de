"""The documentation of all apps, as an app."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tutelage.benchmarks.office.app import ApiRefused, App, reads
from tutelage.benchmarks.office.desk import Desk, Row
from tutelage.benchmarks.office.registry import Registry


class ApiDocs(App):
    """Shows what the registry knows; `documented` gives it the registry."""

    name = "api_docs"
    description = "Documentation of all apps and their APIs."
    find_registry: Callable[[], Registry]

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self._registry = type(self).find_registry()

    @reads
    def show_app_descriptions(self) -> list[Row]:
        """Lists all apps.

        Returns:
            list of name, description
        """
        apps = self._registry.apps.values()
        return [{"name": app.name, "description": app.description} for app in apps]

    @reads
    def show_api_descriptions(self, app_name: str) -> list[Row]:
        """Lists the APIs of an app.

        Args:
            app_name: Name of the app.

        Returns:
            list of name, description
        """
        if app_name not in self._registry.apis:
            raise ApiRefused(404, f"there is no app {app_name!r}")
        apis = self._registry.apis[app_name].values()
        return [{"name": api.name, "description": api.summary} for api in apis]

    @reads
    def show_api_doc(self, app_name: str, api_name: str) -> Row:
        """Shows how an API is called and what it gives back.

        Args:
            app_name: Name of the app.
            api_name: Name of the API.

        Returns:
            app_name, api_name, description, parameters, returns
        """
        return self._registry.find(app_name, api_name).doc()


def documented(apps: Sequence[type[App]]) -> Registry:
    """A registry of these apps and of an app that documents them, itself included."""

    class Docs(ApiDocs):
        find_registry = staticmethod(lambda: registry)

    registry = Registry([Docs, *apps])
    return registry
