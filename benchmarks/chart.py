"""One picture: how many times QueueCTL is ahead in each comparison, every pair a dot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .measuring import Measurement, Series

WIDTH, ROW, TOP, BOTTOM = 960, 24, 46, 34
LEFT, RIGHT = 440, 880
TIMES = "\N{MULTIPLICATION SIGN}"
MARKS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)

STYLE = """\
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.quiet { fill: #59636e }
.grid { stroke: #d1d9e0 }
.even { stroke: #59636e; stroke-dasharray: 3 3 }
.range { stroke-width: 6; stroke-linecap: round; opacity: .3 }
.ahead { fill: #1a7f37; stroke: #1a7f37 }
.behind { fill: #bc4c00; stroke: #bc4c00 }
text.ahead, text.behind { stroke: none; font-weight: 600 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc }
  .quiet { fill: #9198a1 }
  .grid { stroke: #3d444d }
  .even { stroke: #9198a1 }
  .ahead { fill: #3fb950; stroke: #3fb950 }
  .behind { fill: #f0883e; stroke: #f0883e }
}"""


def draw(measurements: Sequence[Measurement]) -> str:
    """An SVG that needs no script and no font, readable on light and on dark pages."""
    height = TOP + ROW * len(measurements) + BOTTOM
    marks = _marks([ratio for m in measurements for ratio in m.ratios])
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        "<title>How many times QueueCTL is ahead</title>",
        f"<style>{STYLE}</style>",
        _text(LEFT, 18, "times ahead of the other; each dot a pair, log scale", "quiet"),
        *(_mark(mark, marks, height) for mark in marks),
    ]
    for index, measurement in enumerate(measurements):
        parts += _row(measurement, TOP + ROW * index + ROW // 2, marks)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _marks(ratios: Sequence[float]) -> list[float]:
    """The marks of the scale that enclose all ratios, and 1."""
    low, high = min([*ratios, 0.9]), max([*ratios, 1.1])
    first = max((mark for mark in MARKS if mark <= low), default=MARKS[0])
    last = min((mark for mark in MARKS if mark >= high), default=MARKS[-1])
    return [mark for mark in MARKS if first <= mark <= last]


def _x(ratio: float, marks: Sequence[float]) -> float:
    low, high = math.log(marks[0]), math.log(marks[-1])
    share = (math.log(min(max(ratio, marks[0]), marks[-1])) - low) / (high - low)
    return round(LEFT + (RIGHT - LEFT) * share, 1)


def _mark(mark: float, marks: Sequence[float], height: int) -> str:
    x, bottom = _x(mark, marks), height - BOTTOM
    kind = "even" if mark == 1 else "grid"
    line = f'<line class="{kind}" x1="{x}" y1="{TOP - 8}" x2="{x}" y2="{bottom}"/>'
    return line + _text(x, bottom + 18, f"{mark:g}{TIMES}", "quiet", anchor="middle")


def _row(measurement: Measurement, y: int, marks: Sequence[float]) -> list[str]:
    assert measurement.rival is not None
    ratios = Series("", measurement.ratios)
    kind = "ahead" if ratios.median >= 1 else "behind"
    low, high = _x(ratios.low, marks), _x(ratios.high, marks)
    label = f"{measurement.what} against {measurement.rival.label}".replace("`", "")
    return [
        _text(LEFT - 12, y + 4, _short(label), anchor="end"),
        f'<line class="range {kind}" x1="{low}" y1="{y}" x2="{high}" y2="{y}"/>',
        *(f'<circle class="{kind}" cx="{_x(r, marks)}" cy="{y}" r="2.5"/>' for r in ratios.values),
        _text(WIDTH - 10, y + 4, f"{ratios.median:.2f}{TIMES}", kind, anchor="end"),
    ]


def _short(label: str, length: int = 62) -> str:
    return label if len(label) <= length else label[: length - 1] + "…"


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    classes = f' class="{kind}"' if kind else ""
    return f'<text{classes} x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'
