"""Checks of this machine: each gives one Check, a line that says what is so and what to do."""
