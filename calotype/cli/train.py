"""`calotype train`: learning from photos."""

import contextlib
import dataclasses
import time
from pathlib import Path
from typing import Any

from calotype.album.names import readable
from calotype.cli.batch import terminable
from calotype.cli.flags import argument, flag, flags, given, shape
from calotype.cli.show import listener
from calotype.settings import Settings
from calotype.tasks import Progress, Said, TrainLora, read_task

HELP = "Learn a face, a thing or a style from photos."


def lora(**values: Any) -> int:
    """Learn a face, a thing or a style as a LoRA, from a folder of photos.

    Options are called as in kohya's sd-scripts. What is learnt is saved again and again: after an interruption, the
    same command goes on where it was. The file works in A1111, ComfyUI and diffusers, and here as <lora:FILE:1>.
    """
    settings = Settings.gather(given(Settings, values))
    task = read_task("train_lora", {**given(TrainLora, values), "photos": values["photos"]})
    show = listener(bool(values["json"]), bool(values["quiet"]), time.monotonic)
    from calotype.engine import Engine

    name, begun = str(task.photos), time.monotonic()
    show.tell("begin", pictures=1, out=str(task.output_dir))
    show.tell("picture", source=name, target=str(task.output_dir))
    try:
        with terminable(), contextlib.closing(Engine(settings).run(task)) as steps:
            for step in steps:
                if isinstance(step, Progress):
                    show.tell("progress", source=name, **dataclasses.asdict(step))
                elif isinstance(step, Said):
                    show.tell("said", source=None, text=step.text)
                else:
                    seconds = round(time.monotonic() - begun, 2)
                    loss = sum(step.losses[-50:]) / max(1, len(step.losses[-50:]))
                    show.tell("done", source=name, target=str(step.path), loss=round(loss, 5), seconds=seconds)
    except KeyboardInterrupt:
        show.close()
        show.tell("said", source=None, text=f"stopped; the same command goes on ({readable(task.output_dir)})")
        return 130
    finally:
        show.close()
    return 0


shape(
    lora,
    argument("photos", Path, "folder with photos, or with N_name folders of them", "PHOTOS"),
    *flags(TrainLora, Settings),
    flag("json", "one JSON object a line on stdout for everything that happens", panel="What is said"),
    flag("quiet", "say nothing of what goes well", "-q", "--quiet", panel="What is said"),
)
COMMANDS = (lora,)
