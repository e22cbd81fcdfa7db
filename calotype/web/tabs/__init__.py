"""The tabs of the page, in their order: modules with `NAME`, `TITLE` and `add`, which makes the components."""

from calotype.web.tabs import imagine, queue, restore, results

TABS = (restore, imagine, queue, results)
