"""The tabs of the page, in their order: modules with `NAME`, `TITLE` and `add`, which makes the components."""

from calotype.web.tabs import imagine, models, queue, restore, results, settings, train

TABS = (restore, imagine, train, queue, results, models, settings)
