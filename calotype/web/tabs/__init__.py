"""The tabs of the page, in their order: modules with `NAME`, `TITLE` and `add`, which makes the components."""

from calotype.web.tabs import colour, imagine, models, queue, restore, results, settings, split, train

TABS = (restore, split, colour, imagine, train, queue, results, models, settings)
