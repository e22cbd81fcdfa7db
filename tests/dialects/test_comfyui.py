"""ComfyUI's graph of nodes: from the saved picture back to its parameters."""

import copy
import json
import time

import pytest

from calotype.dialects.comfyui import read
from calotype.tasks.prompts import LoraRef


def node(kind, **inputs):
    return {"class_type": kind, "inputs": inputs}


LOADER = node("CheckpointLoaderSimple", ckpt_name="SD/emoji.safetensors")
SAMPLER = {"seed": 7, "steps": 6, "cfg": 3.5, "sampler_name": "euler", "scheduler": "karras", "denoise": 1.0}


def graph(**changed):
    nodes = {
        "4": LOADER,
        "5": node("EmptyLatentImage", width=128, height=96, batch_size=1),
        "6": node("CLIPTextEncode", text="red apple, [x] (big:1.2)", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="blob", clip=["4", 1]),
        "3": node("KSampler", **SAMPLER, model=["4", 0], positive=["6", 0], negative=["7", 0], latent_image=["5", 0]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    }
    return copy.deepcopy(nodes | {name.removeprefix("n"): value for name, value in changed.items()})


def parameters(nodes, size=None):
    return read({"prompt": json.dumps(nodes)}, size)


def second(**changed):
    inputs = {"model": ["4", 0], "positive": ["6", 0], "negative": ["7", 0], "latent_image": ["10", 0]}
    return node("KSampler", **{**SAMPLER, "steps": 5, "denoise": 0.5, **inputs, **changed})


def test_the_usual_graph():
    told = parameters(graph())
    assert (told.program, told.prompt, told.negative) == ("ComfyUI", r"red apple, \[x\] (big:1.2)", "blob")
    assert (told.seed, told.steps, told.guidance, told.sampler, told.schedule) == (7, 6, 3.5, "euler", "karras")
    assert (told.width, told.height, told.model) == (128, 96, "SD/emoji.safetensors")
    assert (told.emphasis, told.noise, told.hires, told.is_from_picture, dict(told.unfollowed)) == (
        *("no-norm", "cpu", None, False, {}),
    )


def test_reroutes_primitive_nodes_and_joined_texts():
    nodes = graph(
        n20=node("Reroute", **{"": ["4", 0]}),
        n21=node("PrimitiveInt", value=2**64 - 1),
        n22=node("Reroute (rgthree)", any=["6", 0]),
        n23=node("StringConcatenate", string_a="green pear", string_b=["24", 0], delimiter=", "),
        n24=node("String Literal", string="noto"),
        n25=node("Int Literal", Number=96),
    )
    nodes["3"]["inputs"] |= {"seed": ["21", 0], "model": ["20", 0], "positive": ["22", 0]}
    nodes["6"]["inputs"]["text"] = ["23", 0]
    nodes["5"]["inputs"]["width"] = ["25", 0]
    told = parameters(nodes)
    assert (told.seed, told.prompt, told.width, told.model) == (
        2**64 - 1,
        "green pear, noto",
        96,
        "SD/emoji.safetensors",
    )
    assert not told.unfollowed


def test_loras_vae_clip_skip_and_rescale():
    nodes = graph(
        n20=node(
            "LoraLoader",
            lora_name="a.safetensors",
            strength_model=0.5,
            strength_clip=0.25,
            model=["4", 0],
            clip=["4", 1],
        ),
        n21=node("LoraLoaderModelOnly", lora_name="b.safetensors", strength_model=2, model=["20", 0]),
        n22=node("RescaleCFG", multiplier=0.7, model=["21", 0]),
        n23=node("CLIPSetLastLayer", stop_at_clip_layer=-2, clip=["20", 1]),
        n24=node("VAELoader", vae_name="mse.safetensors"),
        n25=node(
            "Power Lora Loader (rgthree)",
            lora_1={"on": True, "lora": "c", "strength": 0.3},
            lora_2={"on": False, "lora": "d", "strength": 1},
            model=["22", 0],
        ),
        n26=node("FreeU_V2", b1=1.1, model=["25", 0]),
    )
    nodes["3"]["inputs"]["model"] = ["26", 0]
    nodes["6"]["inputs"]["clip"] = ["23", 0]
    nodes["8"]["inputs"]["vae"] = ["24", 0]
    told = parameters(nodes)
    assert told.loras == (
        LoraRef("a.safetensors", 0.25, 0.5),
        LoraRef("b.safetensors", 0.0, 2.0),
        LoraRef("c", 0.3, 0.3),
    )
    assert (told.clip_skip, told.vae, told.rescale) == (2, "mse.safetensors", 0.7)
    assert dict(told.unfollowed) == {"FreeU_V2": "b1: 1.1"}


def test_a_latent_second_pass_is_hires_fix():
    nodes = graph(
        n10=node("LatentUpscale", upscale_method="bicubic", width=256, height=192, crop="disabled", samples=["3", 0]),
        n11=second(seed=8),
    )
    nodes["8"]["inputs"]["samples"] = ["11", 0]
    told = parameters(nodes)
    assert (told.seed, told.steps, told.width, told.height, told.strength) == (7, 6, 128, 96, None)
    assert (told.hires.width, told.hires.height, told.hires.upscaler) == (256, 192, "Latent (bicubic)")
    assert (told.hires.strength, told.hires.steps) == (0.5, 10)  # of which A1111 runs half
    assert list(told.differences()) == ["Hires seed"] and not told.unfollowed
    assert list(parameters({**nodes, "11": second(seed=7, cfg=9)}).differences()) == ["Hires CFG Scale"]


def test_a_second_pass_through_pixels():
    nodes = graph(
        n12=node("ImageUpscaleWithModel", upscale_model=["13", 0], image=["8", 0]),
        n13=node("UpscaleModelLoader", model_name="4x-UltraSharp.pth"),
        n14=node("ImageScaleBy", scale_by=0.5, upscale_method="area", image=["12", 0]),
        n10=node("VAEEncode", pixels=["14", 0], vae=["4", 2]),
        n11=second(),
        n15=node("VAEDecode", samples=["11", 0], vae=["4", 2]),
        n9=node("SaveImage", images=["15", 0]),
    )
    told = parameters(nodes, (192, 256))
    assert (told.hires.upscaler, told.hires.width, told.hires.height) == ("4x-UltraSharp.pth", 256, 192)
    assert not told.is_from_picture and not told.unfollowed


def test_the_saved_picture_is_found_by_its_size():
    nodes = graph(
        n10=node("LatentUpscaleBy", upscale_method="nearest-exact", scale_by=2, samples=["3", 0]),
        n11=second(),
        n15=node("VAEDecode", samples=["11", 0], vae=["4", 2]),
        n16=node("SaveImage", images=["15", 0]),
    )
    assert parameters(nodes, (96, 128)).hires is None
    assert parameters(nodes, (192, 256)).hires.width == 256
    assert parameters(nodes).hires is not None


@pytest.mark.parametrize("refiner", ["4", "40"])
def test_two_advanced_samplers_are_one_pass(refiner):
    advanced = {"noise_seed": 3, "steps": 25, "cfg": 5, "sampler_name": "dpmpp_2m", "scheduler": "karras"}
    links = {"positive": ["6", 0], "negative": ["7", 0]}
    nodes = graph(
        n3=node(
            "KSamplerAdvanced",
            **advanced,
            **links,
            add_noise="enable",
            start_at_step=0,
            end_at_step=20,
            model=["4", 0],
            latent_image=["5", 0],
        ),
        n11=node(
            "KSamplerAdvanced",
            **advanced,
            **links,
            add_noise="disable",
            start_at_step=20,
            end_at_step=10000,
            model=[refiner, 0],
            latent_image=["3", 0],
        ),
        n40=node("CheckpointLoaderSimple", ckpt_name="refiner.safetensors"),
    )
    nodes["8"]["inputs"]["samples"] = ["11", 0]
    told = parameters(nodes)
    assert (told.seed, told.steps, told.hires, told.model) == (3, 25, None, "SD/emoji.safetensors")
    assert told.unfollowed == (
        {"Refiner": "refiner.safetensors", "Refiner switch at": "step 20"} if refiner == "40" else {}
    )


@pytest.mark.parametrize("is_guided", [True, False])
def test_custom_samplers(is_guided):
    nodes = graph(
        n3=node(
            "SamplerCustomAdvanced",
            noise=["30", 0],
            guider=["31", 0],
            sampler=["32", 0],
            sigmas=["33", 0],
            latent_image=["5", 0],
        ),
        n30=node("RandomNoise", noise_seed=11),
        n31=node("CFGGuider", cfg=4, model=["4", 0], positive=["6", 0], negative=["7", 0])
        if is_guided
        else node("BasicGuider", model=["4", 0], conditioning=["6", 0]),
        n32=node("KSamplerSelect", sampler_name="dpmpp_2m"),
        n33=node("BasicScheduler", scheduler="sgm_uniform", steps=9, denoise=1, model=["4", 0]),
    )
    told = parameters(nodes)
    assert (told.seed, told.steps, told.sampler, told.schedule) == (11, 9, "dpmpp_2m", "sgm_uniform")
    assert (told.guidance, told.negative) == ((4, "blob") if is_guided else (1, ""))
    assert told.model == "SD/emoji.safetensors" and told.prompt.startswith("red apple")


def test_sampler_custom_with_its_own_nodes():
    nodes = graph(
        n3=node(
            "SamplerCustom",
            add_noise=True,
            noise_seed=5,
            cfg=2,
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            sampler=["32", 0],
            sigmas=["33", 0],
            latent_image=["5", 0],
        ),
        n32=node("SamplerEulerAncestral", eta=1, s_noise=1),
        n33=node("KarrasScheduler", steps=12, sigma_max=14.6, sigma_min=0.03, rho=7),
    )
    told = parameters(nodes)
    assert (told.seed, told.guidance, told.sampler, told.schedule, told.steps) == (
        5,
        2,
        "euler_ancestral",
        "karras",
        12,
    )


def test_sdxl_texts_and_control():
    nodes = graph(
        n6=node("CLIPTextEncodeSDXL", text_g="a castle", text_l="stone", width=1024, clip=["4", 1]),
        n50=node(
            "ControlNetApplyAdvanced",
            strength=0.8,
            positive=["6", 0],
            negative=["7", 0],
            control_net=["51", 0],
            image=["52", 0],
        ),
        n51=node("ControlNetLoader", control_net_name="canny.safetensors"),
        n52=node("LoadImage", image="x.png"),
    )
    nodes["3"]["inputs"] |= {"positive": ["50", 0], "negative": ["50", 1]}
    told = parameters(nodes)
    assert (told.prompt, told.negative) == ("a castle", "blob")
    assert told.unfollowed["text_l"] == "stone" and "strength: 0.8" in told.unfollowed["ControlNetApplyAdvanced"]


def test_conditions_that_are_combined():
    nodes = graph(
        n50=node("ConditioningCombine", conditioning_1=["6", 0], conditioning_2=["51", 0]),
        n51=node("CLIPTextEncode", text="b", clip=["4", 1]),
    )
    nodes["6"]["inputs"]["text"] = "a"
    nodes["3"]["inputs"]["positive"] = ["50", 0]
    assert parameters(nodes).prompt == "a :0.5 AND b :0.5"
    nodes["50"] = node("ConditioningConcat", conditioning_to=["6", 0], conditioning_from=["51", 0])
    assert parameters(nodes).prompt == "a BREAK b"


def test_a_picture_made_from_another():
    nodes = graph(n5=node("VAEEncode", pixels=["50", 0], vae=["4", 2]), n50=node("LoadImage", image="x.png"))
    nodes["3"]["inputs"]["denoise"] = 0.6
    told = parameters(nodes)
    assert told.is_from_picture and told.strength == 0.6 and told.hires is None


def test_a_node_behind_the_sampler_is_named():
    nodes = graph(
        n9=node("SaveImage", images=["60", 0]),
        n60=node("FaceDetailer", image=["8", 0], steps=20, sampler_name="euler", denoise=0.4),
    )
    told = parameters(nodes)
    assert told.steps == 6 and "denoise: 0.4" in told.unfollowed["FaceDetailer"]


def test_an_efficient_loader():
    loader = node(
        "Efficient Loader",
        ckpt_name="emoji.safetensors",
        vae_name="Baked VAE",
        clip_skip=-2,
        lora_name="a",
        lora_model_strength=0.5,
        lora_clip_strength=1,
        positive="cat",
        negative="dog",
        empty_latent_width=64,
        empty_latent_height=72,
    )
    nodes = {
        "1": loader,
        "2": node(
            "KSampler (Efficient)",
            **SAMPLER,
            model=["1", 0],
            positive=["1", 1],
            negative=["1", 2],
            latent_image=["1", 3],
            optional_vae=["1", 4],
        ),
        "3": node("PreviewImage", images=["2", 5]),
    }
    told = parameters(nodes)
    assert (told.prompt, told.negative, told.width, told.height, told.model) == (
        "cat",
        "dog",
        64,
        72,
        "emoji.safetensors",
    )
    assert told.loras == (LoraRef("a", 1.0, 0.5),) and told.clip_skip == 2 and told.vae == ""


def test_a_graph_without_a_saved_picture():
    nodes = graph()
    del nodes["9"], nodes["8"]
    assert parameters(nodes).seed == 7


@pytest.mark.parametrize(
    "links",
    [
        {"latent_image": ["3", 0]},
        {"positive": ["3", 0], "model": ["3", 0]},
        {"seed": ["3", 0]},
        {"latent_image": ["8", 0]},
    ],
)
def test_cycles_end(links):
    nodes = graph()
    nodes["3"]["inputs"] |= links
    assert parameters(nodes).steps == 6


WRONG = [
    None,
    True,
    "x",
    -1,
    1e400,
    [],
    {},
    [["3", 0]],
    ["3", "0"],
    ["none", 0],
    [None, 0],
    {"a": ["3", 0]},
    "9" * 5000,
]


@pytest.mark.parametrize("value", WRONG, ids=range(len(WRONG)))
def test_any_input_may_have_a_wrong_type(value):
    for number, entry in graph().items():
        for name in entry["inputs"]:
            nodes = graph()
            nodes[number]["inputs"][name] = value
            parameters(nodes)
    for data in ({"3": value}, {"3": {"class_type": value, "inputs": value}}, value):
        assert parameters(data) is None


@pytest.mark.slow
def test_large_and_tangled_graphs_take_no_time():
    names = [str(n) for n in range(2000)]
    tangled = {
        name: node("Concat Any Combine", **{f"text{k}": [names[(n * 7 + k) % 2000], 0] for k in range(20)})
        for n, name in enumerate(names)
    }
    nodes = graph(**tangled)
    nodes["3"] = node(
        "KSampler", **SAMPLER, model=["100", 0], positive=["101", 0], negative=["102", 0], latent_image=["103", 0]
    )
    nodes |= {f"s{n}": node("SaveImage", images=[str(n), 0]) for n in range(200)}
    begun = time.process_time()
    parameters(nodes)
    assert time.process_time() - begun < 2
