"""Numbers as a reader sees them: AP in points, differences with a sign, and ``NONE`` where there is none."""

from __future__ import annotations

NONE = "–"


def points(share: float | None) -> str:
    """0.392 is 39.2, as the paper prints AP."""
    return NONE if share is None else minus(f"{100 * share:.1f}")


def signed(points: float | None) -> str:
    """Points with a sign: +0.7; two decimals where one would round a difference away: +0.04."""
    if points is None:
        return NONE
    if points == 0:
        return "0.0"
    return minus(f"{points:+.1f}" if abs(points) >= 0.05 else f"{points:+.2f}")


def signed_share(share: float | None) -> str:
    """A difference of two shares, in points."""
    return NONE if share is None else signed(100 * share)


def share(value: float | None) -> str:
    """0.0012 is 0.12 %."""
    if value is None:
        return NONE
    return f"{100 * value:.1f} %" if value >= 0.01 or value == 0 else f"{100 * value:.2g} %"


def milliseconds(value: float | None) -> str:
    return NONE if value is None else f"{value:.1f}"


def large(value: float | None) -> str:
    """1.23 G, 0.93 M."""
    if value is None:
        return NONE
    return f"{value / 1e9:.2f} G" if value >= 1e9 else f"{value / 1e6:.2f} M"


def line(text: object) -> str:
    """On one line."""
    return " ".join(str(text).split())


def minus(text: str) -> str:
    return text.replace("-", "−")
