// Classifies an image with ONNX Runtime in Node and no Python: node classify.mjs MODEL IMAGE
//
// MODEL is what `export_onnx(model, "fashion.onnx", byte_input=True)` wrote, with fashion.json beside it; IMAGE a binary
// PGM (grey) or PPM (RGB) of the size that the model was trained for: resizing is left to the caller. For each of the
// likeliest classes it prints the name, a tab and the probability.

import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";

// Bytes (1, height, width, channels).
async function readImage(path) {
  const file = await readFile(path);
  const header = /^P([56])(?:\s+(?:#.*\n\s*)*)(\d+)\s+(\d+)\s+255\s/.exec(file.toString("latin1", 0, 1024));
  if (header === null) throw new Error(`${path} is not a binary PGM or PPM file of 8 bits a channel`);
  const shape = [1, Number(header[3]), Number(header[2]), header[1] === "5" ? 1 : 3];
  const size = shape.reduce((a, b) => a * b);
  const pixels = file.subarray(header[0].length, header[0].length + size);
  if (pixels.length !== size) throw new Error(`${path} ends too early`);
  return new ort.Tensor("uint8", pixels, shape);
}

function softmax(logits) {
  const largest = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - largest));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

function sigmoid(logits) {
  return Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
}

const [model, image] = process.argv.slice(2);
if (image === undefined) {
  console.error("usage: node classify.mjs MODEL IMAGE");
  process.exit(2);
}
const { classes, multi_label: several } = JSON.parse(await readFile(model.replace(/\.onnx$/, ".json"), "utf8"));
const session = await ort.InferenceSession.create(model);
const { logits } = await session.run({ images: await readImage(image) });
const ranked = (several ? sigmoid : softmax)(logits.data).map((score, label) => [score, label]);
ranked.sort(([a], [b]) => b - a);
for (const [score, label] of ranked.slice(0, 5)) console.log(`${classes[label]}\t${score}`);
