"""Teaches the shipped model one subject, a little robot of our own, from 8 views, and measures what it learnt and kept.

    pip install resvg-py
    python recipes/lora/character.py [WORK]

WORK (a folder, "work" where not given) takes everything that is made; what lies there already is not made again, and
the regularisation pictures are those of style.py. The table goes into the README beside this file, the contact sheet
becomes character.jpg.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from commands import STYLES, Line, drawn, learnt, regular, with_captions
from drawings import SIDE, UNSEEN, words
from kobi import LEARNT, NAME, write
from kobi import UNSEEN as HELD_OUT
from measured import Pictures, Seen, moved, nearer
from PIL import Image
from shown import Sheet, compared, into_readme
from torch import Tensor

HERE = Path(__file__).parent
SEEDS = 4  # pictures of each view, and in each style
REPEATS = 50  # of each view in an epoch; as many regularisation pictures come to them
TRAINING = (
    *("--resolution", 256, "--network-train-unet-only", "--network-dim", 16, "--conv-dim", 16),
    *("--learning-rate", 1e-3, "--lr-scheduler", "linear", "--train-batch-size", 8, "--max-train-steps", 500),
    *("--prior-target", "model"),
    *("--max-token-length", 75),  # one chunk of words, as these prompts are drawn with
)
DESCRIBED = "teal robot with a red scarf"
AKIN = ("robot", "waving hand", "sleeping face", "crown", "red heart")  # what has words or looks in common with Kobi
MEASURES = (Pictures.far, Pictures.unlike, Pictures.unlike_in_colours)


def main() -> None:
    work = Path(sys.argv[1] if len(sys.argv) > 1 else "work")
    own = work / NAME
    learnt_from = write(LEARNT, own / "photos" / f"{REPEATS}_{NAME}", is_told=True)
    held_out = write(HELD_OUT, own / "true")

    # What the base model draws by itself, at guidance 1: its own idea of the world, not a sharpened one.
    with_captions(regular(), work / "regular" / "1_own", "--guidance", 1)

    again, wanted = ([Line(view.caption, 100, SEEDS) for view in views] for views in (LEARNT, HELD_OUT))
    styled = [Line(f"{NAME}, {style}", 100, SEEDS) for style in STYLES]
    described = [Line(f"{DESCRIBED}, {style}", 100, SEEDS) for style in STYLES]
    others = [Line(f"{words(name)}, {style}", 200) for name in UNSEEN[::2] for style in STYLES]
    akin = [Line(f"{name}, {style}", 200) for style in STYLES for name in AKIN]

    base = {"described": described, "before": wanted, "others": others, "akin": akin}
    paths = {name: drawn(lines, own / name) for name, lines in base.items()}
    lora, time = learnt(own / "photos", work / "regular", own / "lora" / f"{NAME}.safetensors", TRAINING)
    trained = {"again": again, "after": wanted, "styled": styled, "others after": others, "akin after": akin}
    paths |= {name: drawn(lines, own / name.replace(" ", "-"), "--lora", lora) for name, lines in trained.items()}

    Image.new("RGB", (SIDE, SIDE), "white").save(own / "page.png")
    paths |= {"learnt": learnt_from, "held out": held_out, "page": [own / "page.png"]}
    seen = Seen()
    table = told({name: seen.looked_at(some) for name, some in paths.items()})
    print("\n" + table)
    into_readme(HERE / "README.md", "character", f"{table}\n\n{time}")
    sheet(paths).save(HERE / "character.jpg")


def told(seen: Mapping[str, Pictures]) -> str:
    """The tables, in Markdown."""
    true, rest = seen["learnt"] + seen["held out"], seen["others"] + seen["akin"]
    rows = {
        "Kobi, each view against the others": near(true, true, rest, is_itself=True),
        "LoRA, views that were learnt": near(seen["again"], true, rest),
        "LoRA, views that were not": near(seen["after"], true, rest),
        "LoRA, Kobi in the model's seven styles": near(seen["styled"], true, rest),
        "LoRA, other subjects without the word": near(seen["others after"] + seen["akin after"], true, rest),
        "base, views that were not learnt": near(seen["before"], true, rest),
        "base, Kobi described in words that it knows": near(seen["described"], true, rest),
        "a blank page": near(seen["page"], true, rest),
    }
    lines = [f"| {name} | {' | '.join(cells)} |" for name, cells in rows.items()]
    table, far = nearer([view.called for view in HELD_OUT], seen["held out"], seen["before"], seen["after"])
    return "\n\n".join(
        (
            "\n".join(["| drawn | latents | style | colours |", "|---|---|---|---|", *lines]),
            asked_for(seen),
            table,
            instead("A blank page", seen["page"], seen),
            instead("The true front view", seen["learnt"][:1], seen),
            "What should stay, ten other subjects:\n\n" + moved(STYLES, seen["others"], seen["others after"], far),
            "What should stay, subjects akin to Kobi or to its captions:\n\n"
            + moved(AKIN, seen["akin"], seen["akin after"], far),
        )
    )


def near(some: Pictures, true: Pictures, others: Pictures, is_itself: bool = False) -> list[str]:
    """For each measure the mean distance to the nearest true view, and how many are nearer to one than to any other."""
    cells = []
    for measure in MEASURES:
        views, rest = between(measure, some, true), between(measure, some, others)
        if is_itself:
            views.fill_diagonal_(float("inf"))
        least = views.amin(1)
        cells.append(f"{least.mean():.2f}, {(least < rest.amin(1)).float().mean():.0%}")
    return cells


def between(measure: Callable[[Pictures, Pictures], Tensor], some: Pictures, others: Pictures) -> Tensor:
    """(N, M): every picture against every other."""
    columns = (measure(some, others[torch.tensor([n]).expand(len(some))]) for n in range(len(others)))
    return torch.stack(list(columns), 1)


def asked_for(seen: Mapping[str, Pictures]) -> str:
    """How often the view that was asked for is the nearest of all true ones, in latents."""
    true, parts = seen["learnt"] + seen["held out"], []
    for what, drawings, first in (
        ("with the LoRA for views that were learnt", seen["again"], 0),
        ("for those that were not", seen["after"], len(LEARNT)),
        ("with the base for these", seen["before"], len(LEARNT)),
    ):
        wanted = torch.arange(first, first + len(drawings) // SEEDS).repeat_interleave(SEEDS)
        hits = between(Pictures.far, drawings, true).argmin(1) == wanted
        parts.append(f"**{int(hits.sum())} of {len(hits)}** {what}")
    return f"The view that was asked for is the nearest of the {len(true)} true ones: {', '.join(parts)}."


def instead(what: str, one: Pictures, seen: Mapping[str, Pictures]) -> str:
    """A control: one and the same picture, whatever was asked for."""
    means, wins = [], []
    for measure in MEASURES[:2]:
        its = between(measure, one, seen["held out"])[0]  # (views,)
        ours = measure(seen["after"], seen["held out"][torch.arange(len(its)).repeat_interleave(SEEDS)])
        means.append(float(its.mean()))
        wins.append(int((ours.view(len(its), SEEDS).mean(1) < its).sum()))
    return (
        f"{what} instead of each is {means[0]:.2f} from these views in latents, {means[1]:.3f} in style; "
        f"the LoRA is nearer on {wins[0]} and {wins[1]} of {len(HELD_OUT)}."
    )


def sheet(paths: Mapping[str, list[Path]]) -> Sheet:
    """What was learnt; what was not, with base, LoRA and true; the styles; and what should stay, before and after."""
    made, half, three = Sheet(), len(HELD_OUT) // 2, (paths["before"], paths["after"], paths["held out"])
    made.heading("Learnt: the eight views, and below them two drawings of each with the LoRA")
    for row in (paths["learnt"], paths["again"][::SEEDS], paths["again"][1::SEEDS]):
        made.row(row)
    made.heading("Not learnt: base, LoRA (two seeds each), and the true view")
    for n in range(half):
        made.row([*compared(n, *three), None, *compared(n + half, *three)])
    made.heading(f"{', '.join(STYLES)}: the base told what Kobi looks like; the LoRA told '{NAME}'")
    for seed in range(2):
        made.row([*paths["described"][seed::SEEDS], None, *paths["styled"][seed::SEEDS]])
    made.heading("Without the word, in the same seven styles: before, and beside it after")
    for n in range(0, len(paths["others"]), len(STYLES)):
        made.row([*paths["others"][n : n + len(STYLES)], None, *paths["others after"][n : n + len(STYLES)]])
    for n in range(len(AKIN)):
        made.row([*paths["akin"][n :: len(AKIN)], None, *paths["akin after"][n :: len(AKIN)]])
    return made


if __name__ == "__main__":
    main()
