"""Two small plots as SVG, legible on light and on dark pages."""

from collections.abc import Mapping
from xml.sax.saxutils import escape

_STYLE = """<style>
text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-weight: 600 }
.note { fill: #57606a }
.a { fill: #0969da } .b { fill: #8c959f } .c { fill: #bf8700 } .d { fill: #1a7f37 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 } .note { fill: #9198a1 }
  .a { fill: #4493f8 } .b { fill: #6e7681 } .c { fill: #d29922 } .d { fill: #3fb950 }
}
</style>"""

_WIDTH, _LABELS, _LINE = 680, 190, 28


def bars(title: str, values: Mapping[str, float]) -> str:
    """A horizontal bar for each value, in order; the first one is highlighted."""
    scale = (_WIDTH - _LABELS - 70) / max(values.values())
    lines = []
    for n, (name, value) in enumerate(values.items()):
        top, length = 40 + n * _LINE, value * scale
        lines += [
            f'<text x="{_LABELS - 10}" y="{top + 14}" text-anchor="end">{escape(name)}</text>',
            f'<rect class="{"b" if n else "a"}" x="{_LABELS}" y="{top}" {_size(length, 19)}/>',
            f'<text x="{_LABELS + length + 8:.0f}" y="{top + 14}">{value:,.0f}</text>',
        ]
    return _svg(title, 52 + len(values) * _LINE, lines)


def stack(title: str, values: Mapping[str, float]) -> str:
    """One bar divided into at most four parts, with a legend."""
    total, at, lines = sum(values.values()), 0.0, []
    for n, (kind, (name, value)) in enumerate(zip("abcd", values.items(), strict=False)):
        width = value / total * (_WIDTH - 20)
        top, share = 84 + n * 22, f"{value:.0f} µs, {value / total:.0%}"
        lines += [
            f'<rect class="{kind}" x="{10 + at:.1f}" y="38" {_size(width - 1, 26)}/>',
            f'<rect class="{kind}" x="10" y="{top}" width="12" height="12"/>',
            f'<text x="30" y="{top + 11}">{escape(name)}</text>',
            f'<text class="note" x="{_WIDTH - 10}" y="{top + 11}" text-anchor="end">{share}</text>',
        ]
        at += width
    return _svg(title, 92 + len(values) * 22, lines)


def _size(width: float, height: int) -> str:
    return f'width="{max(width, 0):.1f}" height="{height}"'


def _svg(title: str, height: int, lines: list[str]) -> str:
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" '
        f'viewBox="0 0 {_WIDTH} {height}" role="img">\n<title>{escape(title)}</title>'
    )
    heading = f'<text class="title" x="10" y="22">{escape(title)}</text>'
    return "\n".join((head, _STYLE, heading, *lines, "</svg>\n"))
