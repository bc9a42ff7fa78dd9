"""The vocabulary that every other package shares: frames, errors, configuration, lock, manifest."""
