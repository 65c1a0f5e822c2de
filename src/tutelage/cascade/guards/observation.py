"""Observations in a form that can be compared."""

from __future__ import annotations

_MOST_REMEMBERED = 32_768


def same_form(observation: str) -> str:
    """The observation without case and with single spaces."""
    return " ".join(observation.split()).casefold()


class ObservationForms:
    """Compares observations by their same form, and remembers the forms.

    A step is decided with all observations of its episode, of which one is new.
    """

    def __init__(self) -> None:
        # By hash: an observation may be a whole page.
        self._remembered: dict[int, int] = {}

    def of(self, observation: str) -> int:
        """A number that is the same for the observations that have one form."""
        name = hash(observation)
        if name not in self._remembered:
            if len(self._remembered) >= _MOST_REMEMBERED:
                self._remembered.clear()
            self._remembered[name] = hash(same_form(observation))
        return self._remembered[name]
