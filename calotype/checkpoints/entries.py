"""The table of known checkpoints: purpose, licence and source of each."""

import re
from dataclasses import dataclass
from pathlib import Path

from calotype.checkpoints.bundled import in_wheel, shipped
from calotype.errors import Message

KINDS = {
    "upscale": Message("enlarging"),
    "faces": Message("restoring faces"),
    "detect": Message("finding faces"),
    "repair": Message("finding scratches and dust"),
    "inpaint": Message("filling holes"),
    "diffusion": Message("making pictures"),
    "vae": Message("VAE of a model that makes pictures"),
    "lora": Message("LoRA: teaches such a model a style or a thing"),
    "embedding": Message("a learned word for prompts"),
}
BSD, APACHE, MIT = "BSD-3-Clause", "Apache-2.0", "MIT"
S_LAB = "S-Lab License 1.0 (non-commercial)"
APACHE_IN_PART = "Apache-2.0, with non-commercial parts (StyleGAN2, DFDNet)"  # as GFPGAN's licence file lists them

ESRGAN = "https://github.com/xinntao/Real-ESRGAN/releases/download/"
GFPGAN = "https://github.com/TencentARC/GFPGAN/releases/download/"
HUB = "https://huggingface.co/"
OPENRAIL = "CreativeML OpenRAIL-M (uses that it names are forbidden)"
CODEFORMER = "https://github.com/sczhou/CodeFormer/releases/download/"

RANGES = "activation_ranges.safetensors"  # layers.N: (2, channels), lowest and highest outputs over many photos


@dataclass(frozen=True)
class Entry:
    """One known checkpoint: its purpose, licence and source."""

    name: str
    kind: str  # a key of KINDS
    licence: str
    about: str | Message  # one line
    file: str = ""  # file name once downloaded; path within the package for one that ships
    url: str = ""
    size: int = 0  # bytes; 0 if unknown
    sha256: str = ""  # empty if unknown: then that of the first download is pinned
    commercial: bool = True  # whether the licence allows commercial use
    scale: int = 1
    twin: str = ""  # the entry it can be mixed with
    weights_sha256: str = ""  # of the .bin beside an ncnn .param
    aliases: tuple[str, ...] = ()
    macs: int = 0  # multiply-accumulates per input pixel, of the networks that `speed` chooses from
    has_ranges: bool = False  # of its features, in the file RANGES beside the weights: it can be computed in int8

    @property
    def ships(self) -> bool:
        return not self.url

    def shipped_path(self) -> Path | None:
        """Its path in the installation; None for one that is downloaded."""
        if not self.ships:
            return None
        return in_wheel(self.file) if self.file.endswith(".param") else shipped(*self.file.split("/"))


