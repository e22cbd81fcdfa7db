"""The paper that every page of ours is written on: HTML in one file, light and dark, nothing fetched, text escaped."""

import base64
import hashlib
from collections.abc import Iterable
from html import escape

GENERATOR = '<meta name="generator" content="Calotype'

STYLE = """
:root { color-scheme: light dark; --paper: #faf9f6; --card: #ffffff; --ink: #2b2723; --soft: #766d63; --line: #e4dfd7;
  --accent: #8a5a2b; --bad: #9b2c1f; }
@media (prefers-color-scheme: dark) { :root { --paper: #191715; --card: #22201d; --ink: #ece6de; --soft: #a59b8f;
  --line: #3a3631; --accent: #d9a66c; --bad: #ef9484; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 17px/1.6 Charter, "Iowan Old Style", Georgia, "Noto Serif", "Noto Serif CJK SC", serif; }
main, header, footer { max-width: 1040px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 72px; padding-bottom: 24px; }
h1 { font-size: 40px; line-height: 1.15; font-weight: 500; margin: 0 0 10px; letter-spacing: -0.01em; }
h2 { font-size: 24px; line-height: 1.3; font-weight: 500; margin: 0; }
h3 { font-size: 18px; font-weight: 600; margin: 36px 0 12px; }
p { margin: 0 0 8px; } .soft, footer { color: var(--soft); font-size: 15px; }
article { background: var(--card); border: 1px solid var(--line); border-radius: 10px; padding: 32px;
  margin: 0 0 40px; }
ul.notes { padding-left: 20px; margin: 20px 0 0; } details { margin-top: 24px; }
summary { cursor: pointer; color: var(--accent); }
dl { display: grid; grid-template-columns: minmax(110px, 170px) 1fr; gap: 2px 16px; font-size: 15px; margin: 12px 0 0; }
dt { color: var(--soft); } dd { margin: 0; }
.failed { border-color: var(--bad); } .failed h2 { color: var(--bad); }
footer { padding-bottom: 72px; }
@media (max-width: 700px) { article { padding: 20px; } header { padding-top: 36px; } }
@media print { body { background: none; font-size: 11pt; } header { padding-top: 0; }
  article { border: 0; padding: 0; margin-bottom: 28pt; background: none; } h2, h3 { break-after: avoid; }
  details:not([open]) { display: none; } }
"""


def head(title: str, lead: str, version: str, style: str = "", script: str = "") -> str:
    """Everything before the first article.

    Args:
        style: rules of the page's own.
        script: what `foot` will hold; nothing else may run.
    """
    style = STYLE + style
    runs = f"; script-src '{hashed(script)}'" if script else ""
    policy = f"default-src 'none'; img-src data:; style-src '{hashed(style)}'{runs}"
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
{GENERATOR} {escape(version)}">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="referrer" content="no-referrer">
<title>{escape(title)}</title>
<style>{style}</style>
</head>
<body>
<header>
<h1>{escape(title)}</h1>
<p class="soft">{escape(lead)}</p>
</header>
<main>
"""


def foot(version: str, script: str = "") -> str:
    """Everything after the last article."""
    told = f"<script>{script}</script>\n" if script else ""
    return f"""</main>
<footer>Made by Calotype {escape(version)}. The page is complete in itself: keep it, send it, print it.</footer>
{told}</body>
</html>
"""


def hashed(text: str) -> str:
    """As a content security policy names what may stand in the page."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def data_uri(jpeg: bytes) -> str:
    return "data:image/jpeg;base64," + base64.b64encode(jpeg).decode()


def details(rows: Iterable[tuple[str, str]], summary: str = "How it was made") -> str:
    """Names and values, folded away."""
    return f"<details><summary>{escape(summary)}</summary>{pairs(rows)}</details>"


def pairs(rows: Iterable[tuple[str, str]]) -> str:
    inside = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in rows)
    return f"<dl>{inside}</dl>"
