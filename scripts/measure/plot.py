"""A contest as an SVG drawing: one row a contender, from its fastest run over its median to its p99, on one scale."""

import html
import os

WIDTH, LEFT, ROW = 900, 300, 28


def svg(title, times, unit="ms"):
    """`times` are lists of figures by name; the drawing as text."""
    spans = {}
    for name, taken in times.items():
        order = sorted(taken)
        pick = lambda share: order[min(len(order) - 1, int(len(order) * share))]
        spans[name] = (order[0], pick(0.5), pick(0.99))
    most = max(high for _, _, high in spans.values()) * 1.05
    at = lambda value: LEFT + (WIDTH - LEFT - 45) * value / most
    parts = [f'<text x="10" y="20" font-weight="bold">{html.escape(title)}</text>']
    for tick in range(6):
        value = most * tick / 5
        x, bottom = at(value), 40 + ROW * len(spans)
        parts.append(f'<line x1="{x:.1f}" y1="34" x2="{x:.1f}" y2="{bottom}" stroke="#ddd"/>')
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#666">{value:.1f} {unit}</text>')
    for row, (name, (low, middle, high)) in enumerate(spans.items()):
        y = 40 + ROW * row + ROW / 2
        colour = "#b5482a" if name.startswith("runcell") else "#4a6a8a"
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{html.escape(name)}</text>')
        parts.append(f'<line x1="{at(low):.1f}" y1="{y}" x2="{at(high):.1f}" y2="{y}" stroke="{colour}" stroke-width="3"/>')
        parts.append(f'<circle cx="{at(middle):.1f}" cy="{y}" r="6" fill="{colour}"/>')
        parts.append(f'<text x="{at(middle):.1f}" y="{y - 9:.1f}" text-anchor="middle" font-size="10">{middle:.1f}</text>')
    height = 40 + ROW * len(spans) + 30
    head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" font-family="sans-serif" font-size="12">'
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>\n"])


def leave(name, title, times):
    """Leaves the drawing of a contest under target/measure."""
    os.makedirs("target/measure", exist_ok=True)
    with open(f"target/measure/{name}.svg", "w", encoding="utf-8") as f:
        f.write(svg(title, times))
