// The browser's part of check_web.py: node check_web.mjs SETTINGS.json, and what it found as JSON on stdout.

import { readFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";

const settings = JSON.parse(await readFile(process.argv[2], "utf8"));
const { chromium } = await import(pathToFileURL(settings.playwright));
const quiet = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"];
const browser = await chromium.launch({
  executablePath: settings.chromium,
  args: [...quiet, "--disable-background-networking", "--disable-component-update"],
});
const found = { hosts: [], problems: [], results: [], example: [] };

async function open(address, options = {}) {
  const context = await browser.newContext({ acceptDownloads: true, ...options });
  context.on("request", (request) => {
    if (/^(https?|wss?):/.test(request.url())) found.hosts.push(new URL(request.url()).host);
  });
  const page = await context.newPage();
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type())) found.problems.push(message.text());
  });
  page.on("pageerror", (error) => found.problems.push(String(error)));
  await page.goto(address);
  return page;
}

const ways = {
  file: (page, path) => page.setInputFiles("#file", path),
  drop: (page, path) => handOver(page, path, "drop"),
  paste: (page, path) => handOver(page, path, "paste"),
};

/** A file as a person's drop or paste hands it to the page. */
async function handOver(page, path, kind) {
  const bytes = [...(await readFile(path))];
  await page.evaluate(([bytes, kind]) => {
    const data = new DataTransfer();
    data.items.add(new File([Uint8Array.from(bytes)], "image.png", { type: "image/png" }));
    const options = { bubbles: true, cancelable: true };
    const event = kind === "paste"
      ? new ClipboardEvent("paste", { ...options, clipboardData: data })
      : new DragEvent("drop", { ...options, dataTransfer: data });
    document.body.dispatchEvent(event);
  }, [bytes, kind]);
}

/** What an image shows, as a PNG in base64; null where it is hidden. */
function shown(page, id) {
  return page.evaluate(async (id) => {
    const image = document.getElementById(id);
    if (image.closest("[hidden]")) return null;
    await image.decode();
    const canvas = Object.assign(document.createElement("canvas"), { width: image.naturalWidth, height: image.naturalHeight });
    canvas.getContext("2d").drawImage(image, 0, 0);
    return canvas.toDataURL("image/png").split(",")[1];
  }, id);
}

async function downloaded(page, id) {
  const [download] = await Promise.all([page.waitForEvent("download"), page.click(id)]);
  return readFile(await download.path(), "utf8");
}

const answered = (page) => page.waitForFunction(() => / in \d+ ms$/.test(document.getElementById("status").textContent));
const texts = (page, selector) => page.locator(selector).allTextContents();

for (const [model, path] of Object.entries(settings.images)) {
  for (const [way, hand] of Object.entries(ways)) {
    const page = await open(settings.page);
    await page.selectOption("#model", model);
    await hand(page, path);
    await answered(page);
    found.results.push({
      model,
      way,
      rows: await texts(page, "#found-rows tr td:first-child"),
      picture: await shown(page, "picture"),
      label_map: await shown(page, "label-map"),
      json: JSON.parse(await downloaded(page, "#download-json")),
    });
    await page.context().close();
  }
  const looks = {
    desktop: { viewport: { width: 1280, height: 850 } },
    phone: { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true, colorScheme: "dark" },
  };
  for (const [look, options] of Object.entries(looks)) {
    const page = await open(settings.page, options);
    await page.selectOption("#model", model);
    await page.locator("#samples button").nth(1).press("Enter"); // by keyboard
    await answered(page);
    await page.screenshot({ path: `${settings.out}/${model}-${look}.png`, fullPage: true });
    const wide = await page.evaluate(() => document.scrollingElement.scrollWidth > innerWidth);
    if (wide) found.problems.push(`${model} on a ${look} is wider than the screen`);
    await page.context().close();
  }
}

// What is no image is said, and the page goes on.
const page = await open(settings.page);
await page.setInputFiles("#file", settings.broken);
await page.waitForSelector("#problem:not([hidden])");
found.refusal = await page.textContent("#problem");
found.problems = found.problems.filter((problem) => !problem.includes("status of 400"));
await page.locator("#samples button").first().click();
await answered(page);

const example = await open(settings.example);
await example.waitForFunction(() => document.getElementById("status").textContent.endsWith("is ready."), null, { timeout: 60000 });
for (const path of settings.classified) {
  for (const hand of Object.values(ways)) {
    await example.evaluate(() => (document.getElementById("status").textContent = ""));
    await hand(example, path);
    await answered(example);
    found.example.push({ path, classes: await texts(example, "#classes li") });
  }
}

// A video of swin video plays to its end; and what the browser shows in the middle of it.
const player = await open(settings.video);
found.video = await player.evaluate(async () => {
  const video = document.querySelector("video");
  await new Promise((resolve, reject) => {
    video.onloadedmetadata = resolve;
    video.onerror = () => reject(new Error(video.error.message));
    video.load();
  });
  const seen = { width: video.videoWidth, height: video.videoHeight, duration: video.duration, times: [] };
  const canvas = Object.assign(document.createElement("canvas"), { width: seen.width, height: seen.height });
  const look = (now, { mediaTime }) => {
    seen.times.push(mediaTime);
    if (!seen.picture && mediaTime >= video.duration / 2) {
      canvas.getContext("2d").drawImage(video, 0, 0);
      Object.assign(seen, { picture: canvas.toDataURL("image/png").split(",")[1], picture_time: mediaTime });
    }
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  const ended = new Promise((resolve) => (video.onended = resolve));
  const start = performance.now();
  await video.play();
  await ended;
  const { totalVideoFrames, droppedVideoFrames } = video.getVideoPlaybackQuality();
  const took = (performance.now() - start) / 1000;
  return { ...seen, end: video.currentTime, took, frames: totalVideoFrames, dropped: droppedVideoFrames };
});
await browser.close();
console.log(JSON.stringify(found));
