// What TensorFlow.js answers for one crop: node reference.mjs MODEL.json CROP.raw SIDE
// CROP.raw holds SIDE x SIDE x 3 bytes, RGB. Prints the outputs as JSON.
import * as tf from '@tensorflow/tfjs';
import {readFileSync} from 'node:fs';

const [path, crop, side] = process.argv.slice(2);
const json = JSON.parse(readFileSync(path, 'utf8'));
const file = readFileSync(path.replace(/json$/, 'bin'));
const model = await tf.loadGraphModel({
  load: async () => ({
    modelTopology: json.modelTopology,
    weightSpecs: json.weightsManifest[0].weights,
    weightData: file.buffer.slice(file.byteOffset, file.byteOffset + file.length),
  }),
});
const pixels = tf.tensor(new Float32Array(readFileSync(crop)), [1, +side, +side, 3]).div(255);
const answers = model.predict(pixels);
const named = Array.isArray(answers) ? answers : [answers];
console.log(JSON.stringify(Object.fromEntries(
  named.map((answer, n) => [model.outputs[n].name, Array.from(answer.dataSync())]))));
