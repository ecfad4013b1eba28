"""Interpreters and programs that train: found, built, named by release."""
