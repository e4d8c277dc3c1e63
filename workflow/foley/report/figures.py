"""Figures of results and data: plain data in, one SVG string out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from foley.report import svg

_DASHES = ("5 3", "1.5 3", "9 3", "9 3 1.5 3", "3 2 1 2 1 2")  # of the lines of references


@dataclass(frozen=True)
class Interval:
    """A value with the ends of its interval (or none), as fractions."""

    label: str
    detail: str
    value: float
    low: float | None = None
    high: float | None = None
    published: tuple[tuple[float, float | None], ...] = ()
    outcome: str = ""  # of a gain: helps, hurts or unclear


@dataclass(frozen=True)
class Panel:
    """One split of a leaderboard: rows, and named lines such as chance."""

    title: str
    rows: tuple[Interval, ...]
    lines: tuple[tuple[str, float], ...] = ()


def _whisker(row: Interval, axis: svg.Axis, y: float, series: int) -> list[str]:
    parts = []
    if row.low is not None and row.high is not None:
        x1, x2 = axis(row.low), axis(row.high)
        parts.append(svg.line(x1, y, x2, y, f"s{series}", ' stroke-width="2.2"'))
        parts.append(svg.line(x1, y - 4, x1, y + 4, f"s{series}", ' stroke-width="1.2"'))
        parts.append(svg.line(x2, y - 4, x2, y + 4, f"s{series}", ' stroke-width="1.2"'))
    parts.append(svg.circle(axis(row.value), y, series))
    return parts


def gains_svgs(panels: Sequence[tuple[str, Sequence[Interval]]]) -> list[str]:
    """Gain of each method over its baseline with its interval: what the verdict says, drawn.

    A figure per panel (title, rows), all with the same axis.
    """
    values = [v for _, rows in panels for r in rows for v in (r.value, r.low, r.high) if v is not None]
    axis = svg.Axis(14, svg.NARROW - 44, values, signed=True)
    return [_gains_svg(title, rows, axis) for title, rows in panels]


def _gains_svg(title: str, rows: Sequence[Interval], axis: svg.Axis) -> str:
    top, step = 26.0, 36.0
    bottom = top + step * len(rows)
    body = [svg.text(0, 13, title, "t"), *axis.draw(top, bottom, "points")]
    for number, row in enumerate(rows):
        y = top + step * number
        body.append(svg.row_label(row.label, row.detail, 0, y + 14))
        body += _whisker(row, axis, y + 26, {"helps": 2, "hurts": 3}.get(row.outcome, 7))
    return svg.figure(bottom + 22, body, title, svg.NARROW)


def _dot(series: int) -> Callable[[float, float], str]:
    return lambda x, y: svg.circle(x + 8, y, series)


def _stroke(extra: str) -> Callable[[float, float], str]:
    return lambda x, y: svg.line(x, y, x + 16, y, "axis", extra)


def leaderboard_svgs(panels: Sequence[Panel]) -> list[str]:
    """Accuracy of each method with its interval, a figure per panel, all with the same axis and colours.

    References such as chance are lines; published figures are hollow and lie below ours.
    """
    rows = [row for panel in panels for row in panel.rows]
    values = [v for r in rows for v in (r.value, r.high, r.low) if v is not None]
    values += [value + (std or 0) for r in rows for value, std in r.published]
    values += [value for panel in panels for _, value in panel.lines]
    axis = svg.Axis(1, svg.NARROW - 34, values, signed=False)
    colours = {name: n % len(svg.PALETTE) for n, name in enumerate(dict.fromkeys(row.label for row in rows))}
    return [_leaderboard_svg(panel, axis, colours) for panel in panels]


def _leaderboard_svg(panel: Panel, axis: svg.Axis, colours: Mapping[str, int]) -> str:
    lines, entries = [], []
    for number, (name, value) in enumerate(panel.lines):
        dash = f' stroke-width="1.6" stroke-dasharray="{_DASHES[number % len(_DASHES)]}"'
        entries.append((_stroke(dash), f"{svg.shorten(name, 24)} {100 * value:.1f} %"))
        lines.append((value, dash))
    if any(row.published for row in panel.rows):
        entries.append((lambda x, y: svg.diamond(x + 8, y, 7), "published, ± sd"))
    marks, y = svg.legend(entries, 18.0)
    body, top = [svg.text(0, 13, svg.shorten(panel.title, 60), "t"), *marks], y + 4
    y = top
    steps = [44.0 if row.published else 36.0 for row in panel.rows]
    bottom = top + sum(steps)
    body += axis.draw(top, bottom, "%")
    body += [svg.line(axis(value), top, axis(value), bottom, "axis", dash) for value, dash in lines]
    for row, step in zip(panel.rows, steps, strict=True):
        colour = colours[row.label]
        body.append(svg.row_label(row.label, row.detail, 7, y + 14))
        body += _whisker(row, axis, y + 26, colour)
        for value, std in row.published:
            if std:
                x1, x2 = axis(value - std), axis(value + std)
                body.append(svg.line(x1, y + 37, x2, y + 37, f"s{colour}", ' stroke-opacity=".6"'))
            body.append(svg.diamond(axis(value), y + 37, colour))
        y += step
    return svg.figure(bottom + 22, body, panel.title, svg.NARROW)


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
    longest = max((len(svg.shorten(c, 22)) for _, classes in groups for c in classes), default=8)
    axis = svg.Axis(22 + svg.CHAR * longest, svg.NARROW - 34, list(gains.values()), signed=True)
    return [_class_gains_svg(split, classes, methods, gains, axis) for split, classes in groups]


def _class_gains_svg(
    split: str,
    classes: Sequence[str],
    methods: Mapping[str, int],
    gains: Mapping[tuple[str, str, str], float],
    axis: svg.Axis,
) -> str:
    entries = [(_dot(number % len(svg.PALETTE)), svg.shorten(name, 24)) for name, number in methods.items()]
    marks, y = svg.legend(entries, 18.0)
    body = [svg.text(0, 13, split, "t"), *marks]
    top, step = y + 4, max(22.0, 6.0 * len(methods) + 8)
    bottom = top + step * len(classes)
    body += axis.draw(top, bottom, "points")
    for row, label in enumerate(classes):
        middle = top + step * (row + 0.5)
        body.append(svg.text(axis.left - 12, middle + 4, svg.shorten(label, 22), "", "end", label))
        for place, (method, number) in enumerate(methods.items()):
            if (gain := gains.get((split, label, method))) is None:
                continue
            # Marks of one class lie on lines of their own, so that equal gains don't hide one another.
            y, colour = middle + (place - (len(methods) - 1) / 2) * 6, number % len(svg.PALETTE)
            body.append(svg.line(axis(0), y, axis(gain), y, f"s{colour}", ' stroke-width="1.6"'))
            body.append(f'<circle class="f{colour}" cx="{svg.px(axis(gain))}" cy="{svg.px(y)}" r="3.4"/>')
    return svg.figure(bottom + 22, body, split, svg.NARROW)


def _spread(labels: list[tuple[float, float, str, int]]) -> list[tuple[float, float, str, int]]:
    """Labels moved down until none covers another."""
    placed: list[tuple[float, float, str, int]] = []
    for x, y, text, series in sorted(labels, key=lambda label: (label[1], label[0])):
        half = svg.CHAR * len(text) / 2
        while any(
            abs(y - py) < 13 and abs(x - px) < half + svg.CHAR * len(pt) / 2 for px, py, pt, _ in placed
        ):
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
    body = [svg.text(0, 14, title, "t")]
    body.append('<circle class="f7" cx="6" cy="32" r="3"/>' + svg.text(15, 36, "real, unseen class", "m sm"))
    body.append(_cross([(134.0, 32.0)], 7) + svg.text(144, 36, "synthetic", "m sm"))
    body.append(_dots([(214.0, 32.0)], "dim", 4) + svg.text(223, 36, "real, seen classes", "m sm"))
    if len(x):
        # One scale for both axes: t-SNE distances have no unit, but they have no direction either.
        scale = min((svg.WIDTH - 2 * pad) / max(np.ptp(x), 1e-9), (height - 2 * pad) / max(np.ptp(y), 1e-9))
        px = svg.WIDTH / 2 + (x - (x.min() + x.max()) / 2) * scale
        py = top + height / 2 - (y - (y.min() + y.max()) / 2) * scale
        seen = kind == "seen"
        body.append(_dots(list(zip(px[seen], py[seen], strict=True)), "dim", 4))
        classes = sorted(set(label[~seen]))
        names = []
        for number, name in enumerate(classes):
            series, tip = number % len(svg.PALETTE), f"<title>{svg.clean(name)}</title>"
            real = (label == name) & (kind == "unseen")
            made = (label == name) & (kind == "synthetic")
            body.append(f"<g>{tip}" + _cross(list(zip(px[made], py[made], strict=True)), series))
            body.append(_dots(list(zip(px[real], py[real], strict=True)), f"s{series}", 6) + "</g>")
            at = real if real.any() else made
            names.append(
                (float(np.median(px[at])), float(np.median(py[at])) - 9, svg.shorten(name, 24), series)
            )
        if len(names) <= 24:
            for cx, cy, name, series in _spread(names):
                half = svg.CHAR * len(name) / 2
                body.append(
                    svg.text(min(max(cx, half), svg.WIDTH - half), cy, name, f"halo b f{series}", "middle")
                )
    return svg.figure(top + height + 6, body, title)


def _dots(points: Sequence[tuple[float, float]], style: str, size: float) -> str:
    """Many dots as one path: round ends of lines without length."""
    path = "".join(f"M{svg.px(x)} {svg.px(y)}h0" for x, y in points)
    return (
        f'<path class="{style}" fill="none" stroke-width="{svg.px(size)}" stroke-linecap="round" d="{path}"/>'
    )


def _cross(points: Sequence[tuple[float, float]], series: int) -> str:
    path = "".join(f"M{svg.px(x - 2.5)} {svg.px(y - 2.5)}l5 5m-5 0l5-5" for x, y in points)
    return f'<path class="s{series}" fill="none" stroke-width="1.1" stroke-opacity=".75" d="{path}"/>'


def histogram_svg(bins: Sequence[tuple[float, float, int]], title: str) -> str:
    """Counts in consecutive bins (from, below, count), drawn equally wide with their edges named.

    Equally wide, because bins of durations may grow: in a 1-2-5 row every bin must be seen.
    """
    top, bottom, left, right = 34.0, 154.0, 14.0, svg.NARROW - 18
    body = [svg.text(0, 13, title, "t")]
    most = max((count for _, _, count in bins), default=0)
    wide = min((right - left) / max(len(bins), 1), 60.0)
    for number, (low, high, count) in enumerate(bins):
        if not count:
            continue
        # What is there is seen, be it one clip of a hundred thousand.
        x, height = left + number * wide, max((bottom - top) * count / most, 1.0)
        square = f"M{svg.px(x + 1)} {svg.px(bottom)}v-{svg.px(height)}h{svg.px(wide - 2)}v{svg.px(height)}z"
        tip = f"<title>{svg.clean(f'{low:.3g} to {high:.3g}: {count}')}</title>"
        body.append(f'<path class="f0" d="{square}">{tip}</path>')
        if wide >= svg.CHAR * len(str(count)):
            body.append(svg.text(x + wide / 2, bottom - height - 4, str(count), "m sm", "middle"))
    body.append(svg.line(left, bottom, left + wide * len(bins), bottom, "axis"))
    for number, edge in enumerate([low for low, _, _ in bins] + [high for _, high, _ in bins[-1:]]):
        body.append(svg.text(left + number * wide, bottom + 15, f"{edge:.3g}", "m sm", "middle"))
    return svg.figure(bottom + 22, body, title, svg.NARROW)


def confusion_svg(labels: Sequence[str], counts: np.ndarray[Any, Any], title: str) -> str:
    """Confusion matrix: true classes in rows, predicted ones in columns, the share of the row in %.

    Args:
        labels: Class names in the order of rows and columns.
        counts: Integer counts [classes, classes], true x predicted.
    """
    count = len(labels)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    names = [svg.shorten(name, 26) for name in labels]
    longest = max((len(name) for name in names), default=4)
    left = 22 + svg.CHAR * longest
    cell = float(np.clip((svg.WIDTH - left - 20) / max(count, 1), 9, 40))
    slant = svg.CHAR * longest * 0.72 + 14
    top = 30 + slant
    width = max(left + cell * count + slant * 0.75 + 6, 8.0 * len(title))
    body = [svg.text(0, 14, title, "t")]
    # One path per shade keeps 2,500 cells small.
    levels: dict[int, list[str]] = {}
    for row in range(count):
        for column in range(count):
            if level := math.ceil(20 * shares[row, column]):
                square = svg.rectangle(left + column * cell, top + row * cell, cell, cell)
                levels.setdefault(level, []).append(square)
    for level, squares in sorted(levels.items()):
        body.append(f'<path class="f0" fill-opacity="{level / 20:g}" d="{"".join(squares)}"/>')
    for line in range(count + 1):
        at = line * cell
        body.append(svg.line(left, top + at, left + count * cell, top + at, "grid"))
        body.append(svg.line(left + at, top, left + at, top + count * cell, "grid"))
    style = "sm" if cell < 16 else ""
    for number, name in enumerate(names):
        middle = (number + 0.5) * cell
        full = labels[number]
        body.append(svg.text(left - 8, top + middle + 4, name, style, "end", full))
        turn = f' transform="translate({svg.px(left + middle + 3)} {svg.px(top - 7)}) rotate(-45)"'
        body.append(f"<g{turn}>{svg.text(0, 0, name, style, '', full)}</g>")
    if cell >= 24:
        for row in range(count):
            for column in range(count):
                if shares[row, column] >= 0.005:
                    share = shares[row, column]
                    shade = "over" if share > 0.85 else "half" if share > 0.6 else ""
                    at_x, at_y = left + (column + 0.5) * cell, top + (row + 0.5) * cell + 4
                    body.append(svg.text(at_x, at_y, f"{100 * share:.0f}", f"sm {shade}", "middle"))
    return svg.figure(top + count * cell + 8, body, title, width)
