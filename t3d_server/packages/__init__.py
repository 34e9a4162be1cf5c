"""Algorithm packages: from an author's folder to code a replica can load."""
