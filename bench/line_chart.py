"""A line chart as SVG, for pictures in docs/: lines with their names at their ends, and nothing that needs a script."""

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 60, 150, 24, 52
GREY, DARK, GRID = "#57606a", "#24292f", "#d8dee4"


def chart(lines, x_ticks, y_ticks, x_title, y_title):
    """`lines`: dicts of name, colour, points [(x, y)], and if wanted low and high (ends of intervals, one a point), dots (a
    label for each point) and dashed. `x_ticks`: [(x, label)]; the first and the last tick of an axis are its ends."""
    (x0, _), (x1, _) = x_ticks[0], x_ticks[-1]
    x = lambda v: LEFT + (v - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)
    y = lambda v: HEIGHT - BOTTOM - (v - y_ticks[0]) / (y_ticks[-1] - y_ticks[0]) * (HEIGHT - TOP - BOTTOM)
    text = lambda at_x, at_y, words, anchor="middle", colour=GREY, more="": (
        f'<text x="{at_x:.1f}" y="{at_y:.1f}" text-anchor="{anchor}" fill="{colour}"{more}>{words}</text>')
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="13">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>']
    for v in y_ticks:
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(v):.1f}" y2="{y(v):.1f}" stroke="{GRID}"/>')
        out.append(text(LEFT - 8, y(v) + 4, f"{v:.1f}", "end"))
    out += [text(x(v), HEIGHT - BOTTOM + 20, label) for v, label in x_ticks]
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, x_title, colour=DARK))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(text(14, middle, y_title, colour=DARK, more=f' transform="rotate(-90 14 {middle:.0f})"'))
    ends = []
    for line in lines:
        colour, points = line["colour"], line["points"]
        for (px, _), low, high in zip(points, line.get("low", []), line.get("high", [])):
            out.append(f'<line x1="{x(px):.1f}" x2="{x(px):.1f}" y1="{y(low):.1f}" y2="{y(high):.1f}" stroke="{colour}" stroke-opacity="0.45"/>')
        dash = ' stroke-dasharray="5 4"' if line.get("dashed") else ""
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in points)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2.5"{dash}/>')
        out += [f'<circle cx="{x(px):.1f}" cy="{y(py):.1f}" r="3.5" fill="{colour}"/>' for px, py in points]
        out += [text(x(px) + 7, y(py) + 16, label, "start", colour) for (px, py), label in zip(points, line.get("dots", []))]
        ends.append([y(points[-1][1]), x(points[-1][0]), line])
    at = 0
    for end, end_x, line in sorted(ends, key=lambda e: e[:2]):
        at = max(end, at + 16)  # names keep 16 pixels apart
        out.append(text(max(end_x, x(x1)) + 10, at + 4, line["name"], "start", line["colour"]))
    return "\n".join(out) + "\n</svg>\n"
