"""The look of a report: light and dark by the reader's setting, one column on a phone."""

from __future__ import annotations

from typing import Final

STYLE: Final = """\
:root {
  --paper: #ffffff; --ink: #1d2129; --soft: #5b6470; --line: #d8dce2; --shade: #f4f6f8;
  --base: #3b6fb6; --tuned: #b4530a; --good: #1a7f4b; --bad: #b3261e; --warn: #8a6100; --warn-shade: #fff6df;
  --mark: #c9efd0;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14171c; --ink: #e6e9ee; --soft: #9aa4b2; --line: #343b46; --shade: #1c2128;
    --base: #82aeea; --tuned: #f0a05a; --good: #5fc98e; --bad: #f2897f; --warn: #e3bd5a; --warn-shade: #2b2617;
    --mark: #1f4d2f;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 62rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .75rem; padding-bottom: .25rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .5rem; overflow-wrap: anywhere; }
p { margin: .5rem 0; }
.soft { color: var(--soft); font-size: .875rem; }
dl.facts { display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .3rem 1.25rem; margin: 0; }
dl.facts dt { color: var(--soft); }
dl.facts dd { margin: 0; overflow-wrap: anywhere; }
ul.warnings { margin: 1.25rem 0 0; padding: .6rem 1rem .6rem 2rem; background: var(--warn-shade);
  border-left: 4px solid var(--warn); }
ul.verdicts { margin: 0; padding-left: 1.2rem; }
ul.verdicts li { margin: .4rem 0; overflow-wrap: anywhere; } ul.verdicts .soft { display: block; }
ul.verdicts + .charts { margin-top: 1.25rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); gap: 1rem 1.5rem; }
figure { margin: 0; }
figcaption { font-weight: 600; font-size: .9rem; margin-bottom: .25rem; }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1rem; font-weight: 400; color: var(--soft); font-size: .8rem; }
.legend i { font-style: normal; }
svg { display: block; width: 100%; height: auto; font: 12.5px system-ui, sans-serif; }
svg text { fill: var(--ink); }
svg .soft { fill: var(--soft); }
svg .grid { stroke: var(--line); }
svg .zero { stroke: var(--soft); stroke-dasharray: 3 3; }
svg .path { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
svg .stroke-base { stroke: var(--base); } svg .fill-base { fill: var(--base); }
svg .stroke-tuned { stroke: var(--tuned); } svg .fill-tuned { fill: var(--tuned); }
svg .hollow { fill: var(--paper); stroke-width: 2; }
svg .majority { stroke: var(--ink); stroke-width: 2; }
svg .best { fill: none; stroke: var(--ink); stroke-width: 1.5; }
.key-base { color: var(--base); } .key-tuned { color: var(--tuned); } .key-majority, .key-best { color: var(--ink); }
table { border-collapse: collapse; width: 100%; font-size: .85rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; margin: 1.25rem 0 .75rem; }
th, td { padding: .35rem .4rem; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top;
  white-space: nowrap; }
th { color: var(--soft); font-weight: 600; }
th:first-child, td:first-child { text-align: left; }
td:first-child { font-weight: 600; white-space: normal; overflow-wrap: break-word; }
details { margin: .5rem 0; }
summary { cursor: pointer; padding: .25rem 0; }
summary.good { color: var(--good); } summary.bad { color: var(--bad); }
article { border: 1px solid var(--line); border-left-width: 4px; border-radius: 4px; padding: .6rem .8rem;
  margin: .6rem 0; content-visibility: auto; contain-intrinsic-size: auto 8rem; }
article.good { border-left-color: var(--good); } article.bad { border-left-color: var(--bad); }
.question { font-weight: 600; } .question, .answer { white-space: pre-wrap; overflow-wrap: anywhere; margin: 0; }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: .75rem; margin-top: .5rem; }
.side { background: var(--shade); border-radius: 4px; padding: .4rem .6rem; min-width: 0; }
.who { display: block; color: var(--soft); font-size: .8rem; overflow-wrap: anywhere; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--shade); padding: .6rem .8rem; margin: .25rem 0;
  border-radius: 4px; font: .85rem/1.5 ui-monospace, Menlo, Consolas, monospace; color: var(--soft); }
pre mark { background: var(--mark); color: var(--ink); border-radius: 2px; }
pre .over { text-decoration: line-through; opacity: .6; }
@media (max-width: 40rem) {
  dl.facts { grid-template-columns: minmax(0, 7rem) 1fr; gap: .3rem .75rem; }
  .sides { grid-template-columns: 1fr; gap: .4rem; }
  table.slices, table.slices tbody, table.slices tr, table.slices td { display: block; width: 100%; }
  table.slices thead { position: absolute; left: -9999px; }
  table.slices tr { border: 1px solid var(--line); border-radius: 4px; margin: .6rem 0; padding: .4rem .7rem; }
  table.slices td { display: flex; justify-content: space-between; gap: 1rem; border: 0; padding: .15rem 0;
    text-align: right; white-space: normal; }
  table.slices td::before { content: attr(data-label); color: var(--soft); font-weight: 400; text-align: left; }
  table.slices td:first-child { font-size: 1rem; } table.slices td:first-child::before { content: none; }
}
@media print { details:not([open]) > * { display: revert; } article { content-visibility: visible; } }
"""
"""The style sheet of every page."""
