"""Figures of the report: plain data in, one SVG string out.

The SVG is written by hand instead of by a plotting library: text stays text, equal data give equal bytes, and
one style sheet serves light and dark. Values that are shares come as fractions and are drawn in per cent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np

NARROW = 420.0  # what a phone shows without scrolling
WIDTH = 600.0
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
_CHAR = 6.6  # mean width of a 12 px glyph; SVG cannot measure text
_LABEL_CHARS = 36

# The series colours, told apart by colour-blind readers too; every second one darker. (light page, dark page)
PALETTE = (
    ("#3b6fb6", "#7fb0ee"),
    ("#c8661c", "#f0a065"),
    ("#2f8756", "#79c99a"),
    ("#b4434e", "#ee8a92"),
    ("#7a5fb0", "#b9a3ea"),
    ("#8a6d3b", "#cbb07d"),
    ("#b9568f", "#ec9fd0"),
    ("#5d7a8c", "#a5bccb"),
    ("#7d8a22", "#c8d36e"),
    ("#1f8a98", "#6ccfdb"),
)


def _rules(dark: bool) -> str:
    fg, muted, grid, ground = (
        ("#e4e8ee", "#9aa6b5", "#2f3742", "#12161c") if dark else ("#1c2430", "#5f6b7a", "#e3e6ea", "#ffffff")
    )
    rules = [
        f".fy text{{fill:{fg}}}.fy .m{{fill:{muted}}}.fy .bg{{fill:{ground}}}.fy .over{{fill:{ground}}}",
        # Text on a cell of middling shade: the darker of the two reads better on either page.
        f".fy .half{{fill:{ground if dark else fg}}}",
        f".fy .grid{{stroke:{grid}}}.fy .axis{{stroke:{muted}}}.fy .halo{{stroke:{ground}}}",
        f".fy .dim{{stroke:{muted};stroke-opacity:.35}}",
    ]
    for number, pair in enumerate(PALETTE):
        rules.append(f".fy .f{number}{{fill:{pair[dark]}}}.fy .s{number}{{stroke:{pair[dark]}}}")
    return "".join(rules)


STYLE = (
    "<style>.fy{font:12px system-ui,-apple-system,'Segoe UI',Roboto,'Helvetica Neue',Arial,sans-serif;"
    "font-variant-numeric:tabular-nums}.fy .t{font-weight:600;font-size:13px}.fy .sm{font-size:11px}"
    ".fy .grid,.fy .axis{fill:none}.fy .halo{paint-order:stroke;stroke-width:3.5px;stroke-linejoin:round}"
    ".fy .b{font-weight:600}"
    f"{_rules(False)}@media (prefers-color-scheme:dark){{{_rules(True)}}}</style>"
)


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval (or none), as fractions."""

    label: str
    detail: str
    value: float
    low: float | None = None
    high: float | None = None
    published: tuple[tuple[float, float | None], ...] = ()


@dataclass(frozen=True)
class Panel:
    """One split of a leaderboard: rows, and named lines such as chance."""

    title: str
    rows: tuple[Interval, ...]
    lines: tuple[tuple[str, float], ...] = ()


def _clean(text: str) -> str:
    """Escaped for XML, without the control characters that XML cannot hold at all."""
    return escape("".join(c if c.isprintable() else " " for c in str(text)), quote=True)


