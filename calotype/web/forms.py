"""Forms of tasks, made from their dataclasses."""

import contextlib
import dataclasses
import html
import itertools
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import gradio as gr

from calotype.api.schemas import NOT_UPLOADED
from calotype.errors import CalotypeError, Message
from calotype.options import (
    about,
    as_data,
    default,
    entry_kind,
    groups,
    is_optional,
    is_required,
    kinds,
    required_kind,
    title,
)
from calotype.samplers import SAMPLERS, SCHEDULES
from calotype.tasks import TASKS
from calotype.web.texts import Texts

SLIDER_STEPS = 512  # a number with more whole values than this is typed
FLOAT_STEP = 0.05
OFFERED = {"sampler": ("auto", *SAMPLERS), "schedule": SCHEDULES}  # chosen of a list; other spellings can be typed
QUIET = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}  # events of buttons and scripts
MAX_FILLING = 200_000  # characters
LONG_TEXT = 2000  # a text that may be as long as this has several lines
Names = Callable[[str], Collection[str]]  # of a kind of model
_NUMBERS = itertools.count(1)  # two orders are different, so that the page shows the second one too


@dataclass(frozen=True)
class Door:
    """What tabs are made with.

    Attributes:
        names_for: the names of each kind of model that whoever makes a request may use, as the API allows them; of no
            request: those that everybody may.
        choices: drop-downs of names, each with the kind of its names and the words that stand before them.
    """

    texts: Texts
    names_for: Callable[[gr.Request | None], Names]
    choices: list[tuple[gr.Dropdown, str, Sequence[str]]] = dataclasses.field(default_factory=list)


@dataclass(frozen=True)
class Filling:
    """Options for a form, and notes about what could not be followed."""

    task: Mapping[str, Any]
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class FormField:
    """An option and its component."""

    spec: dataclasses.Field
    kind: Any
    component: gr.components.Component

    def value(self, shown: Any) -> Any:
        """The value of the option, of that of the component."""
        if shown is None or (shown == "" and is_optional(self.kind)):
            return None
        if entry_kind(self.kind):
            entries = [line.strip() for line in str(shown).splitlines() if line.strip()]
            return [_number(entry_kind(self.kind), entry) for entry in entries]
        return _number(required_kind(self.kind), shown)

    @property
    def usual(self) -> Any:
        """The default as data; None where the option must be given."""
        return None if is_required(self.spec) else as_data(default(self.spec))

    def shown(self, value: Any) -> Any:
        """What the component shows for a value of the option; its default for what it cannot show."""
        plain, usual = required_kind(self.kind), self.usual
        if entry_kind(self.kind):
            entries = value if isinstance(value, list | tuple) else usual or ()
            return "\n".join(str(entry) for entry in entries)
        if plain is bool:
            return value if isinstance(value, bool) else bool(usual)
        if plain in (int, float):
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            number = value if is_number else usual
            is_typed = isinstance(self.component, gr.Textbox)
            return ("" if number is None else str(number)) if is_typed else number
        return value if isinstance(value, str) else usual or ""


@dataclass(frozen=True)
class TaskForm:
    """The fields of a task."""

    kind: str
    fields: tuple[FormField, ...]

    @property
    def components(self) -> list[gr.components.Component]:
        return [field.component for field in self.fields]

    def task(self, values: Sequence[Any]) -> dict[str, Any]:
        """The options that are not at their defaults; the API checks them."""
        task = {}
        for field, shown in zip(self.fields, values, strict=True):
            value = field.value(shown)
            if value != field.usual and not (value is None and not is_optional(field.kind)):
                task[field.spec.name] = value
        return task

    def shown(self, task: Mapping[str, Any]) -> list[Any]:
        """What the components show for a task: defaults where it says nothing."""
        return [field.shown(task.get(field.spec.name, field.usual)) for field in self.fields]


def add_element(name: str) -> None:
    """A custom element of the scripts. `gr.HTML` would need scripts made of texts, which the policy forbids."""
    gr.Markdown(f"<{name}></{name}>", sanitize_html=False, elem_classes="ct-host")


