"""Loops by hand, which a trainer is measured against: a file for each backend that has some."""
