"""Tests of what only one backend has, run in its interpreter: a file for each that has some."""
