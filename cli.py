"""The `restore` command's entry point."""

from __future__ import annotations

import sys

from restore.commands.ends import flushed, leave_at_once, open_streams


def main() -> None:
    """Run the command and end with a documented exit code."""
    leave_at_once()
    open_streams()
    sys.exit(flushed(exit_code(sys.argv[1:])))


def exit_code(arguments: list[str]) -> int:
    """Run the command, report errors on stderr, and return the exit code."""
    # within the function, so that an interrupt of these imports leaves no traceback
    from restore.commands import app

    return app.exit_code(arguments)


if __name__ == "__main__":
    main()