def add_form(
    door: Door,
    kind: str,
    common: Sequence[str],
    button: str,
    hidden: Sequence[str] = (),
    elements: Sequence[str] = (),
    plan: str = "",
    initial: Mapping[str, Any] | None = None,
) -> TaskForm:
    """The form of a kind of task, with its button: the common options, and the others in closed groups.

    Args:
        common: the options that are always shown, in this order.
        button: the label of the button, which sends the options to the scripts (`static/orders.js`).
        hidden: options that the tab sets by other means.
        elements: custom elements between the common options and the button.
        plan: the label of a second button, which asks for the plan of a run alone (`dry_run`); empty: there is none.
        initial: what the form begins with, where that is not the option's default.
    """
    cls, fields, _ = TASKS[kind], [], door.texts
    specs = {spec.name: spec for _, group in groups(cls) for spec in group if _is_shown(cls, spec, hidden)}
    with gr.Column(elem_classes="ct-form"):
        fields += [add_field(door, kind, specs[name], (initial or {}).get(name)) for name in common]
        for element in elements:
            add_element(element)
        buttons = {}
        with gr.Row(elem_classes="ct-buttons") if plan else contextlib.nullcontext():
            buttons[gr.Button(button, variant="primary", elem_id=f"{kind}-go")] = {}
            if plan:
                buttons[gr.Button(plan, elem_id=f"{kind}-plan")] = {"dry_run": True}
        order = gr.Markdown("", elem_id=f"{kind}-order", elem_classes="ct-order", sanitize_html=False)
        rest = [(name, [spec for spec in group if spec.name in specs]) for name, group in groups(cls)]
        with gr.Accordion(_("More options"), open=False, elem_id=f"{kind}-more", elem_classes="ct-more"):
            for name, group in rest:
                if group := [spec for spec in group if spec.name not in common]:
                    gr.Markdown(f"### {door.texts.wording.translate(name)}")
                    fields += [add_field(door, kind, spec) for spec in group]
    form = TaskForm(kind, tuple(fields))
    for pressed, more in buttons.items():
        pressed.click(
            partial(order_of, form, more=more),
            form.components,
            order,
            **QUIET,
        )
    return form


def order_of(form: TaskForm, *values: Any, more: Mapping[str, Any] | None = None) -> str:
    """The options of a form and some more, for the scripts: an element that hands them over once it is in the page."""
    return _order(form.kind, {**form.task(values), **(more or {})})


def _order(kind: str, data: Mapping[str, Any]) -> str:
    text = html.escape(json.dumps(data, ensure_ascii=False))
    return f'<ct-order kind="{kind}" task="{text}" number="{next(_NUMBERS)}"></ct-order>'


def add_choices(door: Door) -> None:
    """A hidden button by which scripts have the names in all forms read again (`static/main.js`)."""
    button = gr.Button("", elem_id="ct-choices", elem_classes="ct-order")

    def choices(request: gr.Request) -> list[Any]:
        names = door.names_for(request)
        return [gr.update(choices=named(words, names(kind))) for _, kind, words in door.choices]

    button.click(
        choices,
        None,
        [dropdown for dropdown, *_ in door.choices],
        **QUIET,
    )


def named(words: Sequence[str], names: Collection[str]) -> list[str]:
    """The choices of a drop-down: words such as auto, then names of models."""
    return [*words, *sorted(set(names) - set(words))]


def add_filler(door: Door, form: TaskForm, read: Callable[[Any, Names], Filling]) -> None:
    """A hidden field by which scripts fill a form (`fill` in `static/orders.js`): it takes JSON, which `read` reads.

    `read` also takes the names of models that whoever fills the form may use.
    """
    text = gr.Textbox("", elem_id=f"ct-fill-{form.kind}", elem_classes="ct-order", show_label=False, container=False)
    order = gr.Markdown("", elem_id=f"ct-filled-{form.kind}", elem_classes="ct-order", sanitize_html=False)

    def filled(written: str, request: gr.Request) -> list[Any]:
        return fill(door, form, partial(read, names=door.names_for(request)), written)

    text.change(
        filled,
        text,
        [order, *form.components],
        trigger_mode="multiple",
        **QUIET,
    )


