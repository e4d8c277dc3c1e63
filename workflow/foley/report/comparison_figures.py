"""Figures that compare methods: matrices of differences, learning curves and bars of spread."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from foley.report import svg

_BETTER, _WORSE, _NOISE = 2, 3, 7  # series: green, red and slate, as in the verdict


@dataclass(frozen=True)
class Difference:
    """A cell of a matrix: a difference (fraction), whether it is noise, and what its tooltip says."""

    value: float
    noise: bool
    tip: str


@dataclass(frozen=True)
class Curve:
    """Values of one method along the axis: (x, value, low, high), fractions; x > 0 where the axis is logarithmic."""

    name: str
    colour: int
    points: tuple[tuple[float, float, float | None, float | None], ...]


@dataclass(frozen=True)
class CurvePanel:
    """Curves of one variant, and named horizontal lines (name, number of the colour, value)."""

    title: str
    curves: tuple[Curve, ...]
    lines: tuple[tuple[str, int, float], ...] = ()


@dataclass(frozen=True)
class Bars:
    """One method's bars, in the order of their names; None is not drawn. ``total`` is a mark across them."""

    name: str
    values: tuple[float | None, ...]
    total: float | None = None


def _swatch(series: int, opacity: float) -> Callable[[float, float], str]:
    return lambda x, y: (
        f'<path class="f{series}" fill-opacity="{opacity:g}" d="{svg.rectangle(x + 2, y - 6, 12, 12)}"/>'
    )


def differences_svg(
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[int, int], Difference],
    title: str,
    words: tuple[str, str] = ("row is better", "row is worse"),
) -> str:
    """A matrix of signed differences in points: green above zero, red below, grey where it is noise.

    Args:
        rows, columns: Names of the rows and columns.
        cells: (row, column) -> difference; what is missing stays empty.
        words: What green and red mean.
    """
    same = list(rows) == list(columns)
    names = [svg.shorten_middle(name, 20 if len(columns) > 10 else 26) for name in rows]
    # Columns bear numbers: slanted names would need more room than a phone has.
    left = 8 + 6.4 * max((len(name) for name in names), default=4) + (18 if same else 0)
    wide = float(np.clip((svg.NARROW - left) / max(len(columns), 1), 19, 52))
    high = float(np.clip(wide, 20, 28))
    entries = [(_swatch(_BETTER, 0.75), words[0]), (_swatch(_WORSE, 0.75), words[1])]
    if any(cell.noise for cell in cells.values()):
        entries.append((_swatch(_NOISE, 0.16), "noise"))
    marks, y = svg.legend(entries, 18.0)
    body = [svg.text(0, 13, svg.shorten(title, 62), "t", title=title), *marks]
    if not same:
        key = [(_numeral(number), svg.shorten(name, 30)) for number, name in enumerate(columns, 1)]
        marks, y = svg.legend(key, y)
        body += marks
    top = y + 20
    for number, name in enumerate(columns):
        body.append(svg.text(left + (number + 0.5) * wide, top - 6, str(number + 1), "m sm", "middle", name))
    most = max((abs(cell.value) for cell in cells.values() if not cell.noise), default=1.0) or 1.0
    for number, name in enumerate(names):
        y = top + number * high
        edge = left - 7 - (18 if same else 0)
        body.append(svg.text(edge, y + high / 2 + 4, name, "sm", "end", rows[number]))
        if same:
            body.append(svg.text(left - 6, y + high / 2 + 4, str(number + 1), "m sm", "end"))
        for place in range(len(columns)):
            cell = cells.get((number, place))
            if cell is not None:
                body.append(_tile(cell, left + place * wide, y, wide, high, most))
    width = max(svg.NARROW, left + len(columns) * wide)
    return svg.figure(top + len(rows) * high + 4, body, title, width)


def _in_cell(value: float, wide: float) -> str:
    """Points as a cell has room for them: a small one drops the tenth, then the plus, which the colour says."""
    text = f"{100 * value:+.{1 if wide >= 34 else 0}f}".replace("-", "−")
    if not any(digit in text for digit in "123456789"):
        return "0"
    return text.removeprefix("+") if wide < 22 else text


