"""Benches: each measures, prints a table and gives one JSON-able object."""
