"""The apps of the office; every public method is an API, its docstring the documentation."""