def _numeral(number: int) -> Callable[[float, float], str]:
    return lambda x, y: svg.text(x + 16, y + 4, str(number), "b sm", "end")


def _tile(cell: Difference, x: float, y: float, wide: float, high: float, most: float) -> str:
    opacity = 0.16 if cell.noise else 0.25 + 0.75 * abs(cell.value) / most
    series = _NOISE if cell.noise else _BETTER if cell.value > 0 else _WORSE
    shade = "m" if cell.noise else "over" if opacity > 0.85 else "half" if opacity > 0.6 else ""
    shown = _in_cell(cell.value, wide)
    size = "xs" if wide < 22 else "sm"
    square = svg.rectangle(x + 0.5, y + 0.5, wide - 1, high - 1)
    return (
        f"<g><title>{svg.clean(cell.tip)}</title>"
        f'<path class="f{series}" fill-opacity="{opacity:.2f}" d="{square}"/>'
        + svg.text(x + wide / 2, y + high / 2 + 4, shown, f"{size} {shade}".strip(), "middle")
        + "</g>"
    )


def shares_svg(
    rows: Sequence[str], columns: Sequence[str], shares: Mapping[tuple[int, int], float], title: str
) -> str:
    """A matrix of shares in per cent, the darker the more.

    Args:
        rows, columns: Names of the rows and columns; the columns bear numbers, which a legend explains.
        shares: (row, column) -> fraction; what is missing stays empty.
    """
    names = [svg.shorten_middle(name, 26) for name in rows]
    left = 8 + 6.4 * max((len(name) for name in names), default=4)
    wide = float(np.clip((svg.NARROW - left) / max(len(columns), 1), 24, 60))
    high = 22.0
    key = [(_numeral(number), svg.shorten(name, 30)) for number, name in enumerate(columns, 1)]
    marks, y = svg.legend(key, 18.0)
    body = [svg.text(0, 13, svg.shorten(title, 62), "t", title=title), *marks]
    top = y + 20
    for number, name in enumerate(columns):
        body.append(svg.text(left + (number + 0.5) * wide, top - 6, str(number + 1), "m sm", "middle", name))
    for number, name in enumerate(names):
        y = top + number * high
        body.append(svg.text(left - 7, y + high / 2 + 4, name, "sm", "end", rows[number]))
        for place, column in enumerate(columns):
            if (share := shares.get((number, place))) is None:
                continue
            opacity = 0.06 + 0.9 * float(np.clip(share, 0, 1))
            shade = "over" if opacity > 0.85 else "half" if opacity > 0.6 else ""
            x, text = left + place * wide, f"{100 * share:.0f}"
            square = svg.rectangle(x + 0.5, y + 0.5, wide - 1, high - 1)
            tip = svg.clean(f"{rows[number]}, {column}: {100 * share:.1f} %")
            body.append(
                f'<g><title>{tip}</title><path class="f0" fill-opacity="{opacity:.2f}" d="{square}"/>'
                + svg.text(x + wide / 2, y + high / 2 + 4, text, f"sm {shade}".strip(), "middle")
                + "</g>"
            )
    width = max(svg.NARROW, left + len(columns) * wide)
    return svg.figure(top + len(rows) * high + 4, body, title, width)


def learning_curves_svgs(
    panels: Sequence[CurvePanel], x_title: str, named: Mapping[float, str] | None = None
) -> list[str]:
    """Lines with interval bands over a logarithmic x axis, a figure per panel, all with the same axes.

    Names stand at the ends of the lines. Pointing at a line dims the others.

    Args:
        named: Names of places on the axis, which is then linear: of ratios in dB, and of what has none.
    """
    points = [point for panel in panels for curve in panel.curves for point in curve.points]
    if not points:
        return []
    values = [v for _, *ends in points for v in ends if v is not None]
    values += [value for panel in panels for _, _, value in panel.lines]
    ticks = svg.ticks(100 * min(values), max(100 * max(values), 100 * min(values) + 1), 6)
    xs = sorted({x for x, *_ in points})
    names = [n for p in panels for n in (*(c.name for c in p.curves), *(name for name, _, _ in p.lines))]
    longest = max(len(svg.shorten_middle(name, 22)) for name in names)
    right = svg.NARROW - 26 - 6.2 * longest
    return [_curves_svg(panel, xs, ticks, right, x_title, named) for panel in panels]


