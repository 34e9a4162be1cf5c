"""The durable state of runs: a log of events in batches, snapshots of what they add up to, and pages of ended runs."""
