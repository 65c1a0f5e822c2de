"""Worlds, replay and reports."""
