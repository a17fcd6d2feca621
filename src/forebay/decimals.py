"""Decimals as Avro has them: a whole number, and how many of its digits stand behind the point."""

from __future__ import annotations

from decimal import Decimal


def unscale(value: Decimal, precision: int, scale: int) -> int | None:
    """Return ``value`` times 10 to the power of ``scale``, or None if it does not fit exactly."""
    if not value.is_finite() or (value and value.adjusted() >= precision - scale):
        return None
    sign, digits, exponent = value.as_tuple()
    if not value or not isinstance(exponent, int):
        return 0
    surplus = -(exponent + scale)
    if surplus > 0:
        if surplus >= len(digits) or any(digits[-surplus:]):
            return None
        digits = digits[:-surplus]
    return int(Decimal((sign, digits, max(-surplus, 0))))
