"""Runs of the former layout of buckets: read and taken over; nothing else needs it."""
