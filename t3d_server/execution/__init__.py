"""The side of the algorithm's process: loads an algorithm, works on runs, and reports them."""
