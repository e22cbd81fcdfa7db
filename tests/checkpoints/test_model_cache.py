"""Models stay loaded between tasks, within the memory there is."""

import shutil
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file, save_file

from calotype import memory
from calotype.checkpoints.model_cache import MODEL_FRACTION, ModelCache, expected_bytes
from calotype.checkpoints.models import Models, _weights
from calotype.checkpoints.store import ModelStore
from calotype.engine import Engine
from calotype.tasks import Imagine, Upscale

CPU = torch.device("cpu")
SMALL, UPSCALER = 6_831_660, 2_411_312  # bytes of a small diffusion model and of photo-x2, in float32


@pytest.fixture(scope="module")
def two_models(settings, small_model, tmp_path_factory):
    """Settings with a home in which two small diffusion models are named a and b."""
    folder = tmp_path_factory.mktemp("two")
    changed = replace(settings, home=folder / "home", precision="float32")
    shutil.copytree(small_model.parent, folder / "b")
    weights = folder / "b" / "unet" / "diffusion_pytorch_model.safetensors"
    save_file({name: tensor * 0.9 for name, tensor in load_file(weights).items()}, weights)
    for name, path in (("a", small_model), ("b", folder / "b" / small_model.name)):
        ModelStore(changed).put(name, path, "diffusion")
    return changed


@pytest.fixture
def tasks(tmp_path):
    Image.radial_gradient("L").resize((16, 16)).convert("RGB").save(tmp_path / "photo.png")
    drawing = {name: Imagine(prompt="a cat", model=name, steps=1, size="64", seed=1) for name in "ab"}
    return {**drawing, "u": Upscale(source=tmp_path / "photo.png", model="photo-x2", scale=2)}


def limited(settings, room):
    """Settings with whose memory models of `room` bytes stay loaded."""
    return replace(settings, precision="float32", memory=(room + 1000) / MODEL_FRACTION / 2**30)


def picture_of(engine, task):
    return list(engine.run(task))[-1].picture.pixels


@pytest.mark.many(plain=2)
@pytest.mark.parametrize(
    ("room", "order", "loaded"),
    [
        (2 * SMALL + UPSCALER, "abuab", ["u", "a", "b"]),  # all of them
        (2 * SMALL, "abu", ["b", "u"]),  # a was used least recently
        (2 * SMALL, "abau", ["a", "u"]),  # b was
        (2 * SMALL, "uab", ["a", "b"]),
        (2 * SMALL, "uaub", ["u", "b"]),
        (SMALL + UPSCALER, "aub", ["u", "b"]),
        (SMALL, "uab", ["b"]),
        (UPSCALER, "ua", ["a"]),  # too large even alone: loaded nevertheless
        (UPSCALER, "uau", ["u"]),
    ],
)
def test_the_least_recently_used_model_leaves_when_memory_is_short(two_models, room, order, loaded):
    models = Models(limited(two_models, room))
    for name in order:
        models.cache.begin_run()
        models.upscaler("photo-x2") if name == "u" else models.diffusion(name)
    names = ["photo-x2" if name == "u" else name for name in loaded]
    assert models.cache.in_order == names and models.loaded == frozenset(names)


def test_a_picture_is_the_same_whatever_was_loaded_and_removed_before(two_models, tasks):
    engine, orders = Engine(limited(two_models, SMALL)), []
    new = {name: picture_of(Engine(two_models), task) for name, task in tasks.items()}
    for name in "abua":
        assert (picture_of(engine, tasks[name]) == new[name]).all()
        orders.append(engine.models.cache.in_order)
    assert orders == [["a"], ["b"], ["photo-x2"], ["a"]]


def test_the_size_of_a_model_is_known_before_it_is_loaded(two_models):
    models = Engine(two_models).models
    loads = {
        ("a", "diffusion"): models.diffusion,
        ("photo-x2", "upscale"): models.upscaler,
        ("realesr-animevideov3", "upscale"): models.upscaler,  # a file of ncnn
        ("faces-v2", "faces"): models.faces,
    }
    for (name, kind), load in loads.items():
        expected = expected_bytes(_weights(models.store.find(name, kind=kind)), torch.float32)
        load(name)
        measured = list(models.cache._sizes.values())[-1]["cpu"]
        assert measured == pytest.approx(expected, rel=0.02)


def test_without_a_limit_the_free_memory_decides(two_models, monkeypatch):
    models = Models(two_models)
    monkeypatch.setattr(memory, "available", lambda: int(2 * SMALL / MODEL_FRACTION) - loaded_bytes(models))
    for load in (lambda: models.diffusion("a"), lambda: models.upscaler("photo-x2"), lambda: models.diffusion("b")):
        models.cache.begin_run()
        load()
    assert models.cache.in_order == ["photo-x2", "b"]


def loaded_bytes(models):
    return sum(sizes["cpu"] for sizes in models.cache._sizes.values())


def test_models_that_are_not_in_use_make_room_for_work():
    cache = filled(ModelCache(1000), a=100, b=100)
    assert cache.free(CPU) == 1000 and cache.in_order == ["a", "b"]
    cache.begin_run()
    assert cache.free(CPU, 800) == 1000 and cache.in_order == ["a", "b"]  # they and the work have room
    assert cache.free(CPU, 801) == 1000 and cache.in_order == ["b"]
    load(cache, "b", 100)
    assert cache.free(CPU, 10_000) == 1000 and cache.in_order == ["b"]  # in use


def test_models_of_one_run_stay_unless_one_of_their_kind_is_loaded():
    cache = ModelCache(int(200 / MODEL_FRACTION) + 1)
    cache.begin_run()
    load(cache, "a", 150, "diffusion")
    load(cache, "u", 150, "upscale")
    assert cache.in_order == ["a", "u"]  # both are needed
    load(cache, "b", 150, "diffusion")
    assert cache.in_order == ["u", "b"]  # as in a grid of several models
    assert cache.remove_idle() is False
    cache.begin_run()
    assert cache.remove_idle() is True and cache.in_order == []


def test_a_model_whose_loading_fails_leaves_nothing_behind():
    cache = ModelCache(1000)

    def fail():
        raise MemoryError

    with pytest.raises(MemoryError):
        cache.get("upscale", "a", ("a",), (), None, fail, lambda: {"cpu": 10})
    assert cache.in_order == [] and load(cache, "a", 100) is load(cache, "a", 100)


@given(
    st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=30),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 500), min_size=6),
    st.booleans(),
)
def test_models_fit_into_their_memory_and_the_last_one_is_among_them(uses, sizes, is_known):
    cache, capacity, recent = ModelCache(1000), 1000 * MODEL_FRACTION, []
    for name, _ in uses:
        cache.begin_run()
        load(cache, name, sizes[name], is_known=is_known)
        recent = [*(old for old in recent if old != name), name]
        assert cache.in_order == recent[-len(cache.in_order) :]  # the least recently used ones have left
        assert sum(sizes[name] for name in cache.in_order) <= capacity or cache.in_order == [name]
        recent = cache.in_order


def load(cache, name, size, kind="upscale", is_known=True):
    weights = {"cpu": size if is_known else 0}
    return cache.get(kind, name, (name,), (), None, lambda: torch.zeros(size, dtype=torch.uint8), lambda: weights)


def filled(cache, **sizes):
    for name, size in sizes.items():
        load(cache, name, size)
    return cache


def test_free_memory_is_that_of_the_system(monkeypatch):
    monkeypatch.setattr(memory, "available", lambda: 5000)
    assert ModelCache(0).free(CPU) == 5000 and ModelCache(4000).free(CPU, 6000) == 4000
