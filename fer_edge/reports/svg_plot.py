"""Draw plots as SVG without a plotting library, which would be too large for a Pi."""

from __future__ import annotations

import html
import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WIDTH: Final = 720
_HEIGHT: Final = 340
_LEFT, _RIGHT, _TOP, _BOTTOM = 88, 20, 16, 56
_LEGEND: Final = 24  # height of a line of the legend
_LEGEND_MARK: Final = 52  # width of an entry without its name
_LETTER: Final = 12  # width of a letter on a narrow screen, where the text is larger
# Distinguishable for most colour-blind people (Okabe & Ito 2008).
_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "currentColor")
_GRID: Final = 'stroke="currentColor" stroke-opacity="0.18"'  # of the text's colour, as pages may be dark
_MAX_BAR_LABELS: Final = 8
_ROUNDING: Final = 1e-9
_DASHES: Final = ("", "6 3", "2 3")


@dataclass(frozen=True, slots=True)
class Series:
    """A series of points.

    Attributes:
        name: name in the legend.
        points: x and y of each point.
        line: whether a line joins the points; otherwise each point is marked.
    """

    name: str
    points: Sequence[tuple[float, float]]
    line: bool = True


def plot(series: Sequence[Series], x_label: str, y_label: str, *, from_zero: bool = True) -> str:
    """Return an SVG image of series.

    Args:
        series: the series, with at least one point in all.
        x_label: label of the horizontal axis, with its unit.
        y_label: label of the vertical axis, with its unit.
        from_zero: whether the vertical axis starts at 0.
    """
    points = [point for each in series for point in each.points]
    horizontal = _Axis.over((x for x, _ in points), _LEFT, _WIDTH - _RIGHT)
    vertical = _Axis.over((y for _, y in points), _HEIGHT - _BOTTOM, _TOP, from_zero=from_zero)
    drawn = "".join(_draw_series(each, number, horizontal, vertical) for number, each in enumerate(series))
    legend = [(each.name, *_style(number)) for number, each in enumerate(series)]
    return _frame(f"{_draw_grid(horizontal, vertical)}{drawn}", x_label, y_label, legend)


