#!/bin/sh
# Makes the emoji model anew: gathers the drawings, then learns from them. On one H100 about 18 minutes; see README.md.
#     make.sh [OUT [MINUTES [options of calotype train diffusion, which win over those below]]]
set -e
here=$(dirname "$0")
out=${1:-out}
minutes=${2:-19}
shift $(($# < 2 ? $# : 2))
mkdir -p "$out"
[ -f "$out/emoji.tar" ] || python "$here/gather.py" "$out/emoji.tar"
calotype train diffusion "$out/emoji.tar" --output-dir "$out" --output-name emoji --minutes "$minutes" \
    --resolution 256 --vae-share 0.29 --vae-batch-size 96 --train-batch-size 512 --vocab-size 6144 \
    --held-out "$out/held_out.txt" --sample-prompts "$here/prompts.txt" "$@"
