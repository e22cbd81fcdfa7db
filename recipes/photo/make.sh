#!/bin/sh
# Makes photo-x2 and photo-x4 anew, on Debian: gathers the photos, trains both, measures them. See README.md.
#     make.sh [OUT [FACES]]      FACES: a folder of aligned synthetic faces
set -e
here=$(cd "$(dirname "$0")" && pwd)
sh "$here/gather.sh" "${1:-out}" "$2"
out=$(cd "${1:-out}" && pwd)

train() { # name, learning rate of the second run, options of the first: then again with a heavier discriminator
    name=$1 rate=$2
    shift 2
    set -- --gt-size "$@"
    common="--teacher realesrgan-x4plus --clean 0.4 --batch-size 32 --lr-scheduler cosine_with_min_lr --gt-size $2"
    calotype train upscaler "$out/photos/train" $common --teacher-patches 4000 --learning-rate 5e-4 \
        --discriminator-lr 2e-4 --output-dir "$out/first" --output-name "$name" "$@"
    calotype train upscaler "$out/photos/train" $common --teacher-patches 6000 --learning-rate "$rate" \
        --discriminator-lr "$rate" --model "$out/first/$name.safetensors" --seed 1 --l1-steps 0 --gan-steps 2500 \
        --gan-warmup-steps 300 --gan-weight 0.15 --output-dir "$out" --output-name "$name"
}
train photo-x2 2e-4 192 --l1-steps 5063 --gan-steps 2024 --model realesr-animevideov3 --scale 2
train photo-x4 3e-4 256 --l1-steps 4950 --gan-steps 1978 --model none --network srvgg --scale 4 --num-feat 64 \
    --num-block 24
for name in photo-x2 photo-x4; do
    mkdir -p "$out/$name" && cp "$out/$name.safetensors" "$out/$name/model.safetensors"
    python "$here/calibrate.py" "$out/photos/train" "$out/$name/model.safetensors" --held "$out/photos/held"
done
python "$here/measure.py" "$out/photos/held" --x2 "$out/photo-x2.safetensors" --x4 "$out/photo-x4.safetensors" \
    --sheet "$out/sheet.png"
