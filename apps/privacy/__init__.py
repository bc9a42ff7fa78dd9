"""Offline mode that the kernel enforces: seal.py applies it, audit.py shows it."""
