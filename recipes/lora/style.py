"""Teaches the shipped model OpenMoji's style from 24 drawings, and measures what it learnt and what it kept.

    pip install resvg-py
    npm pack @iconify-json/openmoji && tar xzf iconify-json-openmoji-*.tgz
    python recipes/lora/style.py package/icons.json [WORK]

WORK (a folder, "work" where not given) takes everything that is made; what lies there already is not made again. The
table goes into the README beside this file, the contact sheet becomes style.jpg.
"""

import sys
from pathlib import Path

from commands import STYLES, Line, drawn, learnt, regular, with_captions
from drawings import LEARNT, UNSEEN, Drawings, words
from measured import Pictures, Seen, moved, nearer
from shown import Sheet, compared, into_readme

HERE = Path(__file__).parent
TRIGGER = "openmoji"  # a word that the base model does not know
SEEDS = 4  # pictures of each unseen subject
REPEATS = 20  # of each drawing in an epoch; as many regularisation pictures come to them
TRAINING = (
    *("--resolution", 256, "--network-train-unet-only", "--network-dim", 16, "--conv-dim", 16),
    *("--learning-rate", 1e-3, "--lr-scheduler", "linear", "--train-batch-size", 8, "--max-train-steps", 1000),
    *("--prior-target", "model", "--prior-loss-weight", 2),
    *("--max-token-length", 75),  # one chunk of words, as these prompts are drawn with
)


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    set_, work = Drawings(Path(sys.argv[1])), Path(sys.argv[2] if len(sys.argv) > 2 else "work")
    set_.write(LEARNT, work / "photos" / f"{REPEATS}_{TRIGGER}", TRIGGER)
    set_.write(UNSEEN, work / "true")

    # What the base model draws by itself, at guidance 1: its own idea of the world, not a sharpened one.
    with_captions(regular(), work / "regular" / "1_own", "--guidance", 1)

    wanted = [Line(f"{words(name)}, {TRIGGER}", 100, SEEDS) for name in UNSEEN]
    others = [Line(f"{words(name)}, {style}", 200) for name in UNSEEN[::2] for style in STYLES]
    before, before_others = drawn(wanted, work / "before"), drawn(others, work / "before-others")
    lora, time = learnt(work / "photos", work / "regular", work / "lora" / "openmoji.safetensors", TRAINING)
    after = drawn(wanted, work / "after", "--lora", lora)
    after_others = drawn(others, work / "after-others", "--lora", lora)

    true = [work / "true" / f"{name}.png" for name in UNSEEN]
    table = told(*map(Seen().looked_at, (true, before, after, before_others, after_others)))
    print("\n" + table)
    into_readme(HERE / "README.md", "style", f"{table}\n\n{time}")
    sheet(true, before, after, before_others, after_others).save(HERE / "style.jpg")


def told(true: Pictures, before: Pictures, after: Pictures, before_others: Pictures, after_others: Pictures) -> str:
    """The tables, in Markdown."""
    table, far = nearer([words(name) for name in UNSEEN], true, before, after)
    named = {"true": true, "base": before, "LoRA": after, "other styles before": before_others, "after": after_others}
    dark = ", ".join(f"{name} {float(pictures.dark.mean()):.1%}" for name, pictures in named.items())
    return f"{table}\n\n{moved(STYLES, before_others, after_others, far)}\n\nBlack, the outlines' colour: {dark}."


def sheet(
    true: list[Path], before: list[Path], after: list[Path], before_others: list[Path], after_others: list[Path]
) -> Sheet:
    """Base, base, LoRA, LoRA, true for each subject; below, the other styles, before over after."""
    made, half, three = Sheet(), len(UNSEEN) // 2, (before, after, true)
    made.heading("Unseen subjects: base, LoRA (two seeds each), and the true OpenMoji drawing")
    for n in range(half):
        made.row([*compared(n, *three), None, *compared(n + half, *three)])
    made.heading("The same in other styles, without the trigger word: before, and below it after")
    for n, style in enumerate(STYLES):
        made.heading(style)
        for paths in (before_others, after_others):
            made.row(paths[n :: len(STYLES)])
    return made


if __name__ == "__main__":
    main()
