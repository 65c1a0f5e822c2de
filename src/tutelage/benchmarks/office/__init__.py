"""An office of our own: apps over SQLite, worked by code or by tool calls. It is not AppWorld."""
