"""The v0 HTTP API, which desktop clients speak: another form of the same operations."""
