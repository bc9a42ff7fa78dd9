"""Numbers as people speak them."""

from __future__ import annotations

_ONES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen",
)  # fmt: skip
_TENS = ("twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety")


def number_words(n: int) -> str:
    """0 to 199 in words."""
    if n >= 100:
        rest = f" and {number_words(n - 100)}" if n > 100 else ""
        return f"one hundred{rest}"
    if n < 20:
        return _ONES[n]
    tens = _TENS[n // 10 - 2]
    return tens if n % 10 == 0 else f"{tens} {_ONES[n % 10]}"
