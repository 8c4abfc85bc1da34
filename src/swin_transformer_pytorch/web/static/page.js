// The page: an image and a model to /predict, and what it answers.

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(share * 100).toFixed(1)}%`;

let server = { models: [] };
let image = null; // the last one, a Blob
let question = null; // the request under way, to be aborted by the next
let addresses = []; // of what is shown, to be released

function chosen() {
  return server.models.find((model) => model.name === byId("model").value);
}

async function start() {
  try {
    const answer = await fetch("models");
    if (!answer.ok) throw new Error(await reason(answer));
    server = await answer.json();
  } catch (error) {
    return complain(error.message);
  }
  for (const model of server.models) {
    byId("model").append(new Option(`${model.name} (${model.task})`, model.name));
  }
  byId("model").disabled = false;
  byId("score").value = server.score_threshold;
  byId("score").dispatchEvent(new Event("input"));
  suitModel();
}

/** What depends on the model: the least score, the samples, the example of the API. */
function suitModel() {
  const model = chosen();
  byId("score-field").hidden = model.task !== "detection";
  byId("address").textContent = `'${new URL(`predict?model=${encodeURIComponent(model.name)}`, location.href)}'`;
  byId("samples").replaceChildren(...model.samples.map(sampleButton));
  byId("samples-field").hidden = model.samples.length === 0;
}

function sampleButton(address, place) {
  const picture = Object.assign(document.createElement("img"), { src: address, alt: `Sample ${place + 1}` });
  const button = Object.assign(document.createElement("button"), { type: "button" });
  button.append(picture);
  button.addEventListener("click", () => takeSample(address));
  const item = document.createElement("li");
  item.append(button);
  return item;
}

async function takeSample(address) {
  try {
    const answer = await fetch(address);
    if (!answer.ok) throw new Error(await reason(answer));
    take(await answer.blob());
  } catch (error) {
    complain(error instanceof TypeError ? "The server does not answer." : error.message);
  }
}

/** Takes an image, whichever way it came. */
function take(blob) {
  if (!blob) return;
  image = blob;
  predict();
}

async function predict() {
  const model = chosen();
  if (!image || !model) return;
  question?.abort();
  const mine = (question = new AbortController());
  byId("problem").hidden = true;
  if (image.size > server.max_bytes) {
    return complain(`The file has ${image.size.toLocaleString()} bytes; at most ${server.max_bytes.toLocaleString()} are taken.`);
  }
  byId("result").setAttribute("aria-busy", "true");
  byId("status").textContent = `Asking ${model.name} …`;
  const query = new URLSearchParams({ model: model.name, picture: "true" });
  if (model.task === "detection") query.set("score_threshold", byId("score").value);
  try {
    const answer = await fetch(`predict?${query}`, {
      method: "POST",
      body: image,
      headers: { "Content-Type": "application/octet-stream" },
      signal: mine.signal,
    });
    if (!answer.ok) throw new Error(await reason(answer));
    show(await answer.json(), model.task);
  } catch (error) {
    if (mine.signal.aborted) return; // another question has taken its place
    complain(error instanceof TypeError ? "The server does not answer." : error.message);
  }
  byId("result").setAttribute("aria-busy", "false");
}

async function reason(answer) {
  const text = await answer.text();
  try {
    return JSON.parse(text).detail;
  } catch {
    return text || `The server answered ${answer.status}.`;
  }
}

function complain(text) {
  byId("status").textContent = "No result.";
  byId("problem").textContent = text;
  byId("problem").hidden = false;
  byId("result").setAttribute("aria-busy", "false");
  for (const id of ["picture-field", "label-map-field", "found", "downloads"]) byId(id).hidden = true;
}

function show({ picture, label_map: labelMap, segment_ids: segmentIds, ...record }, task) {
  addresses.forEach(URL.revokeObjectURL);
  addresses = [];
  const summary = { classification: classes, detection: objects, segmentation: regions, panoptic: segments }[task](record);
  byId("status").textContent = `${summary.text}, in ${Math.round(record.milliseconds)} ms`;
  byId("picture").alt = `The image with its result: ${summary.text}`;
  byId("caption").textContent = summary.caption;
  byId("found-title").textContent = summary.title;
  byId("found-head").replaceChildren(...summary.columns.map(heading));
  byId("found-rows").replaceChildren(...summary.rows);
  byId("found").hidden = summary.rows.length === 0;
  showPicture("picture", picture);
  showPicture("label-map", labelMap);
  offer("segment-ids", segmentIds);
  byId("download-json").href = addressOf(new Blob([JSON.stringify(record, null, 1)], { type: "application/json" }));
  byId("downloads").hidden = false;
  byId("result").scrollIntoView({ block: "nearest" }); // on a phone it is below
}

function classes({ names, scores }) {
  return {
    text: `${names[0]} ${percent(scores[0])}`,
    caption: "Likeliest classes",
    title: "Classes",
    columns: ["Class", "", "Score"],
    rows: names.map((name, place) => row(name, meter(scores[place]), percent(scores[place]))),
  };
}

function objects({ names, scores, boxes, colours }) {
  return {
    text: names.length === 1 ? "1 object" : `${names.length} objects`,
    caption: "Boxes and masks",
    title: "Objects",
    columns: ["Object", "Left, top, right, bottom", "Score"],
    rows: names.map((name, place) => {
      const box = boxes[place].map(Math.round).join(", ");
      return row([swatch(colours[place]), name], box, percent(scores[place]));
    }),
  };
}

function regions({ names, shares, colours }) {
  return {
    text: names.length === 1 ? "1 class" : `${names.length} classes`,
    caption: "Classes of its pixels",
    title: "Legend",
    columns: ["Class", "", "Of the image"],
    rows: names.map((name, place) => row([swatch(colours[place]), name], meter(shares[place]), percent(shares[place]))),
  };
}

function segments({ segments: found, image_size: [height, width], colours }) {
  return {
    text: found.length === 1 ? "1 segment" : `${found.length} segments`,
    caption: "Segments of its pixels",
    title: "Legend",
    columns: ["Segment", "", "Of the image"],
    rows: found.map(({ name, area }, place) => {
      const share = area / (height * width);
      return row([swatch(colours[place]), name], meter(share), percent(share));
    }),
  };
}

function heading(text, place) {
  const cell = Object.assign(document.createElement("th"), { textContent: text, scope: "col" });
  cell.className = ["", text && "box", "number"][place];
  return cell;
}

function row(name, middle, number) {
  const line = document.createElement("tr");
  for (const [place, content] of [name, middle, number].entries()) {
    const cell = document.createElement("td");
    cell.append(...[content].flat());
    cell.className = ["", typeof content === "string" ? "box" : "", "number"][place];
    line.append(cell);
  }
  return line;
}

function swatch(colour) {
  const mark = document.createElement("span");
  mark.className = "swatch";
  mark.style.backgroundColor = `rgb(${colour.join(" ")})`;
  return mark;
}

function meter(value) {
  return Object.assign(document.createElement("meter"), { value });
}

/** Shows a PNG in base64 and offers it; hides its place where there is none. */
function showPicture(id, png) {
  byId(`${id}-field`).hidden = !png;
  const address = offer(id, png);
  if (address) byId(id).src = address;
}

/** Offers a PNG in base64 for download, at the address that it gives; hides the button where there is none. */
function offer(id, png) {
  byId(`download-${id}`).hidden = !png;
  if (!png) return null;
  const bytes = Uint8Array.from(atob(png), (letter) => letter.charCodeAt(0));
  return (byId(`download-${id}`).href = addressOf(new Blob([bytes], { type: "image/png" })));
}

function addressOf(blob) {
  addresses.push(URL.createObjectURL(blob));
  return addresses.at(-1);
}

byId("file").addEventListener("change", (event) => {
  take(event.target.files[0]);
  event.target.value = ""; // so that the same file can be chosen again
});
byId("model").addEventListener("change", () => {
  suitModel();
  predict();
});
byId("score").addEventListener("input", (event) => {
  byId("score-shown").textContent = percent(event.target.value);
});
byId("score").addEventListener("change", predict);
document.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dragging");
});
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  take(event.dataTransfer.files[0]);
});

start();
