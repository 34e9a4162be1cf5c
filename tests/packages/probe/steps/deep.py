"""A submodule that fails."""


def explode(value: float) -> float:
    """Raise, some calls below `inference`."""
    checked_value = value * 2
    if checked_value is not None:
        raise ValueError(f"the image is too green: {checked_value}")
    return checked_value
