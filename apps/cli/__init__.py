"""The `edge` command: main.py is the door, one file per command or group of commands."""
