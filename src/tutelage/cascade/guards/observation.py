"""Observations in a form that can be compared."""

from __future__ import annotations


def same_form(observation: str) -> str:
    """The observation without case and with single spaces."""
    return " ".join(observation.split()).casefold()
