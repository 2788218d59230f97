"""What is told: tables in Markdown, and a chart in SVG."""

import math
from dataclasses import dataclass, field
from html import escape


@dataclass
class Table:
    title: str
    header: list
    rows: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    def markdown(self):
        # The first column is text, the others are numbers.
        lines = [f"### {self.title}", ""]
        lines += [line(self.header), line(["---"] + ["---:"] * (len(self.header) - 1))]
        lines += [line(row) for row in self.rows]
        for note in self.notes:
            lines += ["", note]
        return "\n".join(lines) + "\n"


def line(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


@dataclass
class Panel:
    """Bars on one logarithmic scale: (label, value, whether it is ours)."""

    title: str
    unit: str
    bars: list
    low: float = math.inf  # where bars begin, unless they need to begin lower


def seconds(value):
    if value is None:
        return "–"
    if value < 0.0995:
        return f"{value * 1000:.1f} ms" if value < 0.00995 else f"{value * 1000:.0f} ms"
    return f"{value:.2f} s" if value < 9.95 else f"{value:.1f} s"


def ratio(value):
    if value is None:
        return "–"
    return f"{value:.2f}" if value < 9.95 else f"{value:.0f}"


def megabytes(value):
    mega = value / 1e6
    return f"{mega:.1f}" if mega < 9.95 else f"{mega:.0f}"


OURS, THEIRS, INK, GRID = "#2a6f97", "#b8bfc6", "#222222", "#e4e7ea"
WIDTH, LEFT, RIGHT, BAR = 900, 350, 90, 22


def chart(title, panels):
    """The panels below each other, each with an axis of its own."""
    parts, y = [], 34
    parts.append(text(16, 26, title, size=16, weight="bold"))
    for panel in panels:
        y = draw(panel, parts, y + 24)
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y + 16}"'
        f' viewBox="0 0 {WIDTH} {y + 16}" font-family="sans-serif">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{body}\n</svg>\n'
    )


def draw(panel, parts, y):
    values = [value for _, value, _ in panel.bars]
    low = min(panel.low, 10.0 ** math.floor(math.log10(min(values)) - 0.01))
    high = 10.0 ** math.ceil(math.log10(max(values)) + 0.01)
    span = math.log10(high / low)

    def x(value):
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(value / low) / span

    parts.append(text(16, y, f"{panel.title}: {panel.unit}, logarithmic", weight="bold"))
    y += 12
    bottom = y + BAR * len(panel.bars)
    for decade in range(round(span) + 1):
        at = low * 10**decade
        parts.append(f'<path d="M{x(at):.1f} {y}V{bottom + 4}" stroke="{GRID}"/>')
        parts.append(text(x(at), bottom + 17, f"{at:g}", anchor="middle", size=11))
    for label, value, ours in panel.bars:
        parts.append(text(LEFT - 8, y + 15, label, anchor="end"))
        width = max(x(value) - LEFT, 1)
        parts.append(
            f'<rect x="{LEFT}" y="{y + 3}" width="{width:.1f}" height="{BAR - 6}" fill="{OURS if ours else THEIRS}"/>'
        )
        told = f"{value:,.3g}" if value < 1000 else f"{value:,.0f}"
        parts.append(text(LEFT + width + 6, y + 15, told, size=12))
        y += BAR
    return bottom + 26


def text(x, y, words, anchor="start", size=13, weight="normal"):
    return (
        f'<text x="{x:.1f}" y="{y}" font-size="{size}" font-weight="{weight}"'
        f' text-anchor="{anchor}" fill="{INK}">{escape(words)}</text>'
    )
