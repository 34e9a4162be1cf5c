"""The linter: what `t3d check` finds in an algorithm folder without running its code."""
