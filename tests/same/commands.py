"""Every command in small form, in the order in which they are run: later ones work on what earlier ones wrote."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

QUICK = "--model realesr-animevideov3"
DRAWN = "--steps 2 --size 64 --seed 7"
LEARN = "--resolution 64 --min-bucket-reso 32 --bucket-reso-steps 32 --mixed-precision no --save-precision float"
WATCHED = "--sample-every-n-steps 2 --sample-prompts in/samples.txt --validation-split 0.3 --logging-dir out/logs"
FORGE = "--resolution 32 --capacity 0.25 --train-batch-size 4 --mixed-precision no --snapshots 3 --max-train-steps 4"
ENLARGE = "--model none --network srvgg --num-feat 8 --num-block 1 --gt-size 32 --batch-size 2 --perceptual none"
RESTORE = "--side 64 --channels 8,16 --blocks 1,1 --codes 8 --batch-size 2 --perceptual none --validation-split 0.4"
ROUNDS = "--gan-warmup-steps 1 --discriminator-feat 8 --mixed-precision no --validate-every 2 --save-state-every 2"
MINIATURE = (
    "--resolution 32 --vae-channels 32,32 --unet-channels 32,32 --text-width 32 --text-layers 1 --vocab-size 600 "
    "--vae-batch-size 2 --train-batch-size 4 --mixed-precision no --vae-train-steps 4 --max-train-steps 4 "
    "--sample-count 1 --validation-split 0.2 --save-state-every 2"
)
HELPED = (
    *("restore", "upscale", "examine", "split", "colour", "imagine", "again", "faces", "info", "doctor", "bench"),
    "bench tiles",
    *("models", "models list", "models info", "models pull", "models add", "models import-from", "models remove"),
    *("models verify", "lora", "lora info", "lora merge", "lora resize", "lora extract", "lora convert", "train"),
    *("serve", "worker", "bot", "users", "users add", "users budget", "users invite", "users link"),
    *(
        "train lora",
        "train caption",
        "train gan",
        "train upscaler",
        "train restorer",
        "train repairer",
        "train diffusion",
    ),
)


@dataclass(frozen=True)
class Command:
    """One command line.

    Attributes:
        name: folder of its results in a record.
        line: as it would be typed behind `calotype`.
        status: the exit status that is expected; another one is shown while recording, and kept.
        stop: interrupt it (SIGINT) when so many states have arrived on disk; 0: never.
        copies: files that are copied before it starts, from where to where; a LoRA without what chance and clock put in
            its header, so that its checksum in later results is the same in every record.
        kind: "result", "fault" (its text may change), "help" (only the names of options must stay) or "status" (its
            exit status alone counts).
    """

    name: str
    line: str
    status: int = 0
    stop: int = 0
    copies: Mapping[str, str] = field(default_factory=dict)
    kind: str = "result"


def commands() -> Iterator[Command]:
    for part in (
        _restore,
        _upscale,
        _split,
        _colour,
        _imagine,
        _train_lora,
        _lora,
        _train_gan,
        _train_enhancing,
        _train_diffusion,
    ):
        yield from part()
    yield from _caption()
    yield from _models()
    yield from _again()
    yield from _look()


def _restore() -> Iterator[Command]:
    beside = "--compare --report out/r1/album.html --suffix -new --scale 1.5"
    yield Command("restore-photo", f"restore in/photo.jpg -o out/r1 --upscaler realesr-animevideov3 {beside}")
    yield Command("restore-done-already", f"restore in/photo.jpg -o out/r1 --upscaler realesr-animevideov3 {beside}")
    yield Command("restore-default", "restore in/album/2.jpg -o out/r2")
    chosen = "--faces 2 --strength 1,2=0.5 --scale 1 --json"
    yield Command("restore-faces", f"restore in/pair.png --upscaler none {chosen} -o out/r3.png")
    mixed = "--strength 0.8,1=0.3,background=1 --face-model faces-v2 --quality 80"
    yield Command("restore-strength", f"restore in/pair.png --upscaler none {mixed} -o out/r4.webp")
    several = "in/deep.png in/scan.tif in/clear.webp in/grey.png in/turned.jpg in/photo.jpg"
    plain = "--upscaler realesr-animevideov3 --face-model none --no-sidecar --strip-location"
    yield Command("restore-formats", f"restore {several} {plain} -o out/r5")
    tree = "--recursive --upscaler none --report out/r6.html --json --format jpeg --quality 80"
    yield Command("restore-album", f"restore in/album {tree} -o out/r6", status=1)
    yield Command("restore-aligned", "restore in/faces/a_r00c00.png --aligned --upscaler none -o out/r7.tif")
    yield Command("restore-grey", "restore in/grey.png in/turned.jpg --upscaler none --scale 1 -o out/r8 --quiet")


def _upscale() -> Iterator[Command]:
    yield Command("upscale-scale", f"upscale in/photo.jpg {QUICK} --scale 3 --tile 48 --overlap 8 -o out/u1.png --json")
    yield Command(
        "upscale-album", f"upscale in/album/10.png in/album/more {QUICK} --format avif -o out/u2 --suffix -big"
    )
    yield Command("upscale-alpha", f"upscale in/clear.webp {QUICK} --alpha lanczos --scale 2 -o out/u3.png")
    yield Command("upscale-deep", f"upscale in/deep.png in/scan.tif in/turned.jpg {QUICK} --format tiff -o out/u4")
    yield Command("upscale-heic", f"upscale in/photo.jpg {QUICK} --scale 1.3 -o out/u5.heic --compare")
    yield Command("upscale-anime", "upscale in/mask.png --model realesrgan-x4plus-anime -o out/u6.bmp")
    yield Command("upscale-bfloat16", f"upscale in/start.png {QUICK} --precision bfloat16 -o out/u7.png")


def _split() -> Iterator[Command]:
    yield Command("split", "split in/prints.png -o out/s1 --cut-borders --json")
    yield Command("split-photo", "split in/prints.png --photo 2 -o out/s2.jpg")
    yield Command("split-plan", "split in/prints.png --plan")


def _colour() -> Iterator[Command]:
    yield Command("colour-hints", "colour in/grey.png --hints in/strokes.png -o out/k1 --json")
    yield Command("colour-reference", "colour in/grey.png --reference in/photo.jpg -o out/k2.tif")


def _imagine() -> Iterator[Command]:
    apple = 'imagine "red apple, fluent 3d"'
    yield Command("imagine-plain", f"{apple} --seed 7 --size 128 --steps 4 -o out/i1.png --sidecar")
    yield Command("imagine-batch", f"{apple} {DRAWN} --count 4 --batch 2 --grid -o out/i2 --json --precision float32")
    yield Command("imagine-init", f"{apple} {DRAWN} --init in/start.png --strength 0.6 -o out/i3.jpg")
    masked = "--init in/start.png --mask in/mask.png --mask-blur 2 --fill noise --only-masked --padding 8"
    yield Command("imagine-mask", f"{apple} {DRAWN} {masked} -o out/i4.webp")
    yield Command(
        "imagine-outpaint", f'imagine "a garden" {DRAWN} --init in/start.png --outpaint 16,0,16,0 -o out/i5.png'
    )
    yield Command("imagine-hires", f"{apple} {DRAWN} --hires 1.5 --hires-steps 2 -o out/i6.png")
    yield Command(
        "imagine-hires-network", f"{apple} {DRAWN} --hires 2 --hires-upscaler realesr-animevideov3 -o out/i7.png"
    )
    varied = "--variation-seed 9 --variation 0.3 --seed-resize 80x64 --tiling --noise a1111"
    yield Command("imagine-variation", f"{apple} {DRAWN} {varied} -o out/i8.png")
    sheet = '--x "sampler=Euler,DDIM,DPM++ 2M" --y steps=1,2'
    yield Command("imagine-sheet", f"{apple} --size 64 --seed 7 {sheet} -o out/i9")
    yield Command("imagine-matrix", f'imagine "red|apple|noto" {DRAWN} --matrix -o out/i10.png')
    yield Command("imagine-list", f"imagine --from-file in/prompts.txt {DRAWN} -o out/i11 --json --format jpeg")
    style = {"in/styles.csv": "home/styles.csv"}
    yield Command(
        "imagine-style", f'imagine "cat" {DRAWN} --style mine --sampler "LMS Karras" -o out/i12.png', copies=style
    )
    grammar = 'imagine "(red:1.3) [apple|pear] AND [noto:blob:0.5] BREAK shiny" --negative "(blurry)"'
    own = '--clip-skip 2 --sampler "DPM++ 2M Karras" --guidance 5 --rescale 0.5'
    yield Command("imagine-grammar", f"{grammar} {DRAWN} {own} -o out/i13.png --emphasis no-norm")
    samplers = '--x "sampler=Euler a,DPM++ SDE,Heun,UniPC,DPM2,LCM"'
    yield Command("imagine-samplers", f"{apple} --steps 3 --size 64 --seed 7 {samplers} -o out/i14.png")


def _train_lora() -> Iterator[Command]:
    lora = f"train lora in/photos {LEARN} --network-dim 1 --learning-rate 0.001 --max-train-steps 6"
    watched = f"{lora} {WATCHED} --save-state-every 2 -o out/l1 --output-name mine"
    yield Command("train-lora-dry", f"{watched} --dry-run")
    yield Command("train-lora-stopped", watched, status=130, stop=1)
    yield Command("train-lora-resumed", f"{watched} --json")
    more = "--network-args conv_dim=1 algo=loha --train-batch-size 2 --flip-aug --shuffle-caption --min-snr-gamma 5"
    rates = "--lr-scheduler cosine --lr-warmup-steps 1 --noise-offset 0.05 --save-every-n-steps 2 --color-aug"
    yield Command("train-lora-loha", f"{lora} {more} {rates} -o out/l2/loha.ckpt --loss-type huber")
    frozen = "--network-train-unet-only --mixed-precision bf16 --save-precision bf16 --gradient-checkpointing"
    yield Command("train-lora-config", f"train lora --config in/config.toml {frozen} -o out/l3 --max-train-steps 2")
    yield Command("train-lora-shell", "train lora --config in/train.sh --dry-run -o out/l4")
    settled = {"out/l1/mine.safetensors": "lora/mine.safetensors", "out/l3/lora.safetensors": "lora/other.safetensors"}
    weights = "--network-weights lora/mine.safetensors --dim-from-weights --optimizer-type AdaFactor --regular in/discs"
    yield Command("train-lora-more", f"{lora} {weights} -o out/l5 --no-metadata --max-train-steps 2", copies=settled)
    several = "--lora lora/mine.safetensors:0.8,out/l2/loha.ckpt"
    yield Command("imagine-lora", f'imagine "zkz" {DRAWN} {several} -o out/i20.png')
    yield Command("imagine-lora-prompt", f'imagine "zkz <lora:lora/mine.safetensors:1>" {DRAWN} -o out/i21.png')


def _lora() -> Iterator[Command]:
    mine, other = "lora/mine.safetensors", "lora/other.safetensors"
    yield Command("lora-info", f"lora info {mine}")
    yield Command("lora-info-json", f"lora info {mine} --json")
    yield Command("lora-info-loha", "lora info out/l2/loha.ckpt --json")
    yield Command("lora-merge", f"lora merge {mine}:0.8 {other}:0.5 -o out/both.safetensors")
    half = "--rank 1 --save-precision fp16"
    yield Command("lora-merge-rank", f"lora merge {mine} {other} {half} -o out/one.safetensors")
    yield Command("lora-merge-emoji", f"lora merge {mine} --into emoji -o out/tuned")
    yield Command("lora-resize", f"lora resize {other} --rank 1 -o out/small.safetensors")
    dynamic = "--dynamic sv_fro=0.9 --rank 2"
    yield Command("lora-resize-dynamic", f"lora resize {other} {dynamic} -o out/dynamic.safetensors")
    yield Command("lora-extract", "lora extract out/tuned emoji --rank 1 -o out/learnt.safetensors --json")
    yield Command("lora-diffusers", f"lora convert {mine} --to diffusers -o out/diffusers.safetensors")
    yield Command("lora-peft", f"lora convert {mine} --to peft -o out/peft")
    yield Command("lora-kohya", "lora convert out/diffusers.safetensors --to kohya -o out/back.safetensors")


def _train_gan() -> Iterator[Command]:
    gan = f"train gan in/discs {FORGE} --save-state-every 2 --save-state -o out/g1"
    yield Command("train-gan-dry", f"{gan} --dry-run")
    yield Command("train-gan-stopped", gan, status=130, stop=1)
    yield Command("train-gan-resumed", f"{gan} --json")
    yield Command("train-gan-longer", f"{gan} --max-train-steps 6")
    demo = "--resolution 32 --capacity 0.1 --max-train-steps 2 --snapshots 2 --train-batch-size 2"
    yield Command("train-gan-demo", f"train gan --demo {demo} -o out/g2/smile.safetensors")
    forger = "--model out/g1/gan.safetensors --seed 3 --truncation 0.7"
    yield Command("imagine-gan", f"imagine {forger} --count 3 --grid -o out/i30 --sidecar")
    yield Command("imagine-gan-film", f"imagine {forger} --count 3 --interpolate -o out/i31")


def _train_enhancing() -> Iterator[Command]:
    upscaler = f"train upscaler in/sharp {ENLARGE} {ROUNDS} --l1-steps 3 --gan-steps 3 --save-state -o out/e1"
    yield Command("train-upscaler-dry", f"{upscaler} --dry-run")
    yield Command("train-upscaler-stopped", upscaler, status=130, stop=2)
    yield Command("train-upscaler-resumed", f"{upscaler} --json --save-discriminator")
    yield Command("train-upscaler-longer", f"{upscaler} --gan-steps 4")
    tuned = "--model realesr-animevideov3 --gt-size 32 --batch-size 1 --l1-steps 1 --gan-steps 1 --rotate"
    yield Command("train-upscaler-tuned", f"train upscaler in/sharp {tuned} --discriminator-feat 8 -o out/e2/my.pth")
    yield Command("upscale-own", "upscale in/mask.png --model out/e1/upscaler.safetensors -o out/u20.png")
    restorer = f"train restorer in/faces {RESTORE} {ROUNDS} --l1-steps 3 --gan-steps 3 --pieces 16 -o out/f1"
    yield Command("train-restorer-dry", f"{restorer} --dry-run")
    yield Command("train-restorer-stopped", restorer, status=130, stop=2)
    yield Command("train-restorer-resumed", f"{restorer} --json --save-state")
    figures = (
        "--model out/f1/restorer.safetensors --evaluate --beside faces-v2 --evaluate-count 2 --validation-split 0.4"
    )
    yield Command("train-restorer-evaluate", f"train restorer in/faces {figures} -o out/f2")
    own = "--face-model out/f1/restorer.safetensors --upscaler none --scale 1"
    repairer = "train repairer in/sharp --channels 4,4 --patch-size 64 --train-batch-size 2 --max-train-steps 4"
    yield Command("train-repairer", f"{repairer} --validate-every 2 --mixed-precision no -o out/f3")
    yield Command("restore-own", f"restore in/photo.jpg {own} -o out/r20.png")


def _train_diffusion() -> Iterator[Command]:
    diffusion = f"train diffusion in/captioned {MINIATURE} -o out/d1 --output-name tiny"
    yield Command("train-diffusion-dry", f"{diffusion} --dry-run")
    yield Command("train-diffusion-stopped", diffusion, status=130, stop=1)
    yield Command("train-diffusion-stopped-later", diffusion, status=130, stop=2)
    yield Command("train-diffusion-resumed", f"{diffusion} --json")
    yield Command("imagine-own", 'imagine "red circle" --model out/d1/tiny --steps 2 --seed 1 -o out/i40.png')


def _caption() -> Iterator[Command]:
    yield Command("train-caption", "train caption in/words --trigger zkz -o out/c1 --json")
    tags = "--tagger in/tagger --exclude-tags blue_sky --threshold 0.3"
    yield Command("train-caption-tagger", f"train caption in/words --trigger zkz --prefix {tags} -o out/c2")
    yield Command("train-caption-face", "train caption in/words --face --face-shape portrait -o out/c3")


def _models() -> Iterator[Command]:
    ui = {"lora/mine.safetensors": "ui/models/Lora/a.safetensors", "out/e1/upscaler.pth": "ui/models/ESRGAN/b.pth"}
    ui |= {
        "out/g1/gan.safetensors": "ui/models/Stable-diffusion/c.safetensors",
        "in/broken/junk.pth": "ui/models/VAE/d.pth",
    }
    yield Command("models-list", "models list")
    yield Command("models-list-json", "models list --json")
    yield Command("models-info", "models info faces-v2 --json")
    yield Command("models-add", "models add out/e1/upscaler.safetensors --name own")
    yield Command("models-import-from", "models import-from ui --json", status=1, copies=ui)
    yield Command("models-verify", "models verify faces-v2 --json")
    yield Command("models-verify-own", "models verify own")
    yield Command("upscale-added", "upscale in/mask.png --model own -o out/u21.png")
    yield Command("models-remove", "models remove own")
    yield Command("models-list-after", "models list --json")


def _again() -> Iterator[Command]:
    yield Command(
        "again-restore",
        "again out/r1/photo-new.jpg.json -o out/again/r1.jpg",
        copies={"in/mask.png": "out/again/x.png"},
    )
    yield Command("again-faces", "again out/r3.png --json")
    yield Command("again-upscale", "again out/u1.png.json -o out/again/u1.png")
    yield Command("again-source", "again out/u4/turned.tif --source in/turned.jpg -o out/again/u4.tif")
    yield Command("again-imagine", "again out/i1.png.json")
    yield Command("again-batch", "again out/i2/00002-9-red-apple-fluent-3d.png -o out/again/i2.png")
    yield Command("again-mask", "again out/i4.webp --source in/start.png -o out/again/i4.webp")
    yield Command("again-sheet", "again out/i9/00006-sheet.png -o out/again/i9.png")
    yield Command("again-lora", "again out/i20.png -o out/again/i20.png")
    yield Command("again-gan", "again out/i30/00001-4.png -o out/again/i30.png")
    yield Command("again-a1111", "again in/a1111.png -o out/again/a1111.png")


def _look() -> Iterator[Command]:
    for name in (
        "in/photo.jpg",
        "in/deep.png",
        "in/a1111.png",
        "out/r3.png",
        "out/r1/photo-new.jpg.json",
        "out/i1.png",
    ):
        yield Command(f"info-{name.replace('/', '-')}", f"info {name}")
    yield Command("info-json", "info out/r1/photo-new.jpg --json")
    yield Command("bench-tiles", "bench tiles --tile 112 --json")
    yield Command("doctor", "doctor", kind="status")
    yield Command("version", "--version")
    for name in ("", *HELPED):
        yield Command(f"help {name}".strip().replace(" ", "-"), f"{name} --help", kind="help")