def _curves_svg(
    panel: CurvePanel,
    xs: Sequence[float],
    ticks: Sequence[float],
    right: float,
    x_title: str,
    named: Mapping[float, str] | None,
) -> str:
    left, top = 42.0, 30.0
    bottom = top + max(230.0, 14.0 * (len(panel.curves) + len(panel.lines)))
    span = math.log(xs[-1] / xs[0]) if named is None else xs[-1] - xs[0]

    def at_x(value: float) -> float:
        if not span:
            return (left + right) / 2
        part = math.log(value / xs[0]) if named is None else value - xs[0]
        return left + (right - left) * part / span

    def at_y(fraction: float) -> float:
        return bottom - (bottom - top) * (100 * fraction - ticks[0]) / (ticks[-1] - ticks[0])

    body = [svg.text(0, 13, svg.shorten(panel.title, 62), "t", title=panel.title)]
    for tick in ticks:
        y = at_y(tick / 100)
        body.append(svg.line(left, y, right, y, "grid"))
        unit = " %" if tick == ticks[-1] else ""
        body.append(svg.text(left - 6, y + 4, svg.number(round(tick, 6)) + unit, "m sm", "end"))
    body.append(svg.line(left, bottom, right, bottom, "axis"))
    free = -math.inf
    for value in xs:
        name = f"{value:g}" if named is None else named.get(value, f"{value:g}")
        half = svg.CHAR * len(name) / 2
        if at_x(value) - half > free:
            body.append(svg.text(at_x(value), bottom + 16, name, "m sm", "middle"))
            free = at_x(value) + half + 4
    body.append(svg.text((left + right) / 2, bottom + 33, x_title, "m sm", "middle"))

    ends = [at_y(value) for _, _, value in panel.lines] + [at_y(c.points[-1][1]) for c in panel.curves]
    places = _apart(ends, 13.0, top, bottom)
    opacity = float(np.clip(0.5 / max(len(panel.curves), 1), 0.05, 0.18))  # many bands lie over one another
    groups = []
    for (name, colour, value), place in zip(panel.lines, places, strict=False):
        dash = ' stroke-width="1.6" stroke-dasharray="7 3"'
        mark = svg.line(left, at_y(value), right, at_y(value), f"s{_series(colour)}", dash)
        tip = f"{name}: {100 * value:.1f} %"
        groups.append(_named(name, colour, mark, right, at_y(value), place, right, tip))
    for curve, place in zip(panel.curves, places[len(panel.lines) :], strict=True):
        x, y = at_x(curve.points[-1][0]), at_y(curve.points[-1][1])
        mark = _curve(curve, at_x, at_y, opacity)
        groups.append(_named(curve.name, curve.colour, mark, x, y, place, right, curve.name))
    body.append(f'<g class="curves">{"".join(groups)}</g>')
    return svg.figure(bottom + 40, body, panel.title, svg.NARROW)


def _series(colour: int) -> int:
    return colour % len(svg.PALETTE)


def _curve(
    curve: Curve, at_x: Callable[[float], float], at_y: Callable[[float], float], opacity: float
) -> str:
    series = _series(curve.colour)
    parts = []
    band = [(x, low, high) for x, _, low, high in curve.points if low is not None and high is not None]
    if len(band) > 1:
        ring = [(at_x(x), at_y(high)) for x, _, high in band]
        ring += [(at_x(x), at_y(low)) for x, low, _ in reversed(band)]
        path = "L".join(f"{svg.px(x)} {svg.px(y)}" for x, y in ring)
        parts.append(f'<path class="f{series} band" fill-opacity="{opacity:.2f}" d="M{path}z"/>')
    path = "L".join(f"{svg.px(at_x(x))} {svg.px(at_y(value))}" for x, value, _, _ in curve.points)
    # More methods than colours: those of the second round are dashed.
    dash = ' stroke-dasharray="2 2.5"' if curve.colour >= len(svg.PALETTE) else ""
    parts.append(f'<path class="s{series}" fill="none" stroke-width="1.8"{dash} d="M{path}"/>')
    parts += [svg.circle(at_x(x), at_y(value), series, 2.6) for x, value, _, _ in curve.points]
    return "".join(parts)


