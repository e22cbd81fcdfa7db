"""Forms are made from the dataclasses of the tasks, and give back what `read_task` accepts."""

import gradio as gr
import pytest

from calotype.errors import CalotypeError
from calotype.options import about, default, is_required, visible
from calotype.tasks import TASKS, read_task
from calotype.web.forms import Door, add_form, order_of
from calotype.web.texts import Texts

NAMES = {"upscale": ["photo-x2", "photo-x4"], "faces": ["faces-v2"], "diffusion": ["emoji"]}


def form_of(kind, common=(), hidden=()):
    with gr.Blocks():
        return add_form(Door(Texts("en"), lambda request: lambda kind: NAMES.get(kind, [])), kind, common, "Go", hidden)


def values_of(form, **changes):
    return [changes.get(field.spec.name, field.component.value) for field in form.fields]


@pytest.mark.many(plain=5)
@pytest.mark.parametrize("kind", TASKS)
def test_an_untouched_form_has_no_options(kind):
    form = form_of(kind)
    task = form.task(values_of(form))
    needed = {field.spec.name for field in form.fields if is_required(field.spec)}
    assert set(task) <= needed


def test_every_option_has_one_field_with_its_title_help_and_limits():
    form = form_of("restore", ("scale", "face_model"), ("faces",))
    fields = {field.spec.name: field for field in form.fields}
    shown = [spec.name for spec in visible(TASKS["restore"]) if not about(spec).is_path]
    assert sorted(fields) == sorted(set(shown) - {"faces"})
    assert list(fields)[:2] == ["scale", "face_model"]
    quality = fields["quality"].component
    assert (quality.label, quality.minimum, quality.maximum, quality.value) == ("Quality", 1, 100, 95)
    assert fields["min_confidence"].component.label == "Minimum confidence"
    assert "{" not in fields["upscaler"].component.info
    assert [name for name, _ in fields["face_model"].component.choices] == ["auto", "none", "faces-v2"]
    assert isinstance(fields["strip_location"].component, gr.Checkbox)


def test_changed_values_are_those_of_the_task():
    form = form_of("restore")
    values = values_of(form, scale=3, quality=80.0, strip_location=True, face_model="none", overlap=16.0)
    task = form.task(values)
    assert task == {"scale": 3.0, "quality": 80, "strip_location": True, "face_model": "none", "overlap": 16}
    assert isinstance(task["quality"], int)
    read = read_task("restore", {**task, "source": "photo.jpg"})
    assert (read.quality, read.scale, read.face_model) == (80, 3.0, "none")


def test_what_is_no_number_is_refused_by_the_task_with_its_option():
    form = form_of("restore")
    with pytest.raises(CalotypeError) as fault:
        read_task("restore", {**form.task(values_of(form, scale="two")), "source": "photo.jpg"})
    assert fault.value.option == "scale"


def test_an_emptied_number_keeps_its_default_and_an_optional_one_is_none():
    form = form_of("train_lora")
    assert form.task(values_of(form, train_batch_size=None)) == {}
    optional = [field for field in form.fields if not is_required(field.spec) and default(field.spec) is None]
    assert optional and all(field.value("") is None for field in optional)


def test_an_order_is_text_of_an_attribute_only():
    form = form_of("restore")
    values = values_of(form, strength='"><script>alert(1)</script>')
    first, second = order_of(form, *values), order_of(form, *values)
    assert "<script>" not in first and first.count("<") == 2
    assert first != second, "the page shows the second order, too"


def test_samplers_and_schedules_are_chosen_of_a_list_or_typed():
    form = form_of("imagine")
    fields = {field.spec.name: field for field in form.fields}
    assert "Euler a" in dict(fields["sampler"].component.choices) and fields["sampler"].component.allow_custom_value
    assert form.task(values_of(form, sampler="DPM++ 2M Karras", schedule="karras")) == {
        "sampler": "DPM++ 2M Karras",
        "schedule": "karras",
    }
    for name, wrong in (("sampler", {"sampler": "zz"}), ("schedule", {"sampler": "Euler", "schedule": "zz"})):
        with pytest.raises(CalotypeError) as fault:
            read_task("imagine", {"prompt": "fox", **wrong}, trusted=False)
        assert fault.value.option == name


def test_a_number_that_is_not_given_stays_so():
    form = form_of("imagine")
    fields = {field.spec.name: field for field in form.fields}
    for name in ("steps", "guidance"):
        assert isinstance(fields[name].component, gr.Textbox), "Gradio's field of a number makes 0 of none"
    assert form.task(values_of(form)) == {}
    task = form.task(values_of(form, steps="30", guidance=" 4.5 ", rescale="x"))
    assert task == {"steps": 30, "guidance": 4.5, "rescale": "x"}  # the API says which field takes numbers
    assert form.task(form.shown({"steps": 30, "guidance": 4.5})) == {"steps": 30, "guidance": 4.5}


@pytest.mark.parametrize("language, name", [("en", "“Sample prompts”"), ("zh", "“")])
def test_the_help_of_a_field_names_others_by_their_titles(language, name):
    with gr.Blocks():
        form = add_form(Door(Texts(language), lambda request: lambda kind: []), "train_lora", (), "Go")
    (field,) = [field for field in form.fields if field.spec.name == "sample_every_n_epochs"]
    assert name in field.component.info and "sample_prompts" not in field.component.info
