"""Engines: every architecture behind one contract, 80 ms in and 80 ms out."""
