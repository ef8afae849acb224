"""McNemar's exact test: whether one model is right more often than another on the same rows (McNemar 1947, Psychometrika 12)."""


def mcnemar(first_only: int, second_only: int) -> float:
    """Return the two-sided p-value of the exact test on the discordant rows.

    The probability, were each discordant row a fair coin, of a split at least as uneven; 1 where there is none.

    Raises
    ------
    ValueError
        If a count is negative.
    """
    if first_only < 0 or second_only < 0:
        raise ValueError(f"counts must not be negative, got {first_only} and {second_only}")
    n, fewer = first_only + second_only, min(first_only, second_only)
    if 2 * fewer == n:
        return 1.0
    # Whole numbers up to the last step: in floating point, powers of one half vanish long before their sum does.
    tail, term = 0, 1
    for k in range(fewer + 1):
        tail += term
        term = term * (n - k) // (k + 1)
    return 2 * tail / 2**n
