#!/bin/sh
# Gathers photos on Debian: fetches the packages that hold them into OUT/packages, and sorts them into OUT/photos.
#     gather.sh OUT [FACES]      FACES: a folder of aligned synthetic faces
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/packages" && out=$(cd "$1" && pwd)
faces=${2:+$(cd "$2" && pwd)}
for package in $(sed -E 's/^[^,]*,([^,]*),.*/\1/' "$here/photos.csv" | grep -v -e package -e scikit-image | sort -u); do
    [ -d "$out/packages/$package" ] && continue
    (cd "$out/packages" && apt-get download "$package")
    dpkg-deb -x "$out/packages/${package}"_*.deb "$out/packages/$package.part"
    if find "$out/packages/$package.part" -name "*.rcc" | grep -q .; then
        python "$here/resources.py" "$out/packages/$package.part"
    fi
    mv "$out/packages/$package.part" "$out/packages/$package"
done
python "$here/gather.py" "$out/packages" "$out/photos" ${faces:+"$faces"}