def _short(text: str, limit: int = _LABEL_CHARS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _n(value: float) -> str:
    """A coordinate with one decimal and no more bytes than it needs."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def _text(x: float, y: float, text: str, style: str = "", anchor: str = "", title: str = "") -> str:
    style = f' class="{style}"' if style else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    tip = f"<title>{_clean(title)}</title>" if title else ""
    return f'<text x="{_n(x)}" y="{_n(y)}"{style}{anchor}>{tip}{_clean(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, style: str, extra: str = "") -> str:
    return f'<path class="{style}" d="M{_n(x1)} {_n(y1)}L{_n(x2)} {_n(y2)}"{extra}/>'


def _diamond(x: float, y: float, series: int) -> str:
    path = f"M{_n(x)} {_n(y - 5)}l5 5l-5 5l-5-5z"
    return f'<path class="s{series}" fill="none" stroke-width="1.6" d="{path}"/>'


def _svg(height: float, body: Sequence[str], title: str, width: float = WIDTH) -> str:
    size = f'viewBox="0 0 {_n(width)} {_n(height)}" width="{_n(width)}" height="{_n(height)}"'
    return (
        f'<svg{_NAMESPACE} class="fy" {size} role="img" aria-label="{_clean(title)}">{STYLE}'
        f'<rect class="bg" width="{_n(width)}" height="{_n(height)}"/>{"".join(body)}</svg>'
    )


def inline(svg: str) -> str:
    """A figure for an HTML page that holds `STYLE` once: without its own style sheet and namespace."""
    return svg.replace(STYLE, "").replace(_NAMESPACE, "")


def stack(svgs: Sequence[str], empty: str = "Nothing to show.") -> str:
    """Several figures as one, below each other; with none, a figure that says ``empty``."""
    if not svgs:
        return _svg(48, [_text(WIDTH / 2, 28, empty, "m", "middle")], empty)
    margin = 14.0
    body, y, width = [], margin, 0.0
    for svg in svgs:
        size = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
        assert size is not None  # every figure of this module says its size
        body.append(inline(svg).replace("<svg ", f'<svg x="{_n(margin)}" y="{_n(y)}" ', 1))
        width, y = max(width, float(size[1])), y + float(size[2]) + 16
    return _svg(y - 16 + margin, body, "Figures", width + 2 * margin)


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers that span at least [low, high]."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * k for k in (1, 2, 5, 10, 20) if span / (power * k) <= most)
    return [i * step for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def _number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


class _Axis:
    """A horizontal axis in per cent (or points) between two pixel columns."""

    def __init__(self, left: float, right: float, values: Sequence[float], signed: bool) -> None:
        finite = [100 * v for v in values if math.isfinite(v)] or [0.0]
        most = max(int((right - left) / 58), 2)  # as many as have room for their numbers
        self.ticks = _ticks(min(0.0, *finite), max(0.0 if signed else 1.0, *finite, min(finite) + 1), most)
        self.left, self.right, self.signed = left, right, signed

    def __call__(self, fraction: float) -> float:
        first, last = self.ticks[0], self.ticks[-1]
        return self.left + (self.right - self.left) * (100 * fraction - first) / (last - first)

    def draw(self, top: float, bottom: float, unit: str) -> list[str]:
        parts = []
        for tick in self.ticks:
            x = self(tick / 100)
            zero = abs(tick) < 1e-9
            parts.append(_line(x, top, x, bottom, "axis" if zero else "grid"))
            sign = "+" if self.signed and tick > 1e-9 else ""
            last = f" {unit}" if tick == self.ticks[-1] else ""
            parts.append(
                _text(max(x, 4), bottom + 15, sign + _number(round(tick, 6)) + last, "m sm", "middle")
            )
        return parts


def _row_label(row: Interval, x: float, y: float) -> str:
    """Label above its row: long names then cost no width, which a phone has not."""
    label = f'<tspan class="b">{_clean(_short(row.label))}</tspan>'
    detail = f'<tspan class="m" dx="7">{_clean(_short(row.detail))}</tspan>' if row.detail else ""
    return f'<text class="halo" x="{_n(x)}" y="{_n(y)}">{label}{detail}</text>'


def _whisker(row: Interval, axis: _Axis, y: float, series: int) -> list[str]:
    parts = []
    if row.low is not None and row.high is not None:
        x1, x2 = axis(row.low), axis(row.high)
        parts.append(_line(x1, y, x2, y, f"s{series}", ' stroke-width="2.2"'))
        parts.append(_line(x1, y - 4, x1, y + 4, f"s{series}", ' stroke-width="1.2"'))
        parts.append(_line(x2, y - 4, x2, y + 4, f"s{series}", ' stroke-width="1.2"'))
    parts.append(f'<circle class="f{series}" cx="{_n(axis(row.value))}" cy="{_n(y)}" r="4.5"/>')
    return parts


def gains_svg(rows: Sequence[Interval], title: str) -> str:
    """Gain of each method over its baseline with its interval: what the verdict says, drawn."""
    top, step = 26.0, 36.0
    values = [v for r in rows for v in (r.value, r.low, r.high) if v is not None]
    axis = _Axis(14, NARROW - 44, values, signed=True)
    bottom = top + step * len(rows)
    body = [_text(0, 13, title, "t"), *axis.draw(top, bottom, "points")]
    for number, row in enumerate(rows):
        y = top + step * number
        hurts = row.high is not None and row.high < 0
        helps = row.low is not None and row.low > 0
        body.append(_row_label(row, 0, y + 14))
        body += _whisker(row, axis, y + 26, 2 if helps else 3 if hurts else 7)
    return _svg(bottom + 22, body, title, NARROW)


def leaderboard_svgs(panels: Sequence[Panel]) -> list[str]:
    """Accuracy of each method with its interval, a figure per panel, all with the same axis and colours.

    References such as chance are lines; published figures are hollow and lie below ours.
    """
    rows = [row for panel in panels for row in panel.rows]
    values = [v for r in rows for v in (r.value, r.high, r.low) if v is not None]
    values += [value + (std or 0) for r in rows for value, std in r.published]
    values += [value for panel in panels for _, value in panel.lines]
    axis = _Axis(1, NARROW - 34, values, signed=False)
    colours = {name: n % len(PALETTE) for n, name in enumerate(dict.fromkeys(row.label for row in rows))}
    return [_leaderboard_svg(panel, axis, colours) for panel in panels]


def _leaderboard_svg(panel: Panel, axis: _Axis, colours: Mapping[str, int]) -> str:
    body, x = [_text(0, 13, _short(panel.title), "t")], 0.0
    lines = []
    for number, (name, value) in enumerate(panel.lines):
        dash = f' stroke-width="1.6" stroke-dasharray="{("5 3", "1.5 3")[number % 2]}"'
        text = f"{_short(name, 16)} {100 * value:.1f} %"
        body += [_line(x, 27, x + 16, 27, "axis", dash), _text(x + 21, 31, text, "m sm")]
        x += 42 + 6.1 * len(text)
        lines.append((value, dash))
    if any(row.published for row in panel.rows):
        body += [_diamond(x + 5, 27, 7), _text(x + 16, 31, "published, ± sd", "m sm")]
    top, y = 42.0, 42.0
    steps = [44.0 if row.published else 36.0 for row in panel.rows]
    bottom = top + sum(steps)
    body += axis.draw(top, bottom, "%")
    body += [_line(axis(value), top, axis(value), bottom, "axis", dash) for value, dash in lines]
    for row, step in zip(panel.rows, steps, strict=True):
        colour = colours[row.label]
        body.append(_row_label(row, 7, y + 14))
        body += _whisker(row, axis, y + 26, colour)
        for value, std in row.published:
            if std:
                x1, x2 = axis(value - std), axis(value + std)
                body.append(_line(x1, y + 37, x2, y + 37, f"s{colour}", ' stroke-opacity=".6"'))
            body.append(_diamond(axis(value), y + 37, colour))
        y += step
    return _svg(bottom + 22, body, panel.title, NARROW)


def class_gains_svgs(
    groups: Sequence[tuple[str, Sequence[str]]],
    methods: Mapping[str, int],
    gains: Mapping[tuple[str, str, str], float],
) -> list[str]:
    """Change of recall per class, a figure per split: right of zero is where synthetic data helped.

    Args:
        groups: Splits with the classes in each.
        methods: Methods to draw with the numbers of their colours (those of the leaderboard).
        gains: (split, class, method) -> gain as a fraction; what is missing is not drawn.
    """
    longest = max((len(_short(c, 22)) for _, classes in groups for c in classes), default=8)
    axis = _Axis(22 + _CHAR * longest, NARROW - 34, list(gains.values()), signed=True)
    return [_class_gains_svg(split, classes, methods, gains, axis) for split, classes in groups]


def _class_gains_svg(
    split: str,
    classes: Sequence[str],
    methods: Mapping[str, int],
    gains: Mapping[tuple[str, str, str], float],
    axis: _Axis,
) -> str:
    body, x = [_text(0, 13, split, "t")], 0.0
    for method, number in methods.items():
        body.append(f'<circle class="f{number % len(PALETTE)}" cx="{_n(x + 5)}" cy="27" r="4.5"/>')
        body.append(_text(x + 14, 31, _short(method, 24), "m sm"))
        x += 30 + 6.1 * len(_short(method, 24))
    top, step = 40.0, max(22.0, 6.0 * len(methods) + 8)
    bottom = top + step * len(classes)
    body += axis.draw(top, bottom, "points")
    for row, label in enumerate(classes):
        middle = top + step * (row + 0.5)
        body.append(_text(axis.left - 12, middle + 4, _short(label, 22), "", "end", label))
        for place, (method, number) in enumerate(methods.items()):
            if (gain := gains.get((split, label, method))) is None:
                continue
            # Marks of one class lie on lines of their own, so that equal gains don't hide one another.
            y, colour = middle + (place - (len(methods) - 1) / 2) * 6, number % len(PALETTE)
            body.append(_line(axis(0), y, axis(gain), y, f"s{colour}", ' stroke-width="1.6"'))
            body.append(f'<circle class="f{colour}" cx="{_n(axis(gain))}" cy="{_n(y)}" r="3.4"/>')
    return _svg(bottom + 22, body, split, max(NARROW, x))


def _spread(labels: list[tuple[float, float, str, int]]) -> list[tuple[float, float, str, int]]:
    """Labels moved down until none covers another."""
    placed: list[tuple[float, float, str, int]] = []
    for x, y, text, series in sorted(labels, key=lambda label: (label[1], label[0])):
        half = _CHAR * len(text) / 2
        while any(abs(y - py) < 13 and abs(x - px) < half + _CHAR * len(pt) / 2 for px, py, pt, _ in placed):
            y += 3
        placed.append((x, y, text, series))
    return placed


def map_svg(
    x: np.ndarray[Any, Any],
    y: np.ndarray[Any, Any],
    kinds: Sequence[str],
    labels: Sequence[str],
    title: str,
) -> str:
    """Embeddings in the plane: real unseen clips as dots, synthetic ones as crosses, seen ones grey.

    Args:
        x, y: Coordinates, one a point.
        kinds: ``seen``, ``unseen`` or ``synthetic`` a point.
        labels: Class name a point.
    """
    height, top, pad = 470.0, 44.0, 14.0
    kind, label = np.asarray(kinds, dtype=object), np.asarray(labels, dtype=object)
    body = [_text(0, 14, title, "t")]
    body.append('<circle class="f7" cx="6" cy="32" r="3"/>' + _text(15, 36, "real, unseen class", "m sm"))
    body.append(_cross([(134.0, 32.0)], 7) + _text(144, 36, "synthetic", "m sm"))
    body.append(_dots([(214.0, 32.0)], "dim", 4) + _text(223, 36, "real, seen classes", "m sm"))
    if len(x):
        # One scale for both axes: t-SNE distances have no unit, but they have no direction either.
        scale = min((WIDTH - 2 * pad) / max(np.ptp(x), 1e-9), (height - 2 * pad) / max(np.ptp(y), 1e-9))
        px = WIDTH / 2 + (x - (x.min() + x.max()) / 2) * scale
        py = top + height / 2 - (y - (y.min() + y.max()) / 2) * scale
        seen = kind == "seen"
        body.append(_dots(list(zip(px[seen], py[seen], strict=True)), "dim", 4))
        classes = sorted(set(label[~seen]))
        names = []
        for number, name in enumerate(classes):
            series, tip = number % len(PALETTE), f"<title>{_clean(name)}</title>"
            real = (label == name) & (kind == "unseen")
            made = (label == name) & (kind == "synthetic")
            body.append(f"<g>{tip}" + _cross(list(zip(px[made], py[made], strict=True)), series))
            body.append(_dots(list(zip(px[real], py[real], strict=True)), f"s{series}", 6) + "</g>")
            at = real if real.any() else made
            names.append((float(np.median(px[at])), float(np.median(py[at])) - 9, _short(name, 24), series))
        if len(names) <= 24:
            for cx, cy, name, series in _spread(names):
                half = _CHAR * len(name) / 2
                body.append(_text(min(max(cx, half), WIDTH - half), cy, name, f"halo b f{series}", "middle"))
    return _svg(top + height + 6, body, title)


def _dots(points: Sequence[tuple[float, float]], style: str, size: float) -> str:
    """Many dots as one path: round ends of lines without length."""
    path = "".join(f"M{_n(x)} {_n(y)}h0" for x, y in points)
    return f'<path class="{style}" fill="none" stroke-width="{_n(size)}" stroke-linecap="round" d="{path}"/>'


def _cross(points: Sequence[tuple[float, float]], series: int) -> str:
    path = "".join(f"M{_n(x - 2.5)} {_n(y - 2.5)}l5 5m-5 0l5-5" for x, y in points)
    return f'<path class="s{series}" fill="none" stroke-width="1.1" stroke-opacity=".75" d="{path}"/>'


def histogram_svg(bins: Sequence[tuple[float, float, int]], title: str) -> str:
    """Counts in consecutive bins (from, below, count), drawn equally wide with their edges named.

    Equally wide, because bins of durations may grow: in a 1-2-5 row every bin must be seen.
    """
    top, bottom, left, right = 34.0, 154.0, 14.0, NARROW - 18
    body = [_text(0, 13, title, "t")]
    most = max((count for _, _, count in bins), default=0)
    wide = min((right - left) / max(len(bins), 1), 60.0)
    for number, (low, high, count) in enumerate(bins):
        if not count:
            continue
        # What is there is seen, be it one clip of a hundred thousand.
        x, height = left + number * wide, max((bottom - top) * count / most, 1.0)
        square = f"M{_n(x + 1)} {_n(bottom)}v-{_n(height)}h{_n(wide - 2)}v{_n(height)}z"
        tip = f"<title>{_clean(f'{low:.3g} to {high:.3g}: {count}')}</title>"
        body.append(f'<path class="f0" d="{square}">{tip}</path>')
        if wide >= _CHAR * len(str(count)):
            body.append(_text(x + wide / 2, bottom - height - 4, str(count), "m sm", "middle"))
    body.append(_line(left, bottom, left + wide * len(bins), bottom, "axis"))
    for number, edge in enumerate([low for low, _, _ in bins] + [high for _, high, _ in bins[-1:]]):
        body.append(_text(left + number * wide, bottom + 15, f"{edge:.3g}", "m sm", "middle"))
    return _svg(bottom + 22, body, title, NARROW)


def confusion_svg(labels: Sequence[str], counts: np.ndarray[Any, Any], title: str) -> str:
    """Confusion matrix: true classes in rows, predicted ones in columns, the share of the row in %.

    Args:
        labels: Class names in the order of rows and columns.
        counts: Integer counts [classes, classes], true x predicted.
    """
    count = len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [_short(name, 26) for name in labels]
    longest = max((len(name) for name in names), default=4)
    left = 22 + _CHAR * longest
    cell = float(np.clip((WIDTH - left - 20) / max(count, 1), 9, 40))
    slant = _CHAR * longest * 0.72 + 14
    top = 30 + slant
    width = max(left + cell * count + slant * 0.75 + 6, 8.0 * len(title))
    body = [_text(0, 14, title, "t")]
    # One path per shade keeps 2,500 cells small.
    levels: dict[int, list[str]] = {}
    for row in range(count):
        for column in range(count):
            if level := math.ceil(20 * shares[row, column]):
                square = (
                    f"M{_n(left + column * cell)} {_n(top + row * cell)}h{_n(cell)}v{_n(cell)}h-{_n(cell)}z"
                )
                levels.setdefault(level, []).append(square)
    for level, squares in sorted(levels.items()):
        body.append(f'<path class="f0" fill-opacity="{level / 20:g}" d="{"".join(squares)}"/>')
    for line in range(count + 1):
        at = line * cell
        body.append(_line(left, top + at, left + count * cell, top + at, "grid"))
        body.append(_line(left + at, top, left + at, top + count * cell, "grid"))
    style = "sm" if cell < 16 else ""
    for number, name in enumerate(names):
        middle = (number + 0.5) * cell
        full = labels[number]
        body.append(_text(left - 8, top + middle + 4, name, style, "end", full))
        turn = f' transform="translate({_n(left + middle + 3)} {_n(top - 7)}) rotate(-45)"'
        body.append(f"<g{turn}>{_text(0, 0, name, style, '', full)}</g>")
    if cell >= 24:
        for row in range(count):
            for column in range(count):
                if shares[row, column] >= 0.005:
                    share = shares[row, column]
                    shade = "over" if share > 0.85 else "half" if share > 0.6 else ""
                    at_x, at_y = left + (column + 0.5) * cell, top + (row + 0.5) * cell + 4
                    body.append(_text(at_x, at_y, f"{100 * share:.0f}", f"sm {shade}", "middle"))
    return _svg(top + count * cell + 8, body, title, width)
