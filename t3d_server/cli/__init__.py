"""The `t3d` command."""

from __future__ import annotations

import sys

EXIT_INTERRUPTED = 130


def main() -> None:
    """Run the command line; see `app.main`. Ctrl-C ends it with 130, also while it still loads."""
    try:
        from t3d_server.cli import app

        app.main()
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
