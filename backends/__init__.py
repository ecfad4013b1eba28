"""One folder per framework.

A backend is a folder in here that holds a ``requirements.txt``, or a ``command.toml`` if it is no
Python.
"""
