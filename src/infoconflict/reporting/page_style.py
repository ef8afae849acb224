"""The style sheet of the page, kept apart from what it says."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c1c1c; --soft: #5c5f66; --line: #dfe1e5; --paper: #ffffff; --panel: #f5f6f8; --accent: #1f5f9e;
  --good: #1d6b3a; --fair: #7a5600; --bad: #a3261b;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e8e9eb; --soft: #a4a8b0; --line: #363a42; --paper: #15171b; --panel: #1e2126; --accent: #8bbcf0;
    --good: #7fd29b; --fair: #e5bf62; --bad: #f1948a;
  }
  figure img { filter: invert(1) hue-rotate(180deg); mix-blend-mode: lighten; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0 auto; padding: 1.5rem 1.25rem 4rem; max-width: 58rem; color: var(--ink); background: var(--paper);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif;
}
h1 { font-size: 1.05rem; font-weight: 600; margin: 0; color: var(--soft); }
h2 { font-size: 1.3rem; line-height: 1.3; margin: 3rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1.8rem 0 .4rem; }
p, ul, dl { margin: .5rem 0 .9rem; max-width: 44rem; }
ul { padding-left: 1.2rem; }
li { margin: .25rem 0; }
a { color: var(--accent); }
.soft { color: var(--soft); }
.small { font-size: .875rem; }
code, pre { font-family: ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: .85em; }
pre {
  background: var(--panel); padding: .8rem 1rem; overflow-x: auto; border-radius: .4rem; line-height: 1.45;
  margin: .6rem 0;
}
nav { margin: 1.2rem 0 0; font-size: .875rem; line-height: 1.9; }
nav a { margin-right: .9rem; text-decoration: none; white-space: nowrap; }
nav a:hover { text-decoration: underline; }
.lead .interval { font-size: .95rem; }
.lead { font-size: 1.3rem; line-height: 1.42; margin: .6rem 0 .5rem; max-width: 50rem; text-wrap: pretty; }
.verdict { font-weight: 600; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(13rem, 1fr)); gap: .8rem; margin: 1.2rem 0; }
.tile { background: var(--panel); border-radius: .5rem; padding: .75rem 1rem .8rem; }
.tile b { display: block; font-size: 1.55rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.tile span { display: block; font-size: .82rem; color: var(--soft); font-variant-numeric: tabular-nums; }
.tile span:first-child { font-size: .9rem; color: var(--ink); }
figure { margin: 1.2rem 0 1.6rem; }
figure > div { overflow-x: auto; }
figure img { display: block; width: 100%; min-width: 31rem; max-width: 42rem; height: auto; }
figcaption { font-size: .9rem; color: var(--soft); max-width: 42rem; margin-top: .4rem; }
.scroll { overflow-x: auto; margin: .9rem 0 1.3rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); font-size: .875rem; padding-bottom: .4rem; }
caption span { display: block; position: sticky; left: 0; max-width: min(44rem, calc(100vw - 2.6rem)); }
th, td { text-align: left; padding: .32rem 1.1rem .32rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
th { font-weight: 400; }
thead th { font-weight: 600; border-bottom: 1.5px solid var(--soft); vertical-align: bottom; }
th:last-child, td:last-child { padding-right: 0; }
.number { text-align: right; white-space: nowrap; }
tr.control > * { color: var(--soft); }
tr.total > * { font-weight: 600; }
.interval { color: var(--soft); font-size: .92em; white-space: nowrap; }
.compact td .interval { display: block; font-size: .78rem; }
.compact th, .compact td { padding-right: .8rem; }
.compact thead .number { white-space: normal; }
.nowrap { white-space: nowrap; }
thead button {
  all: unset; cursor: pointer; font-weight: 600; border-radius: .2rem;
}
thead button:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
thead button::after { content: "\\2195"; color: var(--line); padding-left: .3em; }
thead [aria-sort="ascending"] button::after { content: "\\2191"; color: var(--ink); }
thead [aria-sort="descending"] button::after { content: "\\2193"; color: var(--ink); }
.met { color: var(--good); } .doubt { color: var(--fair); } .missed { color: var(--bad); }
.met, .doubt, .missed { font-weight: 600; }
.bar { display: block; height: .55rem; min-width: 1px; background: var(--accent); border-radius: .1rem; }
td.bars { min-width: 7rem; vertical-align: middle; }
details { margin: .6rem 0; }
summary { cursor: pointer; padding: .25rem 0; color: var(--accent); }
details.case > summary { font-weight: 600; }
dt { font-weight: 600; margin-top: .6rem; }
dd { margin: 0; }
.digest { white-space: nowrap; display: block; }
:target { background: var(--panel); }
a.cell { color: inherit; text-decoration: underline dotted var(--line); text-underline-offset: .2em; }
a.cell:hover, a.cell:focus-visible { text-decoration-color: var(--accent); }
.claim { min-width: 15rem; }
details.method > summary { color: var(--ink); }
#card-search { font: inherit; padding: .25rem .5rem; width: min(24rem, 100%); color: inherit; background: var(--paper);
  border: 1px solid var(--soft); border-radius: .3rem; }
#card-list { list-style: none; padding: 0; max-height: 16rem; overflow-y: auto; font-size: .9rem; overflow-wrap: anywhere; }
dialog {
  width: min(58rem, calc(100vw - 1.5rem)); max-width: none; max-height: calc(100dvh - 2rem);
  overflow-y: auto; padding: 0 1.25rem 1.25rem;
  color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: .6rem;
}
dialog::backdrop { background: rgb(0 0 0 / .45); }
dialog header { position: sticky; top: 0; background: var(--paper); padding: .9rem 0 .2rem; border-bottom: 1px solid var(--line); }
dialog h2 { margin: 0; padding: 0; border: 0; font-size: 1.1rem; overflow-wrap: anywhere; outline: none; }
dialog header p { margin: .3rem 0; }
dialog button { font: inherit; font-size: .9rem; margin-right: .5rem; padding: .15rem .8rem; cursor: pointer; color: var(--ink);
  background: var(--panel); border: 1px solid var(--line); border-radius: .3rem; }
dialog a { overflow-wrap: anywhere; }
dialog td:last-child:not(.number) { min-width: 11rem; }
dialog .digest { white-space: normal; overflow-wrap: anywhere; display: inline; }
.facts { display: grid; grid-template-columns: minmax(6rem, auto) 1fr; gap: .15rem 1rem; font-size: .9rem; max-width: none; }
.facts dt { margin: 0; font-weight: 400; color: var(--soft); }
.facts dd { overflow-wrap: anywhere; min-width: 0; }
footer { margin-top: 3rem; padding-top: .8rem; border-top: 1px solid var(--line); }
@media (max-width: 36rem) {
  body { padding: 1rem .9rem 3rem; }
  .lead { font-size: 1.12rem; }
  h2 { margin-top: 2.2rem; }
  td .interval { display: block; font-size: .78rem; }
  .nowrap { white-space: normal; }
  th, td { padding-right: .7rem; }
  .tiles { grid-template-columns: 1fr; gap: .5rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .4rem; }
  #table-claims thead { display: none; }
  #table-claims, #table-claims :is(caption, tbody, tr, th, td) { display: block; }
  #table-claims tr { border-bottom: 1px solid var(--line); padding: .5rem 0; }
  #table-claims :is(th, td) { border: 0; padding: 0; }
  #table-claims .interval { display: inline; }
  #table-claims th { color: var(--soft); font-size: .82rem; }
}
@media print {
  :root {
    --ink: #000; --soft: #444; --line: #bbb; --paper: #fff; --panel: #f2f2f2; --accent: #000;
    --good: #000; --fair: #000; --bad: #000;
  }
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav, thead button::after, dialog, #card-finder { display: none; }
  a.cell { text-decoration: none; }
  .scroll { overflow: visible; }
  caption span { position: static; }
  /* A button is not repeated with its heading on the next sheet, its text is. */
  thead button { display: contents; }
  figure, tr, .tile, .tiles { break-inside: avoid; }
  h2, h3, dt { break-after: avoid; }
  figure img { filter: none; mix-blend-mode: normal; min-width: 0; max-width: 15cm; }
  a { text-decoration: none; }
}
"""
