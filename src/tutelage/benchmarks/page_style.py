"""How pages of reports look: one sheet, dark or light as the reader's system is, wide or narrow."""

from __future__ import annotations

from html import escape

# Each pair is told apart without colours, too: charts have shapes, bars have their order.
_LIGHT = ("#1769aa", "#b8560a", "#25773c", "#b3262d", "#7346a8", "#7a5343", "#b8317f", "#52606d")
_DARK = ("#6fb4ee", "#f0a35e", "#76c98b", "#f08a8a", "#bd9cec", "#cfa893", "#f191c5", "#a9b6c2")


def _colours(names: tuple[str, ...]) -> str:
    return "".join(f"--series{place}:{colour};" for place, colour in enumerate(names))


_SERIES = "\n".join(
    f".series{place} {{ color: var(--series{place}); }}" for place in range(len(_LIGHT))
)
STYLE = f"""
:root {{ color-scheme: light dark; --ink:#1c2430; --soft:#5b6676; --line:#dfe4ea; --tint:#f5f7f9;
  --paper:#fff; --good:#17693a; --bad:#a1271b; {_colours(_LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ --ink:#e6eaf0; --soft:#a3aebb; --line:#343d49;
  --tint:#1e252e; --paper:#12171d; --good:#76c98b; --bad:#f08a8a; {_colours(_DARK)} }} }}
{_SERIES}
"""
STYLE += """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 1240px; padding: 2rem 1.5rem 4rem; color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
  background: var(--paper); overflow-wrap: break-word; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .2rem; }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .3rem; }
h3 { font-size: .95rem; margin: 1.1rem 0 .3rem; }
p { margin: 0 0 .6rem; } .chart + .legend + p { margin-top: .6rem; }
p.lead, p.about, figcaption { color: var(--soft); }
p.about { font-size: 13px; max-width: 75ch; }
p.caution { border-left: 4px solid var(--series1); background: var(--tint); padding: .5rem .8rem;
  border-radius: 0 6px 6px 0; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: 8px; margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: 13px; }
th, td { padding: .5rem .65rem; text-align: right; vertical-align: top; white-space: nowrap;
  border-bottom: 1px solid var(--line); font-variant-numeric: tabular-nums; }
thead th { background: var(--tint); color: var(--soft); font-weight: 600; vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; position: sticky; left: 0;
  background: var(--paper); white-space: normal; min-width: 8.5rem; }
thead th:first-child { background: var(--tint); }
tbody tr:last-child > * { border-bottom: 0; }
tbody tr:hover > * { background: var(--tint); }
td small, th small { display: block; color: var(--soft); font-weight: 400; }
.better { color: var(--good); } .worse { color: var(--bad); } .insignificant { color: var(--soft); }
.chart { display: flex; flex-wrap: wrap; gap: .5rem 1.5rem; margin-top: .6rem; }
.chart figure { flex: 1 1 400px; min-width: 0; margin: 0; }
.chart svg { width: 100%; height: auto; display: block; }
.chart text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.chart .end { text-anchor: end; } .chart .middle { text-anchor: middle; }
.grid { stroke: var(--line); stroke-width: 1; fill: none; }
.mix { stroke: var(--soft); stroke-width: 1.5; stroke-dasharray: 5 4; fill: none; }
[class^=series] { fill: currentColor; stroke: currentColor; }
[class^=series] .bar { stroke-width: 1.5; fill: none; opacity: .75; }
[class^=series] .from { stroke-width: 1.5; stroke-dasharray: 2 3; fill: none; }
[class^=series] .hollow { fill: var(--paper); stroke-width: 1.5; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; padding: 0;
  margin: .4rem 0 0; font-size: 13px; }
.legend li { display: flex; align-items: center; gap: .4rem; }
.key { width: 16px; height: 16px; flex: none; }
.swatch { width: 12px; height: 12px; border-radius: 2px; flex: none; background: currentColor; }
.bars { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .35rem .8rem;
  align-items: center; font-size: 13px; margin: .6rem 0; }
.bars > b { font-weight: 500; }
.stack { display: flex; align-items: center; min-width: 0; gap: .5rem; }
.stack > span { display: flex; height: 18px; border-radius: 3px; overflow: hidden; }
.stack i { display: block; background: currentColor; }
.share { display: inline-block; width: 56px; height: 7px; margin-left: .5rem; border-radius: 3px;
  background: var(--line); overflow: hidden; }
.share i { display: block; height: 100%; background: var(--series0); }
ul { padding-left: 1.2rem; } li { margin: .25rem 0; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: .25rem 1rem;
  font-size: 13px; margin: .4rem 0; }
dt { font-weight: 600; } dd { margin: 0; min-width: 0; }
details { margin: .4rem 0; border: 1px solid var(--line); border-radius: 8px;
  padding: .4rem .8rem; }
details details { margin: .2rem 0; } summary { cursor: pointer; font-weight: 600; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; font: 12.5px/1.45 ui-monospace,
  SFMono-Regular, Menlo, Consolas, monospace; }
.message { border-left: 3px solid var(--line); padding-left: .6rem; margin: .35rem 0; }
.message small { color: var(--soft); }
@media (max-width: 640px) { body { padding: 1rem .9rem 3rem; } dl { grid-template-columns: 1fr; }
  dd { margin-bottom: .5rem; } .bars { grid-template-columns: 1fr; gap: .1rem; }
  .bars > .stack { margin-bottom: .5rem; } th:first-child, td:first-child { min-width: 6.5rem; } }
"""


def html_page(title: str, body: str) -> str:
    """A page that loads nothing else.

    Args:
        title: Plain text.
        body: HTML.
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
{body}
</body>
</html>
"""
