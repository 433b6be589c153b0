// The page: loads the bundle, judges photographs, proves the files.

import { Bundle } from "/static/bundle.js";
import { rank } from "/static/contract.js";
import { Engine, cores, isolated, usualThreads } from "/static/model.js";
import { keepOffline, whyNotOffline } from "/static/offline.js";
import { prove } from "/static/prove.js";
import { deviceFacts, download, keepName, post, resultOf, usualName } from "/static/results.js";
import * as views from "/static/views.js";

const USUAL_FILE = "tflite-int8";
const at = Object.fromEntries(
  Array.from(document.querySelectorAll("[id]"), (one) => [one.id, one]),
);
const engine = new Engine();
let bundle;
let lastPhoto;
let turn = 0;

function say(text) {
  at.state.textContent = text;
}

function problem(error) {
  at.problem.hidden = !error;
  at.problem.textContent = error ? error.message : "";
  if (error) say("");
}

function chosenEntry() {
  return bundle.index.tflite.find(({ key }) => key === at.model.value);
}

async function openChosen() {
  const bytes = await bundle.model(chosenEntry());
  if (engine.holds(bytes)) return;
  await engine.load(bytes, bundle.contract);
  const { height, width } = bundle.contract.rule;
  await engine.run(new Uint8Array(height * width * 3)); // the first run is slower than the rest
}

async function judge(blob, scroll) {
  turn += 1;
  const mine = turn;
  lastPhoto = blob;
  problem(null);
  say("Looking at the photo");
  try {
    await engine.exclusively(async () => {
      const entry = chosenEntry();
      const started = performance.now();
      const square = await engine.square(blob, bundle.contract.rule);
      const prepared = performance.now() - started;
      await openChosen();
      const { probabilities, ms } = await engine.run(square.data);
      if (mine === turn) show(blob, square, entry, { probabilities, ms, prepared });
    });
    if (mine === turn && scroll) at.answer.focus();
  } catch (error) {
    if (mine !== turn) return; // another photo is on its way
    at.result.hidden = true;
    problem(error);
  }
}

function show(blob, square, entry, { probabilities, ms, prepared }) {
  URL.revokeObjectURL(at.photo.src);
  at.photo.src = URL.createObjectURL(blob);
  views.showSquare(at.square, square);
  views.showAnswer(at, bundle.contract, rank(bundle.contract, probabilities));
  const threads = `${engine.threads} thread${engine.threads === 1 ? "" : "s"}`;
  at.latency.textContent =
    `${views.milliseconds(ms)} for the model (${nameOf(entry.key)}, ${threads}), ` +
    `${views.milliseconds(prepared)} to prepare the photo`;
  at.result.dataset.probabilities = JSON.stringify(Array.from(probabilities));
  at.result.dataset.key = entry.key;
  at.result.hidden = false;
  say("");
}

function progress(done, all, text) {
  at.progress.hidden = done === all;
  at.progress.max = all;
  at.progress.value = done;
  at["proof-state"].textContent = done === all ? "" : text;
}

async function proveAll() {
  at.prove.disabled = true;
  at.stored.hidden = true;
  at.download.hidden = true;
  at.rows.replaceChildren();
  keepName(at.device.value);
  try {
    const proof = await engine.exclusively(() => prove(bundle, engine, progress));
    showProof(proof);
    const { index } = bundle;
    const result = resultOf(at.device.value, engine.threads, index, proof);
    at.download.onclick = () => download(result);
    at.download.hidden = false;
    await send(result);
  } catch (error) {
    progress(1, 1, "");
    at["proof-state"].textContent = error.message;
  } finally {
    at.prove.disabled = false;
  }
}

function showProof({ rows, photos, wrongPixels, images }) {
  at.rows.replaceChildren(...rows.map(views.proofRow), ...photos.map(views.photoRow));
  if (wrongPixels.length > 0) {
    const text = `This browser decodes ${wrongPixels.join(", ")} to other pixels than Python.`;
    at.rows.prepend(views.element("p", { class: "problem" }, text));
  }
  at["proof-state"].textContent = `${rows.length} files, ${images} golden images.`;
}

async function send(result) {
  at.stored.hidden = false;
  at.stored.className = "state";
  at.stored.textContent = "Sending the result";
  try {
    const { stored } = await post(result, bundle.index.results);
    at.stored.textContent = `Stored beside the bundle as ${stored}; 'exporter parity' shows it.`;
    at.stored.className = "good";
  } catch (error) {
    at.stored.textContent = error.message;
    at.stored.className = "problem";
  }
}

/** "tflite-int8-weights" to "int8-weights": several files may share a precision. */
function nameOf(key) {
  return key.replace(/^tflite-/, "");
}

function fillChoices() {
  const megabytes = (bytes) => `${(bytes / 1e6).toFixed(1)} MB`;
  for (const { key, bytes } of bundle.index.tflite) {
    at.model.append(new Option(`${nameOf(key)}, ${megabytes(bytes)}`, key));
  }
  if (bundle.index.tflite.some(({ key }) => key === USUAL_FILE)) at.model.value = USUAL_FILE;
  const most = isolated() ? cores() : 1;
  const counts = new Set([1, 2, 4, 8, usualThreads(), most].filter((count) => count <= most));
  for (const count of [...counts].sort((a, b) => a - b)) at.threads.append(new Option(count));
  at.threads.value = String(usualThreads());
  at.threads.disabled = most === 1;
}

async function restart() {
  await engine.exclusively(() => engine.start(Number(at.threads.value)));
  at.threads.value = String(engine.threads);
  views.facts(at.facts, deviceFacts(engine.threads));
}

function takePhotos() {
  for (const input of [at.camera, at.file]) {
    input.addEventListener("change", () => {
      const [file] = input.files;
      if (file) judge(file, true);
      input.value = ""; // so that the same file can be chosen again
    });
  }
  const again = () => lastPhoto && judge(lastPhoto, false);
  at.model.addEventListener("change", again);
  at.threads.addEventListener("change", () => {
    say("Starting LiteRT.js");
    restart().then(() => (say("Ready."), again()), problem);
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const [file] = event.dataTransfer.files;
    if (file) judge(file, true);
  });
}

async function goOffline() {
  const why = whyNotOffline();
  if (why) {
    at.offline.textContent = `Works only while the server answers: ${why}.`;
    return;
  }
  at.offline.textContent = "Storing for use without a network";
  try {
    await keepOffline(bundle, engine.files);
    at.offline.textContent = "Stored: works without a network from now on.";
  } catch (error) {
    at.offline.textContent = navigator.onLine
      ? `Not stored for use without a network: ${error.message}`
      : "Without a network.";
  }
}

async function start() {
  bundle = await Bundle.open();
  at.title.textContent = bundle.contract.name;
  document.title = bundle.contract.name;
  const { exporter, litertjs, tflite } = bundle.index;
  at.about.textContent = `exporter ${exporter}, LiteRT.js ${litertjs}`;
  if (tflite.length === 0) throw new Error("This bundle holds no .tflite file: export it with one.");
  fillChoices();
  at.device.value = await usualName();
  say("Starting LiteRT.js");
  await restart();
  await openChosen();
  takePhotos();
  at.prove.addEventListener("click", proveAll);
  at.prove.disabled = false;
  say("Ready.");
  document.body.dataset.ready = "yes";
  await goOffline();
}

start().catch(problem);
