import * as ort from "./node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs";
import { inputOf } from "./preprocess.js";

const byId = (id) => document.getElementById(id);
const name = new URLSearchParams(location.search).get("model") ?? "fashion";
ort.env.wasm.numThreads = 1; // more would need a page that is isolated from other origins

const [description, session] = await load();

async function load() {
  try {
    const answer = await fetch(`${name}.json`);
    if (!answer.ok) throw new Error(`${name}.json is not here: swin export ${name} ${name}.onnx`);
    const loaded = [await answer.json(), await ort.InferenceSession.create(`${name}.onnx`)];
    byId("status").textContent = `${name} is ready.`;
    byId("file").disabled = false;
    return loaded;
  } catch (error) {
    byId("status").textContent = error.message;
    throw error;
  }
}

async function classify(file) {
  if (!file) return;
  try {
    const began = performance.now();
    const { data, dims } = await inputOf(file, description);
    const { logits } = await session.run({ images: new ort.Tensor(data, dims) });
    const best = (description.multi_label ? sigmoid : softmax)(logits.data)
      .map((score, label) => ({ score, name: description.classes?.[label] ?? `class ${label}` }))
      .sort((one, other) => other.score - one.score)
      .slice(0, 5);
    byId("classes").replaceChildren(...best.map(line));
    byId("status").textContent = `Classified in ${Math.round(performance.now() - began)} ms`;
    URL.revokeObjectURL(byId("picture").src);
    byId("picture").src = URL.createObjectURL(file);
    byId("picture").hidden = false;
  } catch (error) {
    byId("status").textContent = `This image cannot be used: ${error.message}`;
  }
}

function softmax(logits) {
  const most = Math.max(...logits);
  const powers = Array.from(logits, (logit) => Math.exp(logit - most));
  const sum = powers.reduce((one, other) => one + other);
  return powers.map((power) => power / sum);
}

function sigmoid(logits) {
  return Array.from(logits, (logit) => 1 / (1 + Math.exp(-logit)));
}

function line({ name, score }) {
  return Object.assign(document.createElement("li"), { textContent: `${name} ${(score * 100).toFixed(1)}%` });
}

byId("file").addEventListener("change", (event) => classify(event.target.files[0]));
document.addEventListener("paste", (event) => classify(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dragging"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  classify(event.dataTransfer.files[0]);
});
