"""How the page words what a training tells: options by their titles, and no folders and commands, which it has not."""

from calotype.api.wording import FormWording, ResponseWording

TEMPLATES = {  # what trainings say on the command line: what they say on the page
    "each of the {count} photos is shown {repeats} times an epoch; name a folder N_name to choose": (
        "each of the {count} photos is shown {repeats} times an epoch"
    ),
    "{steps} steps have {views:.0f} training samples, {each:.1f} of each photo; that is too few, 1000 to 3000 are "
    "usual. Raise {length} or the photos' repeats (N_name folders, num_repeats)": (
        "{steps} steps have {views:.0f} training samples, {each:.1f} of each photo; that is too few, 1000 to 3000 are "
        "usual. Raise {length}"
    ),
    "{photos} no caption file ({names}), so the caption is {caption}; write what they show, or run `{task:caption} "
    "PHOTOS`": "{photos} no caption ({names}); write beside them what they show, so that words of a prompt call it",
    "no photo has a caption, so no word of a prompt will call the LoRA's subject; `{task:caption} PHOTOS "
    "{option:trigger} WORD` writes captions": (
        "no photo has a caption, so no word of a prompt will call what they show; write captions beside the photos"
    ),
    "no photo has a caption file; all captions are the name of a folder or subset ({names}). Captions that also "
    "describe the rest of a photo separate it from the subject: `{task:caption} PHOTOS`": (
        "no photo has a caption, so all are learned as “{names}”. Write beside each photo what it shows, the rest of "
        "the picture too: that separates it from the subject"
    ),
    "{photos} duplicated, bit for bit (such as {first} = {second}); keep one of each, and use the repeats of N_name "
    "folders to show some more often": (
        "{photos} duplicated, bit for bit (such as {first} = {second}); keep one of each"
    ),
    "{photos} blurred ({names}), and so will be the results; remove, or try `{task:restore}`": (
        "{photos} blurred ({names}), and so will be the results; remove them, or restore them first"
    ),
    "{photos} smaller than the training resolution and will be enlarged up to {times:.1f} times ({names}), which looks "
    "soft. Enlarge with `{task:upscale}`, give {option:bucket_no_upscale}, or remove": (
        "{photos} smaller than the training resolution and will be enlarged up to {times:.1f} times ({names}), which "
        "looks soft. Restore them at a higher scale first, switch on {option:bucket_no_upscale}, or remove them"
    ),
    "{files} empty ({names}): no word of a prompt will call what these photos show. Write what they show": (
        "{files} empty ({names}): no word of a prompt will call what these photos show. Write beside them what they "
        "show"
    ),
    "{pictures} drawn {moments} and at the end, into {folder}": "{pictures} drawn {moments} and at the end",
    "samples are drawn {count} times during training, into {folder}": (
        "samples are drawn {count} times during training"
    ),
    "{folder} has {count} readable pictures, at least {fewest} are needed ({suffixes})": (
        "there are {count} photos that can be read, and {fewest} are needed at least; add some"
    ),
    "{path} is kept: the same command learns on with more {option:max_train_steps}": (
        "the state of the training is kept with its files"
    ),
    "report: {path}": "the report of the training is among its files: {path}",
}


class PageWording(FormWording, ResponseWording):
    """In the language that the request prefers."""

    def translate(self, template: str) -> str:
        return super().translate(TEMPLATES.get(template, template))


PAGE = PageWording()
