"""The `t3d` command."""

from t3d_server.cli.app import main

__all__ = ["main"]
