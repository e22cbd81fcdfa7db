#!/bin/sh
# Makes marks anew, on Debian: gathers the photos of recipes/photo, trains the network, measures it. See README.md.
#     make.sh [OUT [FACES]]      FACES: a folder of aligned synthetic faces
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "${1:-out}" && out=$(cd "${1:-out}" && pwd)
faces=${2:+$(cd "$2" && pwd)}
mkdir -p "$out/packages"
for package in lomiri-wallpapers-16.04 lomiri-wallpapers-20.04 mate-backgrounds palapeli-data; do
    [ -d "$out/packages/$package" ] && continue
    (cd "$out/packages" && apt-get download "$package")
    dpkg-deb -x "$out/packages/${package}"_*.deb "$out/packages/$package.part"
    mv "$out/packages/$package.part" "$out/packages/$package"
done
python "$here/../photo/gather.py" "$out/packages" "$out/photos" $faces
# scikit-image's photos are what the tests measure on
rm -f "$out/photos/train/chelsea.jpg" "$out/photos/train/rocket.jpg"

calotype train repairer "$out/photos/train" --max-train-steps 20000 --output-dir "$out" --output-name marks
python "$here/measure.py" "$out/marks.safetensors" "$out/photos/held"
