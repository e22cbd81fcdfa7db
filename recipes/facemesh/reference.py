"""Prints what TensorFlow.js answers for crops of scikit-image's astronaut: twelve points of the mesh, eight of an eye.

Called by make.sh, in the folder that has package/models, node_modules and reference.mjs.
"""

import json
import subprocess
from pathlib import Path

from skimage import data

FACE, EYE = (slice(20, 212), slice(128, 320)), (slice(70, 134), slice(172, 236))  # rows, columns; the crops' own size
MESH_POINTS = (1, 10, 33, 61, 105, 133, 152, 234, 263, 291, 334, 454)
EYE_POINTS = (0, 4, 8, 12, 71, 72, 73, 74)


def main() -> None:
    portrait = data.astronaut()
    for name, place, points in (("facemesh", FACE, MESH_POINTS), ("iris", EYE, EYE_POINTS)):
        crop = portrait[place]
        Path("crop.raw").write_bytes(crop.tobytes())
        command = ["node", "reference.mjs", f"package/models/{name}.json", "crop.raw", str(len(crop))]
        answers = json.loads(
            subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
        )
        answer = answers["Identity_2" if name == "facemesh" else "Identity"]
        for n in points:
            print(name, n, *(round(v, 3) for v in answer[3 * n : 3 * n + 2]))


if __name__ == "__main__":
    main()
