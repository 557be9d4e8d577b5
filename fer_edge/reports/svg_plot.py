"""Plots as SVG, made by hand: what draws them elsewhere is too large for a Pi."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WIDTH: Final = 720
_HEIGHT: Final = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 20, 16, 48
_LEGEND: Final = 18  # height of a line of it
# Apart from one another for most colour-blind people (Okabe & Ito 2008).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_SHOWN: Final = 8  # names under bars
_DASHES: Final = ("", "6 3", "2 3")


@dataclass(frozen=True, slots=True)
class Series:
    """Points of one kind.

    Attributes:
        name: for the legend.
        points: x and y of each.
        line: whether they are joined; marked one by one without.
    """

    name: str
    points: Sequence[tuple[float, float]]
    line: bool = True


def plot(series: Sequence[Series], x_label: str, y_label: str, *, from_zero: bool = True) -> str:
    """An SVG image of series, at least one point in all.

    Args:
        series: what to draw.
        x_label: what the horizontal axis is, with its unit.
        y_label: likewise, the vertical one.
        from_zero: whether the vertical axis begins at 0.
    """
    points = [point for one in series for point in one.points]
    horizontal = _Axis.over((x for x, _ in points), _LEFT, _WIDTH - _RIGHT)
    vertical = _Axis.over((y for _, y in points), _HEIGHT - _BOTTOM, _TOP, from_zero=from_zero)
    drawn = "".join(_series(one, at, horizontal, vertical) for at, one in enumerate(series))
    legend = "".join(_legend(one, at) for at, one in enumerate(series))
    return _framed(f"{_grid(horizontal, vertical)}{drawn}{legend}", x_label, y_label, len(series))


def _framed(drawn: str, x_label: str, y_label: str, names: int) -> str:
    """The image around what is drawn, with room for so many names in the legend."""
    height, bottom = _HEIGHT + _LEGEND * names, _HEIGHT - _BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        f' role="img" font-family="system-ui, sans-serif" font-size="12" style="max-width:100%;background:#fff">'
        f"<title>{html.escape(f'{y_label} by {x_label}')}</title>"
        f"{drawn}"
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{bottom + 36}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
        f'<text transform="translate(16 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text></svg>"
    )


def bars(places: Sequence[str], shares: Mapping[str, Sequence[float]], x_label: str, y_label: str) -> str:
    """An SVG image of bars, each a stack of shares.

    Args:
        places: what stands under each bar, at least one; of many only some are shown.
        shares: a value of each bar for each share of it.
        x_label: what the bars are of.
        y_label: what their height is.
    """
    totals = [sum(values) for values in zip(*shares.values(), strict=True)]
    bottom = _HEIGHT - _BOTTOM
    vertical = _Axis.over(totals, bottom, _TOP, from_zero=True)
    wide = (_WIDTH - _RIGHT - _LEFT) / len(places)
    out = "".join(_line(tick, vertical) for tick in vertical.ticks)
    heights = [0.0] * len(places)
    for at, (name, values) in enumerate(shares.items()):
        colour, _ = _style(at)
        for place, value in enumerate(values):
            if value:
                low, high = vertical.at(heights[place]), vertical.at(heights[place] + value)
                out += (
                    f'<rect x="{_LEFT + wide * (place + 0.05):.1f}" y="{high}" width="{wide * 0.9:.1f}"'
                    f' height="{low - high:.1f}" fill="{colour}">'
                    f"<title>{html.escape(f'{places[place]}, {name}: {value:g}')}</title></rect>"
                )
                heights[place] += value
        out += _legend(Series(name, []), at)
    every = math.ceil(len(places) / _SHOWN)
    for place in range(0, len(places), every):
        out += (
            f'<text x="{_LEFT + wide * (place + 0.5):.1f}" y="{bottom + 18}" text-anchor="middle">'
            f"{html.escape(places[place])}</text>"
        )
    return _framed(out, x_label, y_label, len(shares))


@dataclass(frozen=True, slots=True)
class _Axis:
    """From values to pixels."""

    ticks: tuple[float, ...]
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float, *, from_zero: bool = False) -> _Axis:
        """An axis that has room for all values, with ticks at round numbers."""
        known = [*values, *([0.0] if from_zero else [])]
        low, high = min(known), max(known)
        wide = high - low or abs(high) or 1.0
        rough = wide / 6
        unit = 10 ** math.floor(math.log10(rough))
        step = next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough)
        first, last = math.floor(low / step), math.ceil(high / step)
        return cls(tuple(step * n for n in range(first, max(last, first + 1) + 1)), start, end)

    def at(self, value: float) -> float:
        """The pixel of a value."""
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return round(self.start + share * (self.end - self.start), 1)


def _grid(horizontal: _Axis, vertical: _Axis) -> str:
    out = ""
    for tick in horizontal.ticks:
        x = horizontal.at(tick)
        out += (
            f'<path d="M{x} {vertical.start}V{vertical.end}" stroke="#ddd"/>'
            f'<text x="{x}" y="{vertical.start + 18}" text-anchor="middle">{tick:.6g}</text>'
        )
    return out + "".join(_line(tick, vertical) for tick in vertical.ticks)


def _line(tick: float, vertical: _Axis) -> str:
    y = vertical.at(tick)
    return (
        f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#ddd"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:.6g}</text>'
    )


def _style(at: int) -> tuple[str, str]:
    return _COLOURS[at % len(_COLOURS)], _DASHES[at // len(_COLOURS) % len(_DASHES)]


def _series(one: Series, at: int, horizontal: _Axis, vertical: _Axis) -> str:
    colour, dash = _style(at)
    places = [(horizontal.at(x), vertical.at(y)) for x, y in one.points]
    out = ""
    if one.line:
        path = " ".join(f"{x},{y}" for x, y in places)
        out = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dash}"/>'
    if len(places) <= 30:
        out += "".join(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in places)
    return out


def _legend(one: Series, at: int) -> str:
    colour, dash = _style(at)
    y = _HEIGHT + _LEGEND * at + 4
    return (
        f'<path d="M{_LEFT} {y}h24" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
        f'<text x="{_LEFT + 32}" y="{y + 4}">{html.escape(one.name)}</text>'
    )
