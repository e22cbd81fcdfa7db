"""ComfyUI's files that have only the workflow of its editor: the same parameters as by the prompt beside it."""

import copy
import json
import time

import pytest

from calotype.dialects.comfyui import read
from calotype.dialects.comfyui_workflow import WIDGETS, named_widgets, prompt_of
from calotype.tasks.prompts import LoraRef


def node(number, kind, values, links=None, mode=0, outputs=(), **more):
    """A node as the editor stores it; `links` has the number of the link, and the type, of each input."""
    inputs = [{"name": name, "type": kind, "link": link} for name, (link, kind) in (links or {}).items()]
    outputs = [{"name": kind, "type": kind} for kind in outputs]
    return {
        "id": number,
        "type": kind,
        "mode": mode,
        "inputs": inputs,
        "outputs": outputs,
        "widgets_values": values,
    } | more


SAMPLED = {"model": (1, "MODEL"), "positive": (4, "CONDITIONING"), "negative": (6, "CONDITIONING")}
NODES = {
    3: node(3, "KSampler", [7, "randomize", 6, 3.5, "euler", "karras", 1], SAMPLED | {"latent_image": (2, "LATENT")}),
    4: node(4, "CheckpointLoaderSimple", ["SD/emoji.safetensors"], outputs=("MODEL", "CLIP", "VAE")),
    5: node(5, "EmptyLatentImage", [128, 96, 1]),
    6: node(6, "CLIPTextEncode", ["red apple, (big:1.2)"], {"clip": (3, "CLIP")}),
    7: node(7, "CLIPTextEncode", ["blob"], {"clip": (5, "CLIP")}),
    8: node(8, "VAEDecode", [], {"samples": (7, "LATENT"), "vae": (8, "VAE")}),
    9: node(9, "SaveImage", ["ComfyUI"], {"images": (9, "IMAGE")}),
    10: node(10, "Note", ["a note"]),
}
LINKS = [[1, 4, 0, 3, 0, "MODEL"], [2, 5, 0, 3, 3, "LATENT"], [3, 4, 1, 6, 0, "CLIP"], [4, 6, 0, 3, 1, "CONDITIONING"]]
LINKS += [[5, 4, 1, 7, 0, "CLIP"], [6, 7, 0, 3, 2, "CONDITIONING"], [7, 3, 0, 8, 0, "LATENT"], [8, 4, 2, 8, 1, "VAE"]]
LINKS += [[9, 8, 0, 9, 0, "IMAGE"]]


def workflow(changed=None, links=(), **more):
    """The usual one with other nodes, and links by their numbers."""
    own = {link[0]: link for link in [*LINKS, *links]}
    nodes = copy.deepcopy(NODES) | (changed or {})
    return {"nodes": [node for node in nodes.values() if node], "links": list(own.values()), "version": 0.4, **more}


def parameters(data, **texts):
    return read({"workflow": json.dumps(data), **texts})


def summary(found):
    size = found.width, found.height
    return found.prompt, found.negative, found.seed, found.steps, found.guidance, found.sampler, size, found.model


USUAL = ("red apple, (big:1.2)", "blob", 7, 6, 3.5, "euler", (128, 96), "SD/emoji.safetensors")


def test_the_usual_workflow():
    found = parameters(workflow())
    assert summary(found) == USUAL
    assert (found.schedule, found.program, found.emphasis, dict(found.unfollowed)) == (
        "karras",
        "ComfyUI",
        "no-norm",
        {},
    )


def test_the_prompt_goes_before_it():
    prompt = {
        "3": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 2, "sampler_name": "lcm", "model": ["4", 0]}}
    }
    assert parameters(workflow(), prompt=json.dumps(prompt)).seed == 1
    assert read({"prompt": json.dumps(workflow())}).seed == 7  # some programs store the workflow under this name
    assert summary(parameters(workflow(), prompt="{}")) == USUAL


@pytest.mark.parametrize("control", [["fixed"], ["increment"], ["decrement"], [None], []])
def test_what_happens_to_the_seed_is_no_value_of_its_own(control):
    changed = node(
        3, "KSampler", [7, *control, 6, 3.5, "euler", "karras", 1], SAMPLED | {"latent_image": (2, "LATENT")}
    )
    assert summary(parameters(workflow({3: changed}))) == USUAL


def test_two_samplers_of_one_picture():
    advanced = ["enable", 7, "fixed", 20, 3.5, "dpmpp_2m", "normal", 0, 12, "enable"]
    later = ["disable", 0, "fixed", 20, 3.5, "dpmpp_2m", "normal", 12, 10000, "disable"]
    nodes = {
        3: node(3, "KSamplerAdvanced", advanced, SAMPLED | {"latent_image": (2, "LATENT")}),
        11: node(11, "KSamplerAdvanced", later, SAMPLED | {"latent_image": (10, "LATENT")}),
    }
    found = parameters(workflow(nodes, [[10, 3, 0, 11, 3, "LATENT"], [7, 11, 0, 8, 0, "LATENT"]]))
    assert (found.seed, found.steps, found.sampler, found.schedule) == (7, 20, "dpmpp_2m", "normal")
    assert found.hires is None


