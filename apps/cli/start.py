"""Where `edge` begins. A key of the desktop that mutes must not wait for libraries to be imported.

`edge ctl WORD` in its plain forms is answered here with nothing but a socket; everything else, and
whatever is wrong, goes through the door (main.py).
"""

from __future__ import annotations

import sys


def main(argv: list[str] | None = None) -> None:
    """Run `edge` and exit, as apps.cli.main.main does.

    argv: arguments without the program's name; None takes those of the process.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if arguments[:1] == ["ctl"]:
        from apps.cli.keys import answered

        code = answered(arguments[1:])
        if code is not None:
            sys.exit(code)
    from apps.cli.main import main as whole

    whole(arguments)
