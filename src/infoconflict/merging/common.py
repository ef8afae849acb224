"""What the merge methods share: the models' names in a YAML file, and the checks of their settings."""

BACKDOORED, CONFLICT, BASE = "backdoored", "conflict", "base"


def check_t(t: float) -> None:
    """Raise ``ValueError`` unless ``t`` is a weight."""
    if not 0 <= t <= 1:
        raise ValueError(f"t must be in [0, 1], got {t}")


def backdoored_weight(t: float) -> float:
    """Return 1 - t as a person would write it (0.7, not 0.7000000000000001)."""
    return round(1 - t, 12)