def test_a_second_pass():
    values = [8, "fixed", 5, 2.0, "euler", "karras", 0.5]
    nodes = {
        12: node(12, "LatentUpscaleBy", ["nearest-exact", 1.5], {"samples": (10, "LATENT")}),
        11: node(11, "KSampler", values, SAMPLED | {"latent_image": (11, "LATENT")}),
    }
    links = [[10, 3, 0, 12, 0, "LATENT"], [11, 12, 0, 11, 3, "LATENT"], [7, 11, 0, 8, 0, "LATENT"]]
    found = parameters(workflow(nodes, links))
    assert (found.seed, found.hires.seed, found.hires.strength, found.hires.width) == (7, 8, 0.5, 192)
    assert found.hires.upscaler == "Latent (nearest-exact)"


def test_the_custom_sampler_and_its_nodes():
    nodes = {
        3: node(
            3,
            "SamplerCustomAdvanced",
            [],
            {name: (number, name.upper()) for number, name in enumerate(("noise", "guider", "sampler", "sigmas"), 20)}
            | {"latent_image": (2, "LATENT")},
        ),
        20: node(20, "RandomNoise", [7, "randomize"]),
        21: node(21, "CFGGuider", [3.5], SAMPLED),
        22: node(22, "KSamplerSelect", ["euler"]),
        23: node(23, "BasicScheduler", ["karras", 6, 1], {"model": (1, "MODEL")}),
    }
    links = [[number, number, 0, 3, 0, "*"] for number in range(20, 24)]
    found = parameters(workflow(nodes, links))
    assert summary(found) == USUAL and found.schedule == "karras"


def test_loras_and_vae():
    nodes = {
        20: node(20, "LoraLoader", ["a.safetensors", 0.5, 0.25], {"model": (20, "MODEL"), "clip": (3, "CLIP")}),
        21: node(21, "VAELoader", ["b.safetensors"]),
        22: node(22, "CLIPSetLastLayer", [-2], {"clip": (22, "CLIP")}),
    }
    links = [[20, 4, 0, 20, 0, "MODEL"], [1, 20, 0, 3, 0, "MODEL"], [8, 21, 0, 8, 1, "VAE"], [22, 4, 1, 22, 0, "CLIP"]]
    found = parameters(workflow(nodes, [*links, [3, 22, 0, 6, 0, "CLIP"]]))
    assert (found.loras, found.vae, found.clip_skip) == ((LoraRef("a.safetensors", 0.25, 0.5),), "b.safetensors", 2)


def test_a_lora_loader_of_rgthree_names_no_values():
    values = [{}, {"type": "PowerLoraLoaderHeaderWidget"}, {"on": True, "lora": "a", "strength": 0.5}, {}, ""]
    nodes = {20: node(20, "Power Lora Loader (rgthree)", values, {"model": (20, "MODEL"), "clip": (3, "CLIP")})}
    found = parameters(workflow(nodes, [[20, 4, 0, 20, 0, "MODEL"], [1, 20, 0, 3, 0, "MODEL"]]))
    assert found.loras == (LoraRef("a", 0.5, 0.5),) and found.model == "SD/emoji.safetensors"


def test_nodes_that_pass_on():
    """Reroutes, primitive nodes, stored links of KJNodes, and nodes that are bypassed or muted."""
    nodes = {
        20: node(20, "Reroute", [], {"": (20, "*")}),
        21: node(21, "SetNode", ["model"], {"MODEL": (21, "MODEL")}),
        22: node(22, "GetNode", ["model"]),
        23: node(23, "LoraLoader", ["a", 1, 1], {"model": (23, "MODEL"), "clip": (3, "CLIP")}, 4, ("MODEL", "CLIP")),
        24: node(24, "PrimitiveNode", [11, "randomize"]),
        25: node(25, "SaveImage", ["x"], {"images": (9, "IMAGE")}, mode=2),
    }
    sampler = copy.deepcopy(NODES[3])
    sampler["inputs"].append({"name": "seed", "type": "INT", "widget": {"name": "seed"}, "link": 24})
    links = [
        [20, 4, 0, 20, 0, "*"],
        [21, 20, 0, 21, 0, "MODEL"],
        [23, 22, 0, 23, 0, "MODEL"],
        [1, 23, 0, 3, 0, "MODEL"],
    ]
    found = parameters(workflow({**nodes, 3: sampler}, [*links, [24, 24, 0, 3, 4, "INT"]]))
    assert summary(found) == (*USUAL[:2], 11, *USUAL[3:]) and found.loras == ()


def test_names_that_a_newer_file_lists_go_before_those_by_class():
    listed = [
        {"name": name, "widget": {"name": name}, "link": None} for name in ("steps", "seed", "sampler_name", "cfg")
    ]
    sampler = node(3, "SamplerOfSomebody", [6, 7, "fixed", "euler", 3.5], SAMPLED | {"latent_image": (2, "LATENT")})
    sampler["inputs"] += listed
    found = parameters(workflow({3: sampler}))
    assert summary(found) == USUAL
    kept = node(3, "KSampler", [7, "fixed", 6, 3.5, "euler", "karras", 1], {"steps": (1, "INT")})
    kept["inputs"][0]["widget"] = {"name": "steps"}  # one value that became an input keeps its place
    assert named_widgets(kept)["steps"] == 6 and named_widgets(kept)["sampler_name"] == "euler"


