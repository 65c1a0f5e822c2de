"""A stateful Python shell in a process that can do nothing but compute and ask for APIs."""
