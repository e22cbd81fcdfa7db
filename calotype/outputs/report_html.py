"""The words and the looks of the report; the paper is that of all our pages."""

from collections.abc import Iterable
from html import escape

from calotype import html as paper
from calotype.html import data_uri

STYLE = """.pair { position: relative; margin: 20px auto 0; width: fit-content; max-width: 100%; line-height: 0; }
.pair img { display: block; max-width: 100%; max-height: 82vh; width: auto; height: auto; border-radius: 4px; }
.pair .after img { clip-path: inset(0 0 0 var(--cut, 50%)); }
.pair figure { margin: 0; } .pair .after { position: absolute; inset: 0; }
.pair figcaption { position: absolute; bottom: 12px; padding: 3px 10px; border-radius: 4px;
  background: rgb(20 18 16 / .62); color: #fff; font-size: 14px; line-height: 1.4; }
.pair .before figcaption { left: 12px; } .pair .after figcaption { right: 12px; }
.pair .bar { position: absolute; top: 0; bottom: 0; left: var(--cut, 50%); width: 2px; margin-left: -1px;
  background: #fff; box-shadow: 0 0 6px rgb(0 0 0 / .5); pointer-events: none; }
.pair .bar::after { content: "\\2194"; position: absolute; top: 50%; left: -17px; width: 36px; height: 36px;
  margin-top: -18px; border-radius: 50%; background: #fff; color: #2b2723;
  font: 20px/34px sans-serif; text-align: center;
  box-shadow: 0 1px 6px rgb(0 0 0 / .4); }
.pair input { position: absolute; inset: 0; width: 100%; height: 100%; margin: 0; opacity: 0; cursor: ew-resize; }
.pair input:focus-visible { opacity: 1; outline: 3px solid var(--accent); background: none; appearance: none; }
.pair input::-webkit-slider-thumb { height: 100%; }
.people { display: grid; grid-template-columns: minmax(180px, 300px) 1fr; gap: 28px; align-items: start; }
.people > img { width: 100%; height: auto; border-radius: 4px; border: 1px solid var(--line); }
.faces { list-style: none; margin: 0; padding: 0; display: grid;
  grid-template-columns: repeat(auto-fill, minmax(250px, 1fr)); gap: 24px; }
.faces .two { display: grid; grid-template-columns: 1fr 1fr; gap: 4px; margin-bottom: 8px; }
.faces img { width: 100%; height: auto; aspect-ratio: 1; object-fit: cover; border-radius: 4px; }
.faces p { font-size: 15px; line-height: 1.45; margin: 0; }
.number { display: inline-block; min-width: 24px; padding: 0 7px; margin-right: 6px; border-radius: 12px;
  background: var(--accent); color: var(--card); font: 600 14px/24px sans-serif; text-align: center; }
@media (max-width: 700px) { .people { grid-template-columns: 1fr; } }
@media print {
  .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 8pt; width: 100%; break-inside: avoid; }
  .pair .after { position: relative; } .pair .after img { clip-path: none; } .pair img { max-height: 16cm; }
  .pair .bar, .pair input { display: none; } .faces li { break-inside: avoid; }
  .faces { grid-template-columns: repeat(auto-fill, minmax(170px, 1fr)); } }
"""

SCRIPT = """
for (const pair of document.querySelectorAll(".pair")) {
  const slider = pair.querySelector("input");
  const cut = () => pair.style.setProperty("--cut", slider.value + "%");
  slider.addEventListener("input", cut);
  cut();
}
"""


def head(title: str, lead: str, version: str) -> str:
    """Everything before the first picture."""
    return paper.head(title, lead, version, STYLE, SCRIPT)


def foot(version: str) -> str:
    """Everything after the last picture."""
    return paper.foot(version, SCRIPT)


def picture(name: str, lead: str, pair: str, faces: str, notes: Iterable[str], details: str) -> str:
    """One picture's card, from its parts."""
    said = "".join(f"<li>{escape(note)}</li>" for note in notes)
    return f"""<article>
<h2>{escape(name)}</h2>
<p class="soft">{escape(lead)}</p>
{pair}
{faces}
{f'<ul class="notes soft">{said}</ul>' if said else ""}
{details}
</article>
"""


def pair(before: bytes, after: bytes, size: tuple[int, int], name: str) -> str:
    """Two JPEGs of the same size (width, height), one over the other, with a slider; side by side on paper."""
    width, height = size
    return f"""<div class="pair">
<figure class="before"><img src="{data_uri(before)}" width="{width}" height="{height}" alt="{escape(name)}, before">\
<figcaption>before</figcaption></figure>
<figure class="after"><img src="{data_uri(after)}" width="{width}" height="{height}" alt="{escape(name)}, after">\
<figcaption>after</figcaption></figure>
<div class="bar"></div>
<input type="range" min="0" max="100" value="50" step="0.1" aria-label="Where before ends and after begins">
</div>"""


def people(overview: bytes, cards: Iterable[str], title: str) -> str:
    """The picture with numbered boxes, and a card for each face."""
    return f"""<h3>{escape(title)}</h3>
<div class="people">
<img src="{data_uri(overview)}" alt="where the faces are">
<ol class="faces">{"".join(cards)}</ol>
</div>"""


def face(number: int, before: bytes, after: bytes, lines: Iterable[str]) -> str:
    told = "<br>".join(escape(line) for line in lines)
    return f"""<li><div class="two"><img src="{data_uri(before)}" alt="face {number}, before">\
<img src="{data_uri(after)}" alt="face {number}, after"></div>
<p><span class="number">{number}</span>{told}</p></li>"""


def failure(name: str, cause: str) -> str:
    return f"""<article class="failed"><h2>{escape(name)}</h2><p>Not done: {escape(cause)}</p></article>
"""