def fill(door: Door, form: TaskForm, read: Callable[[Any], Filling], text: str) -> list[Any]:
    """The options that have no field here, and notes, for the scripts; and what the components show."""
    try:
        filling = read(json.loads(text[:MAX_FILLING]))
    except CalotypeError as fault:
        return [
            _order(f"{form.kind}_filled", {"fault": door.texts.wording.fill(fault)}),
            *(gr.skip() for _ in form.fields),
        ]
    except ValueError:
        return [gr.skip() for _ in range(len(form.fields) + 1)]
    known = {field.spec.name for field in form.fields}
    rest = {name: value for name, value in filling.task.items() if name not in known}
    facts = {"rest": rest, "notes": list(filling.notes)}
    return [_order(f"{form.kind}_filled", facts), *form.shown(filling.task)]


def add_field(door: Door, kind: str, spec: dataclasses.Field, initial: Any = None) -> FormField:
    """The component of one option: label, help, limits and default are those of the task's field.

    `initial`: what it shows at first instead of the default.
    """
    field_kind = kinds(TASKS[kind])[spec.name]
    rules = about(spec)
    usual = None if is_required(spec) else as_data(default(spec))
    what = {
        "label": door.texts.wording.translate(title(spec)),
        "info": door.texts.wording.fill(Message(rules.help)),
        "elem_id": f"{kind}-{spec.name}",
        "elem_classes": "ct-field",
    }
    first = usual if initial is None else initial
    if spec.name in OFFERED:
        offered = gr.Dropdown(list(OFFERED[spec.name]), value=first, allow_custom_value=True, **what)
        return FormField(spec, field_kind, offered)
    return FormField(spec, field_kind, _component(door, rules, field_kind, first, what))


def _component(door: Door, rules: Any, kind: Any, usual: Any, what: dict[str, Any]) -> gr.components.Component:
    plain = required_kind(kind)
    if entry_kind(kind):
        return gr.Textbox("\n".join(map(str, usual or ())), lines=2, **what)
    if plain is bool:
        return gr.Checkbox(bool(usual), **what)
    if rules.choices:
        return gr.Dropdown(list(rules.choices), value=usual, filterable=False, **what)
    if rules.names and not rules.parsed:
        words = (*rules.words, *(() if usual is None or usual in rules.words else (usual,)))
        dropdown = gr.Dropdown(named(words, door.names_for(None)(rules.names)), value=usual, **what)
        door.choices.append((dropdown, rules.names, words))
        return dropdown
    if plain in (int, float):
        return _number_component(rules, plain, usual, what)
    return gr.Textbox("" if usual is None else str(usual), lines=3 if rules.max_length >= LONG_TEXT else 1, **what)


def _number_component(rules: Any, kind: type, usual: Any, what: dict[str, Any]) -> Any:
    if usual is None:  # Gradio's field of a number makes 0 of none
        return gr.Textbox("", max_lines=1, **what)
    limits = {"minimum": rules.min, "maximum": rules.max}
    is_short = None not in limits.values() and rules.max - rules.min <= (SLIDER_STEPS if kind is int else 1)
    if is_short:
        return gr.Slider(value=usual, step=1 if kind is int else FLOAT_STEP, **limits, **what)
    return gr.Number(usual, **what)  # without limits: the API names the field in its sentence, Gradio does not


def _is_shown(cls: type, spec: dataclasses.Field, hidden: Sequence[str]) -> bool:
    kind = required_kind(kinds(cls)[spec.name])
    is_nested = dataclasses.is_dataclass(entry_kind(kind) or kind)
    return not (about(spec).is_path or is_nested or spec.name in (*NOT_UPLOADED, *hidden))


def _number(kind: Any, shown: Any) -> Any:
    """A number typed as text, or one of JSON; what is none is left for the API to refuse."""
    if kind not in (int, float) or isinstance(shown, bool):
        return shown
    try:
        number = float(shown)
    except (TypeError, ValueError):
        return shown
    return int(number) if kind is int and number.is_integer() else number
