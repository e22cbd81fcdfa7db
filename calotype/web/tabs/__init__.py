"""The tabs of the page, in their order: modules with `NAME`, `TITLE` and `add`, which makes the components."""

from calotype.web.tabs import queue, restore, results

TABS = (restore, queue, results)