def test_unknown_nodes_are_named():
    nodes = {20: node(20, "SkinRetouch", [0.7, "soft"], {"image": (9, "IMAGE")})}
    found = parameters(workflow(nodes, [[20, 20, 0, 9, 0, "IMAGE"]]) | {})
    assert found.unfollowed == {}  # it is not on the way to the saved picture
    saved = node(9, "SaveImage", ["x"], {"images": (20, "IMAGE")})
    found = parameters(workflow({**nodes, 9: saved}, [[20, 20, 0, 9, 0, "IMAGE"]]))
    assert found.seed == 7 and found.unfollowed == {"SkinRetouch": "widget 1: 0.7, widget 2: soft"}


def as_subgraph(**given):
    """The workflow with loader, texts and sampler in a subgraph, whose text and steps are given where it is used."""
    inner = [copy.deepcopy(NODES[number]) for number in (3, 4, 5, 6, 7)]
    inner[3]["inputs"].append({"name": "text", "widget": {"name": "text"}, "link": 40})
    inner[0]["inputs"].append({"name": "steps", "widget": {"name": "steps"}, "link": 41})
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(names, link, strict=True)) for link in LINKS[:6]]
    links += [{"id": 40, "origin_id": -10, "origin_slot": 0, "target_id": 6, "target_slot": 1}]
    links += [{"id": 41, "origin_id": -10, "origin_slot": 1, "target_id": 3, "target_slot": 4}]
    links += [{"id": 42, "origin_id": 3, "origin_slot": 0, "target_id": -20, "target_slot": 0}]
    links += [{"id": 43, "origin_id": 4, "origin_slot": 2, "target_id": -20, "target_slot": 1}]
    definition = {"id": "a-b-c", "name": "All", "nodes": inner, "links": links}
    definition |= {"inputs": [{"name": "words"}, {"name": "steps"}], "outputs": [{"name": "LATENT"}, {"name": "VAE"}]}
    used = node(30, "a-b-c", given.get("values", []), {"steps": (50, "INT")})
    used["inputs"].insert(0, {"name": "words", "widget": {"name": "words"}, "link": None})
    nodes = {3: None, 4: None, 5: None, 6: None, 7: None, 30: used, 31: node(31, "PrimitiveInt", [9, "fixed"])}
    outer = [[7, 30, 0, 8, 0, "LATENT"], [8, 30, 1, 8, 1, "VAE"], [50, 31, 0, 30, 1, "INT"]]
    return workflow(nodes, outer, definitions={"subgraphs": [definition]})


def test_subgraphs_are_replaced_by_their_nodes():
    found = parameters(as_subgraph(values=["green pear"]))
    assert summary(found) == ("green pear", "blob", 7, 9, *USUAL[4:])
    assert summary(parameters(as_subgraph()))[0] == USUAL[0]
    assert {"30:3", "30:4", "8", "9"} <= prompt_of(as_subgraph()).keys()


WRONG = [None, True, "x", -1, 1e400, [], {}, [[]], [None], [{}], {"a": []}, "9" * 5000, [[1, 2, 3, 4, 5]]]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_anything_may_have_a_wrong_type(value):
    for number, entry in enumerate(as_subgraph()["nodes"]):
        for name in (*entry, "properties"):
            data = as_subgraph()
            data["nodes"][number][name] = value
            parameters(data)
    for place in ("nodes", "links", "definitions"):
        parameters(workflow() | {place: value})
    for name in ("nodes", "links", "inputs", "id"):
        data = as_subgraph()
        data["definitions"]["subgraphs"][0][name] = value
        parameters(data)
    for place in range(5):
        for links in (workflow()["links"], as_subgraph()["links"]):
            links[place] = value
            parameters(workflow() | {"links": links})


def test_subgraphs_in_themselves_and_cycles_end():
    within = {"id": "x", "inputs": [{"name": "a"}], "nodes": [node(n, "x", [], {"a": (n, "*")}) for n in range(200)]}
    within["links"] = [[n, (n + 1) % 200, 0, n, 0, "*"] for n in range(200)] + [[999, 0, 0, -20, 0, "*"]]
    nodes = {n: node(n, "Reroute", [], {"": (n, "*")}) for n in range(100, 2000)} | {3: node(3, "x", [])}
    links = [[n, 100 + (n + 1) % 1900, 0, n, 0, "*"] for n in range(100, 2000)]
    begun = time.process_time()
    parameters(workflow(nodes, links, definitions={"subgraphs": [within]}))
    assert time.process_time() - begun < 2


def test_names_of_values_are_texts_without_the_seeds_control():
    assert all(isinstance(names, tuple) and "control_after_generate" not in names for names in WIDGETS.values())
