"""A smaller model against its float model: metrics, intervals, gates, controls, a report."""
