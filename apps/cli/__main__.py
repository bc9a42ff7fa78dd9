"""`python -m apps.cli` is the `edge` command."""

from __future__ import annotations

from apps.cli.start import main

if __name__ == "__main__":
    main()
