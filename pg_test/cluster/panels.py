"""The data of the dashboard's panels as a page: what Grafana draws of them is Grafana's, what they have is shown here.

    panels.py DASHBOARD ROLE >PAGE       (the database is that of PGHOST and PGDATABASE)
"""
from __future__ import annotations

import json
import os
import re
import sys
from collections import defaultdict
from datetime import datetime
from html import escape
from typing import Any

import psycopg

# Colours that differ for colour-blind readers, too (Okabe and Ito).
COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7f7f7f", "#b8a000"]
STYLE = """
:root { color-scheme: light dark; --back: #f4f5f7; --panel: #ffffff; --text: #1f2328; --soft: #57606a; --line: #d0d7de; }
@media (prefers-color-scheme: dark) { :root { --back: #111217; --panel: #181b1f; --text: #e6e8eb; --soft: #9aa3ad; --line: #343b44; } }
body { margin: 0; padding: 12px; background: var(--back); color: var(--text); font: 13px/1.4 sans-serif; }
main { display: grid; grid-template-columns: repeat(24, 1fr); grid-auto-rows: 26px; gap: 8px; }
section { background: var(--panel); border: 1px solid var(--line); border-radius: 4px; padding: 8px 10px; overflow: hidden; }
h2 { margin: 0 0 4px; font-size: 13px; font-weight: 600; }
p { margin: 0; font-size: 26px; font-weight: 600; text-align: center; }
svg { width: 100%; height: calc(100% - 44px); }
table { border-collapse: collapse; width: 100%; font-size: 12px; }
th, td { text-align: left; padding: 2px 8px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th, span { color: var(--soft); font-weight: 400; }
span { margin-right: 12px; font-size: 12px; }
"""


def filled(sql: str, names: list[str]) -> str:
    """A query with Grafana's macros as it fills them in for 30 days."""
    sql = sql.replace("${segment:sqlstring}", ", ".join("'" + name.replace("'", "''") + "'" for name in names) or "''")
    sql = re.sub(r"\$__timeFilter\(([\w.]+)\)", r"\1 between now() - interval '30 days' and now()", sql)
    return re.sub(r"\$__timeGroupAlias\(([\w.]+), \$__interval\)", r'floor(extract(epoch from \1) / 86400) * 86400 as "time"', sql)


def seconds(value: Any) -> float:
    return value.timestamp() if isinstance(value, datetime) else float(value)


def series(columns: list[str], rows: list[tuple[Any, ...]]) -> dict[str, list[tuple[float, float]]]:
    """The points of a time series: a column metric names the series of its row, else each column is one."""
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in rows:
        values = dict(zip(columns, row))
        time, metric = seconds(values.pop("time")), values.pop("metric", None)
        for name, value in values.items():
            if value is not None:
                found[str(metric) if metric is not None else name].append((time, float(value)))
    return found


def drawn(found: dict[str, list[tuple[float, float]]], style: str) -> str:
    points = [point for line in found.values() for point in line]
    (first, last), low = (min(t for t, _ in points), max(t for t, _ in points)), min(0.0, *(v for _, v in points))
    high = max(max(v for _, v in points), low + 1e-9)
    def place(t: float, v: float) -> tuple[float, float]:
        return 10 + 980 * (t - first) / ((last - first) or 1), 190 - 180 * (v - low) / (high - low)
    shapes = [f'<line x1="0" x2="1000" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--line)"/>' for y in (10, 100, 190)]
    for number, line in enumerate(found.values()):
        colour = COLOURS[number % len(COLOURS)]
        if style == "line":
            steps = []
            for (x, y) in (place(*point) for point in line):
                steps += [f"{x:.1f},{steps[-1].split(',')[1]}"] if steps else []
                steps.append(f"{x:.1f},{y:.1f}")
            shapes.append(f'<polyline points="{" ".join(steps)}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in (place(*point) for point in line if style != "line"):
            if style == "points":
                shapes.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
            else:
                zero, left = place(first, 0.0)[1], x - 9 + 18 * number / len(found)
                shapes.append(f'<rect x="{left:.1f}" y="{min(y, zero):.1f}" width="{18 / len(found):.1f}" height="{abs(y - zero):.1f}" fill="{colour}"/>')
    legend = "".join(f'<span><b style="color:{COLOURS[n % len(COLOURS)]}">■</b> {escape(name)}</span>' for n, name in enumerate(found))
    return f'<svg viewBox="0 0 1000 200" preserveAspectRatio="none" role="img" aria-label="{len(found)} series">{"".join(shapes)}</svg><div>{legend}</div>'


def shown(panel: dict[str, Any], columns: list[str], rows: list[tuple[Any, ...]]) -> str:
    if panel["type"] == "stat":
        value = rows[0][0]
        in_hours = panel["fieldConfig"]["defaults"].get("unit") == "s" and value >= 7200
        return f"<p>{escape(f'{value / 3600:.0f} hours' if in_hours else f'{value:.0f}')}</p>"
    if not rows:
        return "<div>nothing</div>"
    if panel["type"] == "timeseries":
        return drawn(series(columns, rows), panel["fieldConfig"]["defaults"]["custom"]["drawStyle"])
    def text(value: Any) -> str:
        value = value.strftime("%Y-%m-%d %H:%M") if isinstance(value, datetime) else value
        return "" if value is None else escape(str(value)[:70])
    cells = "".join("<tr>" + "".join(f"<td>{text(value)}</td>" for value in row) + "</tr>" for row in rows[:9])
    return f"<table><tr>{''.join(f'<th>{escape(name)}</th>' for name in columns)}</tr>{cells}</table>"


def main() -> None:
    with open(sys.argv[1], encoding="utf-8") as file:
        dashboard = json.load(file)
    parts = []
    with psycopg.connect(host=os.environ["PGHOST"], user="postgres", autocommit=True) as db:
        db.execute(f'set role "{sys.argv[2]}"'.encode())
        variable = next(one for one in dashboard["templating"]["list"] if one["type"] == "query")
        names = [name for (name,) in db.execute(variable["query"])]
        for panel in dashboard["panels"]:
            cursor = db.execute(filled(panel["targets"][0]["rawSql"], names).encode())
            columns, at = [column.name for column in cursor.description or ()], panel["gridPos"]
            grid = f"grid-column:{at['x'] + 1}/span {at['w']};grid-row:{at['y'] + 1}/span {at['h']}"
            parts.append(f'<section style="{grid}"><h2>{escape(panel["title"])}</h2>{shown(panel, columns, cursor.fetchall())}</section>')
    print(f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(dashboard["title"])}</title>'
          f"<style>{STYLE}</style></head><body><main>{''.join(parts)}</main></body></html>")


main()
