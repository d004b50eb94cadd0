"""Numbers as text that claims no more than the number does."""

from __future__ import annotations


def percent(share: float) -> str:
    """A share as per cent, in whole numbers where that does not claim none or all of it."""
    return f"{_short_of_the_ends(100 * share)} %"


def limits(low: float, high: float) -> str:
    """Two limits of a share as per cent, without the sign."""
    return f"{percent(low).removesuffix(' %')} to {percent(high).removesuffix(' %')}"


def points(difference: float) -> str:
    """A difference of shares as signed percentage points; 0 only where it is 0."""
    text = _short_of_the_ends(abs(100 * difference))
    if text == "0":
        return text
    return f"{'-' if difference < 0 else '+'}{text}"


def at_most(low: float, high: float) -> str:
    """The further of two limits around 0, as an amount in points with one decimal where it has any."""
    return f"{100 * max(abs(low), abs(high)):.1f}".removesuffix(".0")


def p_value(p: float) -> str:
    """A p-value with three decimals, or as below 0.001."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"  # noqa: PLR2004 - the last decimal shown


def _short_of_the_ends(value: float) -> str:
    """*value* from 0 to 100 with as few decimals as keep it off an end that it has not reached."""
    for decimals in range(6):
        text = f"{value:.{decimals}f}"
        if float(text) not in {0.0, 100.0}:
            return text
    return f"{value:.0f}"
