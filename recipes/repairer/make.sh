#!/bin/sh
# Makes marks anew, on Debian: gathers the photos of recipes/photo, trains the network, measures it. See README.md.
#     make.sh [OUT [FACES]]      FACES: a folder of aligned synthetic faces
set -e
here=$(cd "$(dirname "$0")" && pwd)
sh "$here/../photo/gather.sh" "${1:-out}" "$2"
out=$(cd "${1:-out}" && pwd)
mv "$out/photos/marks/"*.jpg "$out/photos/train"
# scikit-image's photos are what the tests measure on
rm -f "$out/photos/train/chelsea.jpg" "$out/photos/train/rocket.jpg"

calotype train repairer "$out/photos/train" --max-train-steps 68000 --train-batch-size 5 --patch-size 256 \
    --learning-rate 2e-3 --ema-decay 0.999 --output-dir "$out" --output-name marks
python "$here/measure.py" "$out/marks.safetensors" "$out/photos/held" --clean "$out/photos/clean"
