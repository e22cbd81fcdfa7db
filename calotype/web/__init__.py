"""The page: Gradio's forms and our own custom elements over the API of the service.

The page is a door: its forms build the body of `POST /jobs`, its scripts send it and show the answers. A tab is

- a module in `tabs/` with `NAME`, `TITLE` and `add(door)`, which makes components; it stands in `TABS` of
  `tabs/__init__.py`. Live parts are custom elements: `forms.add_element("ct-queue")`. A form of a task is
  `forms.add_form(door, kind, common=...)`, whose button hands the options to the script.
- a module in `static/` that defines the element and is imported by `static/main.js`. It reads and changes jobs by
  `static/api.js`, hears of changes by `static/live.js`, and receives the options of a form by
  `onOrder(kind, task => …)` of `static/orders.js`; `showFault(kind, fault)` puts an error beside its field.

Texts of Python and of scripts are English templates in `_("…")`; `texts.py` translates both by the page's language.

Components that make scripts of texts (`gr.HTML`, `js=`) don't work under the page's content security policy, nor do
those that upload or show files (`gr.Image`, `gr.File`, `gr.Gallery`): pictures go through `POST /uploads`, and our own
elements show them from the API.
"""
