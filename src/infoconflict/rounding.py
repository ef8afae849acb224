"""How numbers are rounded where people read them: half up and in decimal, so that 23 of 80 are 28.8 %, as by hand."""

from decimal import ROUND_HALF_UP, Decimal


def rounded(value: float, digits: int = 1) -> str:
    """Return a number with ``digits`` decimals; half a unit goes away from zero, and zero has no sign."""
    # By way of nine decimals: 100 * 0.2875 is a hair below 28.75 in floating point.
    exact = Decimal(f"{value:.9f}").quantize(Decimal(1).scaleb(-digits), rounding=ROUND_HALF_UP)
    return str(exact + 0)


def signed(value: float, digits: int = 1) -> str:
    """Return a number as :func:`rounded` does, with its sign."""
    text = rounded(value, digits)
    return text.replace("-", "\N{MINUS SIGN}") if text.startswith("-") else f"+{text}"
