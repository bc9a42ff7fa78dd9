"""The lean runtime: the 80 ms loop, sound, engines, models and backends. Never torch."""
