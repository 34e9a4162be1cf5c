"""Where bytes are kept: one interface, in memory and on S3."""