def _frame(drawn: str, x_label: str, y_label: str, legend: Sequence[tuple[str, str, str]]) -> str:
    """Return the image with its axis labels and its legend: the name, colour and dashes of each series."""
    widest = max(len(name) for name, *_ in legend) * _LETTER + _LEGEND_MARK
    columns = max(1, min(len(legend), (_WIDTH - _LEFT - _RIGHT) // widest))
    height, bottom = _HEIGHT + _LEGEND * math.ceil(len(legend) / columns) + 4, _HEIGHT - _BOTTOM
    entries = "".join(
        _legend_entry(*entry, _LEFT + number % columns * widest, _HEIGHT + _LEGEND * (number // columns) + 8)
        for number, entry in enumerate(legend)
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}"'
        f' role="img" font-family="system-ui, sans-serif" font-size="12" fill="currentColor" style="max-width:100%">'
        f"<title>{html.escape(f'{y_label} by {x_label}')}</title>"
        f"{drawn}{entries}"
        f'<text x="{(_LEFT + _WIDTH - _RIGHT) / 2}" y="{bottom + 48}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
        f'<text transform="translate(16 {(_TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text></svg>"
    )


def bars(
    labels: Sequence[str],
    shares: Mapping[str, Sequence[float]],
    x_label: str,
    y_label: str,
    colours: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return an SVG image of stacked bars.

    Args:
        labels: the label under each bar, at least one; of many labels only some are shown.
        shares: for each name in the legend, its share of each bar.
        x_label: label of the horizontal axis.
        y_label: label of the vertical axis.
        colours: the CSS colour of each name; the others have colours of their own.
    """
    totals = [sum(values) for values in zip(*shares.values(), strict=True)]
    bottom = _HEIGHT - _BOTTOM
    counts = all(value == int(value) for values in shares.values() for value in values)
    vertical = _Axis.over(totals, bottom, _TOP, from_zero=True, min_step=1.0 if counts else 0.0)
    width = (_WIDTH - _RIGHT - _LEFT) / len(labels)
    out = "".join(_grid_line(tick, vertical) for tick in vertical.ticks)
    heights = [0.0] * len(labels)
    for number, (name, values) in enumerate(shares.items()):
        colour = colours.get(name) or _style(number)[0]
        for bar, value in enumerate(values):
            if value:
                low, high = vertical.at(heights[bar]), vertical.at(heights[bar] + value)
                out += (
                    f'<rect x="{_LEFT + width * (bar + 0.05):.1f}" y="{high}" width="{width * 0.9:.1f}"'
                    f' height="{low - high:.1f}" fill="{colour}">'
                    f"<title>{html.escape(f'{labels[bar]}, {name}: {value:g}')}</title></rect>"
                )
                heights[bar] += value
    fitting = int((_WIDTH - _RIGHT - _LEFT) // ((max(map(len, labels)) + 1) * _LETTER))
    every = math.ceil(len(labels) / max(1, min(_MAX_BAR_LABELS, fitting)))
    for bar in range(0, len(labels), every):
        out += (
            f'<text x="{_LEFT + width * (bar + 0.5):.1f}" y="{bottom + 24}" text-anchor="middle">'
            f"{html.escape(labels[bar])}</text>"
        )
    legend = [(name, colours.get(name) or _style(number)[0], "") for number, name in enumerate(shares)]
    return _frame(out, x_label, y_label, legend)


@dataclass(frozen=True, slots=True)
class _Axis:
    """An axis, which maps values to pixels."""

    ticks: tuple[float, ...]
    start: float
    end: float

    @classmethod
    def over(
        cls, values: Iterable[float], start: float, end: float, *, from_zero: bool = False, min_step: float = 0.0
    ) -> _Axis:
        """Return an axis that covers all values, with ticks at round numbers."""
        known = [*values, *([0.0] if from_zero else [])]
        low, high = min(known), max(known)
        wide = high - low or abs(high) or 1.0
        rough = wide / 6
        unit = 10 ** math.floor(math.log10(rough))
        step = max(min_step, next(unit * times for times in (1, 2, 5, 10) if unit * times >= rough))
        # Shares that add up to a little more than 100 % do not reach the next tick.
        first, last = math.floor(low / step + _ROUNDING), math.ceil(high / step - _ROUNDING)
        return cls(tuple(step * n for n in range(first, max(last, first + 1) + 1)), start, end)

    def at(self, value: float) -> float:
        """Return the pixel of a value."""
        share = (value - self.ticks[0]) / (self.ticks[-1] - self.ticks[0])
        return round(self.start + share * (self.end - self.start), 1)


def _draw_grid(horizontal: _Axis, vertical: _Axis) -> str:
    out = ""
    for tick in horizontal.ticks:
        x = horizontal.at(tick)
        out += (
            f'<path d="M{x} {vertical.start}V{vertical.end}" {_GRID}/>'
            f'<text x="{x}" y="{vertical.start + 24}" text-anchor="middle">{tick:.6g}</text>'
        )
    return out + "".join(_grid_line(tick, vertical) for tick in vertical.ticks)


def _grid_line(tick: float, vertical: _Axis) -> str:
    y = vertical.at(tick)
    return (
        f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" {_GRID}/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{tick:.6g}</text>'
    )


def _style(number: int) -> tuple[str, str]:
    return _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]


def _draw_series(series: Series, number: int, horizontal: _Axis, vertical: _Axis) -> str:
    colour, dash = _style(number)
    pixels = [(horizontal.at(x), vertical.at(y)) for x, y in series.points]
    out = ""
    if series.line:
        path = " ".join(f"{x},{y}" for x, y in pixels)
        out = f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.6" stroke-dasharray="{dash}"/>'
    if len(pixels) <= 30:
        out += "".join(f'<circle cx="{x}" cy="{y}" r="3.5" fill="{colour}"/>' for x, y in pixels)
    return out


def _legend_entry(name: str, colour: str, dash: str, x: int, y: int) -> str:
    return (
        f'<path d="M{x} {y}h24" stroke="{colour}" stroke-width="3" stroke-dasharray="{dash}"/>'
        f'<text x="{x + 32}" y="{y + 4}">{html.escape(name)}</text>'
    )
