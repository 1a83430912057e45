"""Fuzzing of everything that reads files from elsewhere; CONTRIBUTING.md says how to run it."""