def _named(
    name: str, colour: int, mark: str, x: float, y: float, place: float, right: float, tip: str
) -> str:
    """A line with its name right of it, and a thin lead from the one to the other."""
    lead = f"M{svg.px(x + 3)} {svg.px(y)}L{svg.px(right + 12)} {svg.px(place)}"
    return (
        f"<g><title>{svg.clean(tip)}</title>{mark}"
        f'<path class="s{_series(colour)}" fill="none" stroke-opacity=".5" d="{lead}"/>'
        + svg.text(right + 15, place + 4, svg.shorten_middle(name, 22), f"sm f{_series(colour)}")
        + "</g>"
    )


def _apart(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near the wanted ones, at least ``gap`` from one another, within [low, high] if they fit."""
    order = sorted(range(len(wanted)), key=lambda number: wanted[number])
    places = [0.0] * len(wanted)
    free = -math.inf
    for number in order:
        places[number] = free = max(wanted[number], free + gap, low)
    free = max(high, low + gap * (len(wanted) - 1)) + gap
    for number in reversed(order):
        places[number] = free = min(places[number], free - gap)
    return places


def bars_svgs(panels: Sequence[tuple[str, Sequence[Bars]]], names: Sequence[str], total: str) -> list[str]:
    """Grouped horizontal bars in points, a figure per panel, all with the same axis.

    Grouped, not stacked: standard deviations don't add up (their squares do).

    Args:
        panels: Titles with the methods' bars.
        names: What the bars are, in the order of `Bars.values`.
        total: What the mark across a method's bars is.
    """
    drawn = [bars for _, rows in panels for bars in rows]
    values = [value for bars in drawn for value in (*bars.values, bars.total) if value is not None]
    axis = svg.Axis(1, svg.NARROW - 44, values, signed=False)
    entries = [(_swatch(number, 1), name) for number, name in enumerate(names)]
    if any(bars.total is not None for bars in drawn):
        entries.append((lambda x, y: svg.line(x + 8, y - 6, x + 8, y + 6, "axis", _TOTAL), total))
    return [_bars_svg(title, rows, axis, entries) for title, rows in panels]


_TOTAL = ' stroke-width="2"'


def _bars_svg(
    title: str,
    rows: Sequence[Bars],
    axis: svg.Axis,
    entries: Sequence[tuple[Callable[[float, float], str], str]],
) -> str:
    marks, y = svg.legend(entries, 18.0)
    top, thick = y + 4, 7.0
    many = max((len(bars.values) for bars in rows), default=1)
    step = 26 + thick * many
    bottom = top + step * len(rows)
    body = [svg.text(0, 13, svg.shorten(title, 62), "t", title=title), *marks]
    body += axis.draw(top, bottom, "points")
    for number, bars in enumerate(rows):
        y = top + step * number
        body.append(svg.row_label(bars.name, "", 7, y + 14))
        line = 0
        for series, value in enumerate(bars.values):
            if value is not None:
                # What is there is seen, be it next to nothing.
                wide = max(axis(value) - axis(0), 1.0)
                path = svg.rectangle(axis(0), y + 19 + line * thick, wide, thick - 1)
                body.append(f'<path class="f{series}" d="{path}"/>')
                line += 1
        if bars.total is not None:
            x = axis(bars.total)
            body.append(svg.line(x, y + 17, x, y + 20 + thick * max(line, 1), "axis", _TOTAL))
    return svg.figure(bottom + 22, body, title, svg.NARROW)
