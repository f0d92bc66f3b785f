"""How `GET /docs` looks: light and dark, on a desk and on a phone."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --page: #fff; --ink: #1d2330; --dim: #5c6577; --line: #e2e5ec;
  --soft: #f5f6f9; --link: #1857c4; --get: #0b6e4b; --post: #8a4b00; --put: #5536b8; --delete: #b3261e;
  --mark: #fff6d6; }
@media (prefers-color-scheme: dark) { :root { --page: #12151c; --ink: #e6e9f0; --dim: #9aa4b8; --line: #2a303d;
  --soft: #1a1f29; --link: #86b1ff; --get: #4cc38a; --post: #f1a847; --put: #b3a1ff; --delete: #ff8a80;
  --mark: #3a3213; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.55 system-ui, sans-serif;
  display: grid; grid-template-columns: 21rem minmax(0, 62rem); }
code, pre, .method { font-family: ui-monospace, "SF Mono", "DejaVu Sans Mono", monospace; font-size: .86em; }
pre code, code code { font-size: 1em; }
a { color: var(--link); text-decoration: none; } a:hover { text-decoration: underline; }
nav { position: sticky; top: 0; height: 100vh; overflow-y: auto; padding: 1.5rem 1rem 2rem 1.5rem;
  border-right: 1px solid var(--line); background: var(--soft); font-size: .9rem; }
nav h2, h4 { font-size: .78rem; text-transform: uppercase; letter-spacing: .05em; color: var(--dim); }
nav h2 { margin: 1.2rem 0 .3rem; } nav h2 a { color: inherit; }
nav .name { font-weight: 700; font-size: 1.05rem; margin: 0; }
nav ul { list-style: none; margin: 0; padding: 0; }
nav li a { display: block; padding: .17rem 0 .17rem 3.6rem; text-indent: -3.6rem; color: inherit;
  overflow-wrap: anywhere; }
nav li.plain a { padding-left: 0; text-indent: 0; }
nav .method { display: inline-block; width: 3.6rem; text-indent: 0; font-size: .72rem; }
main { padding: 1.5rem 2.5rem 6rem; }
h1 { font-size: 1.9rem; margin: .2rem 0 .6rem; }
main > h2 { margin: 3.5rem 0 .2rem; font-size: 1.45rem; } main > h2::first-letter { text-transform: uppercase; }
h3 { margin: 0; font-size: 1.08rem; overflow-wrap: anywhere; } h3 code { font-size: .95em; }
h4 { margin: 1.3rem 0 .3rem; } h4 code, h4 a { text-transform: none; letter-spacing: 0; }
section { border-top: 1px solid var(--line); padding: 1.6rem 0 .8rem; margin-top: 1.2rem; }
section:target > h3, tr:target > * { background: var(--mark); }
p, main ul { margin: .4rem 0; } .dim { color: var(--dim); }
.method { font-weight: 700; } .get { color: var(--get); } .post { color: var(--post); }
.put { color: var(--put); } .delete { color: var(--delete); }
pre { background: var(--soft); border: 1px solid var(--line); border-radius: 8px; padding: .8rem 1rem;
  margin: .5rem 0; overflow-x: auto; line-height: 1.5; user-select: all; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); font-weight: 400;
  padding: .35rem 1rem .35rem 0; overflow-wrap: anywhere; }
th { width: 15rem; } th small { display: block; color: var(--dim); }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--link); font-size: .92rem; }
@media (max-width: 60rem) { body { display: block; } main { padding: 1rem 1rem 4rem; }
  nav { position: static; height: auto; border: 0; border-bottom: 1px solid var(--line); padding: 1rem; }
  nav li a { padding-top: .35rem; padding-bottom: .35rem; }
  th, td { display: block; width: auto; border: 0; padding: 0; }
  tr { display: block; border-bottom: 1px solid var(--line); padding: .45rem 0; } }
"""
