"""Columns side by side, and frameworks in one kernel."""
