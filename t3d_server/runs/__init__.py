"""Runs: their records, their execution and their coordination, without Ray."""
