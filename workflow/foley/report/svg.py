"""What every figure of the report is made of: text, lines, axes, colours and one style sheet.

The SVG is written by hand instead of by a plotting library: text stays text, equal data give equal bytes, and
one style sheet serves light and dark. Values that are shares come as fractions and are drawn in per cent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from html import escape

NARROW = 420.0  # what a phone shows without scrolling
WIDTH = 600.0
_NAMESPACE = ' xmlns="http://www.w3.org/2000/svg"'
CHAR = 6.6  # mean width of a 12 px glyph; SVG cannot measure text
LABEL_CHARS = 36

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
    ".fy .xs{font-size:8.6px}"
    ".fy .grid,.fy .axis{fill:none}.fy .halo{paint-order:stroke;stroke-width:3.5px;stroke-linejoin:round}"
    ".fy .b{font-weight:600}.fy .band{pointer-events:none}"
    ".fy .curves:hover>g{opacity:.15}.fy .curves>g:hover{opacity:1}.fy .curves>g:hover .band{fill-opacity:.25}"
    f"{_rules(False)}@media (prefers-color-scheme:dark){{{_rules(True)}}}</style>"
)


def clean(text: str) -> str:
    """Escaped for XML, without the control characters that XML cannot hold at all."""
    return escape("".join(c if c.isprintable() else " " for c in str(text)), quote=True)


def shorten(text: str, limit: int = LABEL_CHARS) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"


def shorten_middle(text: str, limit: int) -> str:
    """Keeps both ends: names of one family differ at their ends."""
    head = (limit - 1) // 2
    return text if len(text) <= limit else f"{text[:head]}…{text[len(text) - (limit - 1 - head) :]}"


def px(value: float) -> str:
    """A coordinate with one decimal and no more bytes than it needs."""
    text = f"{value:.1f}"
    return text.removesuffix(".0")


def text(x: float, y: float, text: str, style: str = "", anchor: str = "", title: str = "") -> str:
    style = f' class="{style}"' if style else ""
    anchor = f' text-anchor="{anchor}"' if anchor else ""
    tip = f"<title>{clean(title)}</title>" if title else ""
    return f'<text x="{px(x)}" y="{px(y)}"{style}{anchor}>{tip}{clean(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str, extra: str = "") -> str:
    return f'<path class="{style}" d="M{px(x1)} {px(y1)}L{px(x2)} {px(y2)}"{extra}/>'


def diamond(x: float, y: float, series: int) -> str:
    path = f"M{px(x)} {px(y - 5)}l5 5l-5 5l-5-5z"
    return f'<path class="s{series}" fill="none" stroke-width="1.6" d="{path}"/>'


def rectangle(x: float, y: float, width: float, height: float) -> str:
    """The path of a rectangle."""
    return f"M{px(x)} {px(y)}h{px(width)}v{px(height)}h-{px(width)}z"


def circle(x: float, y: float, series: int, radius: float = 4.5) -> str:
    return f'<circle class="f{series}" cx="{px(x)}" cy="{px(y)}" r="{px(radius)}"/>'


def row_label(label: str, detail: str, x: float, y: float) -> str:
    """Label above its row: long names then cost no width, which a phone has not."""
    spans = f'<tspan class="b">{clean(shorten(label))}</tspan>'
    if detail:
        spans += f'<tspan class="m" dx="7">{clean(shorten(detail))}</tspan>'
    return f'<text class="halo" x="{px(x)}" y="{px(y)}">{spans}</text>'


def legend(
    entries: Sequence[tuple[Callable[[float, float], str], str]], top: float, width: float = NARROW
) -> tuple[list[str], float]:
    """Marks with their names, in as many lines as they need.

    Args:
        entries: What draws a mark of 16 pixels from (x, y of its middle line), and its name.
        top: Where the legend begins.

    Returns:
        The parts, and where the legend ends.
    """
    parts: list[str] = []
    x, y = 0.0, top + 9
    for mark, name in entries:
        wide = 21 + 6.1 * len(name)
        if x and x + wide > width:
            x, y = 0.0, y + 17
        parts += [mark(x, y), text(x + 21, y + 4, name, "m sm")]
        x += wide + 14
    return parts, y + 11 if entries else top


def figure(height: float, body: Sequence[str], title: str, width: float = WIDTH) -> str:
    size = f'viewBox="0 0 {px(width)} {px(height)}" width="{px(width)}" height="{px(height)}"'
    return (
        f'<svg{_NAMESPACE} class="fy" {size} role="img" aria-label="{clean(title)}">{STYLE}'
        f'<rect class="bg" width="{px(width)}" height="{px(height)}"/>{"".join(body)}</svg>'
    )


def inline(svg: str) -> str:
    """A figure for an HTML page that holds `STYLE` once: without its own style sheet and namespace."""
    return svg.replace(STYLE, "").replace(_NAMESPACE, "")


def stack(svgs: Sequence[str], empty: str = "Nothing to show.") -> str:
    """Several figures as one, below each other; with none, a figure that says ``empty``."""
    if not svgs:
        return figure(48, [text(WIDTH / 2, 28, empty, "m", "middle")], empty)
    margin = 14.0
    body, y, width = [], margin, 0.0
    for svg in svgs:
        size = re.search(r'width="([\d.]+)" height="([\d.]+)"', svg)
        assert size is not None  # every figure of this module says its size
        body.append(inline(svg).replace("<svg ", f'<svg x="{px(margin)}" y="{px(y)}" ', 1))
        width, y = max(width, float(size[1])), y + float(size[2]) + 16
    return figure(y - 16 + margin, body, "Figures", width + 2 * margin)


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers that span at least [low, high]."""
    span = max(high - low, 1e-9)
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * k for k in (1, 2, 5, 10, 20) if span / (power * k) <= most)
    return [i * step for i in range(math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9) + 1)]


def number(value: float) -> str:
    return f"{value:g}".replace("-", "−")


class Axis:
    """A horizontal axis in per cent (or points) between two pixel columns."""

    def __init__(self, left: float, right: float, values: Sequence[float], signed: bool) -> None:
        finite = [100 * v for v in values if math.isfinite(v)] or [0.0]
        most = max(int((right - left) / 58), 2)  # as many as have room for their numbers
        self.ticks = ticks(min(0.0, *finite), max(0.0 if signed else 1.0, *finite, min(finite) + 1), most)
        self.left, self.right, self.signed = left, right, signed

    def __call__(self, fraction: float) -> float:
        first, last = self.ticks[0], self.ticks[-1]
        return self.left + (self.right - self.left) * (100 * fraction - first) / (last - first)

    def draw(self, top: float, bottom: float, unit: str) -> list[str]:
        parts = []
        for tick in self.ticks:
            x = self(tick / 100)
            zero = abs(tick) < 1e-9
            parts.append(line(x, top, x, bottom, "axis" if zero else "grid"))
            sign = "+" if self.signed and tick > 1e-9 else ""
            last = f" {unit}" if tick == self.ticks[-1] else ""
            parts.append(text(max(x, 4), bottom + 15, sign + number(round(tick, 6)) + last, "m sm", "middle"))
        return parts