# Sizes and sha256 of downloads are those that other public projects pin for the official release files (nearly all in
# several, realesrnet-x4plus in one); they were not measured here. `pull` rejects a file that differs.
_ENTRIES = (
    Entry(
        "realesrgan-x4plus",
        "upscale",
        BSD,
        "Real-ESRGAN for photos: the sharpest, and slow without a GPU",
        file="REALESRGAN_X4PLUS_UP4X.param",
        size=33_541_550,
        sha256="c8a066c12541a1ef01ba90fddd90688278bdc11536847699239be29225015bc8",
        weights_sha256="713ee713b0353afaa27976f0563a64a5043bd70b9bd8936c2e26e25ebcdbcddf",
        scale=4,
        aliases=("RealESRGAN_x4plus", "R-ESRGAN 4x+"),
        macs=17_926_848,
    ),
    Entry(
        "realesrgan-x4plus-anime",
        "upscale",
        BSD,
        "Real-ESRGAN for drawings and anime: four times as quick as x4plus",
        file="REALESRGAN_X4PLUSANIME_UP4X.param",
        size=8_974_060,
        sha256="d63c7e93c58ec5d0048ca1f0a995f40b2af17c2816a2e0a3b7172046d98795ec",
        weights_sha256="fe01c269cfd10cdef8e018ab66ebe750cf79c7af4d1f9c16c737e1295229bacc",
        scale=4,
        aliases=("RealESRGAN_x4plus_anime_6B", "R-ESRGAN 4x+ Anime6B"),
        macs=5_706_432,
    ),
    Entry(
        "realesr-animevideov3",
        "upscale",
        BSD,
        "a small, quick network made for anime video; also good for a first look at any picture",
        file="REALESRGAN_ANIMAVIDEOV3_UP4X.param",
        size=1_250_487,
        sha256="157c0a10405f885d4c53ce76fe2ba731694bcd16ec90ab6b889335e384239682",
        weights_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        scale=4,
        aliases=("realesr-animevideov3-x4", "R-ESRGAN AnimeVideo"),
        macs=619_200,
    ),
    Entry(
        "realesr-animevideov3-x2",
        "upscale",
        BSD,
        "realesr-animevideov3 with its picture halved: twice as large as the source",
        file="REALESRGAN_ANIMAVIDEOV3_UP2X.param",
        size=1_250_584,
        sha256="1393f7c0e885f9d15a0668329a13f695ebd0ea45791f46d28145d7934824d224",
        weights_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        scale=2,
        macs=619_200,
    ),
    Entry(
        "realesr-animevideov3-x3",
        "upscale",
        BSD,
        "realesr-animevideov3 with its picture brought to three quarters: three times as large as the source",
        file="REALESRGAN_ANIMAVIDEOV3_UP3X.param",
        size=1_250_584,
        sha256="584a43e429188c159ef8e42191ef5a5fd1d2e3b17398e5cee6089726dec879c7",
        weights_sha256="548a36f9c3f4ab8da56cd3b13badf23968bee207b396dad14d04b830e5f2ab2d",
        scale=3,
        macs=619_200,
    ),
    Entry(
        "photo-x2",
        "upscale",
        MIT,
        "a compact network of our own, taught by x4plus: photos twice as large, thirty times as quick",
        file="photo-x2/model.safetensors",
        size=2_406_928,
        sha256="fb7836e86fcf4c582aa1fec9bbf2f66b719e1d838b148383e7866a4f1fb730ee",
        scale=2,
        macs=598_464,
        has_ranges=True,
    ),
    Entry(
        "photo-x4",
        "upscale",
        MIT,
        "the same for photos four times as large, twenty times as quick as x4plus",
        file="photo-x4/model.safetensors",
        size=3_675_696,
        sha256="8d2dc182ffc79d18fa7081d8128394dad770b7d12652006e55e9a78e530f3e46",
        scale=4,
        macs=914_112,
        has_ranges=True,
    ),
    Entry(
        "realesrgan-x2plus",
        "upscale",
        BSD,
        "Real-ESRGAN for photos, twice as large",
        file="RealESRGAN_x2plus.pth",
        url=ESRGAN + "v0.2.1/RealESRGAN_x2plus.pth",
        size=67_061_725,
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        scale=2,
        aliases=("R-ESRGAN 2x+",),
    ),
    Entry(
        "realesrnet-x4plus",
        "upscale",
        BSD,
        "x4plus trained without an adversary: softer, invents less",
        file="RealESRNet_x4plus.pth",
        url=ESRGAN + "v0.1.1/RealESRNet_x4plus.pth",
        size=67_040_989,
        sha256="a820b9bde89a874d7599d545567308ce6c128fc8754a53208eda016d40aa81df",
        scale=4,
    ),
    Entry(
        "realesr-general-x4v3",
        "upscale",
        BSD,
        "a small network for photos whose denoising can be set (with realesr-general-wdn-x4v3)",
        file="realesr-general-x4v3.pth",
        url=ESRGAN + "v0.2.5.0/realesr-general-x4v3.pth",
        size=4_885_111,
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        scale=4,
        twin="realesr-general-wdn-x4v3",
        aliases=("R-ESRGAN General 4xV3",),
    ),
    Entry(
        "realesr-general-wdn-x4v3",
        "upscale",
        BSD,
        "the twin of realesr-general-x4v3 that leaves noise as it is",
        file="realesr-general-wdn-x4v3.pth",
        url=ESRGAN + "v0.2.5.0/realesr-general-wdn-x4v3.pth",
        size=4_885_111,
        sha256="1641f8c4464b9f097c9fdda5589273713f67cf59f3d909e0bd688f0cee269dca",
        scale=4,
        aliases=("R-ESRGAN General WDN 4xV3",),
    ),
    Entry(
        "gfpgan-1.2",
        "faces",
        APACHE_IN_PART,
        "GFPGAN 1.2: sharp, a little like make-up",
        file="GFPGANv1.2.pth",
        url=GFPGAN + "v1.3.0/GFPGANv1.2.pth",
        aliases=("GFPGANCleanv1-NoCE-C2",),
        commercial=False,
    ),
    Entry(
        "gfpgan-1.3",
        "faces",
        APACHE_IN_PART,
        "GFPGAN 1.3: more natural, not very sharp",
        file="GFPGANv1.3.pth",
        url=GFPGAN + "v1.3.0/GFPGANv1.3.pth",
        size=348_632_874,
        sha256="c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
        commercial=False,
    ),
    Entry(
        "gfpgan-1.4",
        "faces",
        APACHE_IN_PART,
        "GFPGAN 1.4: more detail and the person better kept",
        file="GFPGANv1.4.pth",
        url=GFPGAN + "v1.3.0/GFPGANv1.4.pth",
        size=348_632_874,
        sha256="e2cd4703ab14f4d01fd1383a8a8b266f9a5833dacee8e6a79d3bf21a1b6be5ad",
        aliases=("gfpgan",),
        commercial=False,
    ),
    Entry(
        "restoreformer",
        "faces",
        APACHE,
        "RestoreFormer: freer with features of the face than GFPGAN",
        file="RestoreFormer.pth",
        url=GFPGAN + "v1.3.4/RestoreFormer.pth",
        size=290_785_322,
        sha256="07404d446d62ca3d5ed38b1de09a947a1e77d46dbccec961a74d713a8f24ace0",
    ),
    Entry(
        "codeformer",
        "faces",
        S_LAB,
        Message("CodeFormer: strong on badly damaged faces, with {option:fidelity}; not for commercial use"),
        file="codeformer.pth",
        url=CODEFORMER + "v0.1.0/codeformer.pth",
        size=376_637_898,
        sha256="1009e537e0c2a07d4cabce6355f53cb66767cd4b4297ec7a4a64ca4b8a5684b7",
        commercial=False,
        aliases=("codeformer-v0.1.0",),
    ),
    Entry(
        "faces-v3",
        "faces",
        MIT,
        "a compact face restorer of our own, 512 pixels, trained on synthetic faces",
        file="faces-v3/model.safetensors",
        size=13_619_784,
        sha256="190d2cda753201bd4f6673deda1584ef34b3f07c3230732da81dcb9c099703dc",
    ),
    Entry(
        "faces-v2",
        "faces",
        MIT,
        "its forerunner, which was trained without the points of the face mesh and without face descriptors",
        file="faces-v2/model.safetensors",
        size=13_619_784,
        sha256="0c60046e7789e7e913cb77985aec9c20a602918124d557ace180ed2350f1f83b",
    ),
    Entry(
        "emoji",
        "diffusion",
        MIT,
        "a miniature Stable Diffusion of our own, 256 pixels: emoji in seven styles, such as 'red apple, fluent 3d'",
        file="emoji/model_index.json",
        size=60_794_158,
        sha256="7d885b3ace9aa71bd7957ddd044e2fbd5ceabd912c495e5d1c09f4b2ab160c2a",
        aliases=("calotype-emoji",),
    ),
    Entry(
        "stable-diffusion-1.5",
        "diffusion",
        OPENRAIL,
        "Stable Diffusion 1.5, 512 pixels: what most checkpoints and LoRAs were made from",
        file="v1-5-pruned-emaonly.safetensors",
        url=HUB + "stable-diffusion-v1-5/stable-diffusion-v1-5/resolve/main/v1-5-pruned-emaonly.safetensors",
        size=4_265_146_304,
        sha256="6ce0161689b3853acaa03779ec93eafe75a02f4ced659bee03f50797806fa2fa",
    ),
    Entry(
        "sdxl-base-1.0",
        "diffusion",
        "CreativeML OpenRAIL++-M (uses that it names are forbidden)",
        "Stable Diffusion XL, 1024 pixels: larger and better, wants a graphics card",
        file="sd_xl_base_1.0.safetensors",
        url=HUB + "stabilityai/stable-diffusion-xl-base-1.0/resolve/main/sd_xl_base_1.0.safetensors",
        size=6_938_078_334,
        sha256="31e35c80fc4829d14f90153f4c74cd59c90b779f6afe05a74cd6120b893f7e5b",
    ),
    Entry(
        "sd-vae-ft-mse",
        "vae",
        MIT,
        "a better VAE for SD 1.x: clearer eyes and small faces; goes with such a model",
        file="vae-ft-mse-840000-ema-pruned.safetensors",
        url=HUB + "stabilityai/sd-vae-ft-mse-original/resolve/main/vae-ft-mse-840000-ema-pruned.safetensors",
        size=334_641_190,
        sha256="735e4c3a447a3255760d7f86845f09f937809baa529c17370d83e4c3758f3c75",
    ),
    Entry(
        "marks",
        "repair",
        MIT,
        "a small network of our own that finds scratches, hairs and dust, trained on prints damaged for it",
        file="marks/model.safetensors",
        size=3_606_704,
        sha256="c1514c72c1ed52076491e8a3611c7381765e93102da9c20fc79ced0f1b48a35a",
    ),
    Entry(
        "yunet",
        "detect",
        MIT,
        "YuNet: finds faces and five landmarks in each",
        file="yunet/face_detection_yunet_2023mar.onnx",
        size=232_589,
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
    ),
    Entry(
        "facemesh",
        "detect",
        APACHE,
        "MediaPipe's face mesh: 468 points of a face, for masks of its parts",
        file="facemesh/facemesh.safetensors",
        size=1_218_850,
        sha256="b39484e605ce866e41feca18a8757852078519062c49780d69de460730fdd97e",
    ),
    Entry(
        "facemesh-iris",
        "detect",
        APACHE,
        "MediaPipe's irises: lids and iris of each eye",
        file="facemesh/iris.safetensors",
        size=2_622_344,
        sha256="06eea762b9b7caf07f94b2a2bbe82c2c4246f82a56ad9d7d45279a6ea1c9301c",
    ),
)
CATALOG: dict[str, Entry] = {entry.name: entry for entry in _ENTRIES}
# What `speed` chooses from: for photos and for drawings, the quick ones by their scale.
BEST_UPSCALER = {"photo": "realesrgan-x4plus", "drawing": "realesrgan-x4plus-anime"}
QUICK_UPSCALERS = {
    "photo": {2: "photo-x2", 4: "photo-x4"},
    "drawing": {2: "realesr-animevideov3-x2", 3: "realesr-animevideov3-x3", 4: "realesr-animevideov3"},
}
AUTO_SCALE = 4  # of the network, where no scale is given
AUTOMATIC = {
    "best": frozenset(BEST_UPSCALER.values()),
    "quick": frozenset(name for by_scale in QUICK_UPSCALERS.values() for name in by_scale.values()),
}
AUTOMATIC["auto"] = AUTOMATIC["best"] | AUTOMATIC["quick"]  # by `speed`: the networks that it may choose
BEST_FACES = ("gfpgan-1.4", "gfpgan-1.3", "codeformer", "restoreformer", "gfpgan-1.2", "faces-v3", "faces-v2")


def known_name(name: str) -> str:
    """The catalog name for a common name (RealESRGAN_x4plus.pth, GFPGANv1.4); an unknown name is returned unchanged."""
    bare = re.sub(r"\.(pth|pt|ckpt|safetensors|param|bin|onnx)$", "", name, flags=re.I).casefold()
    for entry in CATALOG.values():
        files = [Path(entry.file).stem] if entry.url else []
        if bare in (alias.casefold() for alias in (entry.name, *files, *entry.aliases)):
            return entry.name
    return name


def quick_upscaler(kind: str, scale: float) -> str:
    """The quick network of the smallest sufficient scale, or of the largest scale."""
    by_scale = QUICK_UPSCALERS[kind]
    return next((name for factor, name in sorted(by_scale.items()) if scale <= factor), by_scale[max(by_scale)])
