// Replays the golden images for every .tflite file and measures it. The server judges again from
// the probabilities that are sent; what is computed here is for the person who looks on.

import { present } from "/static/contract.js";
import { sha256 } from "/static/sha256.js";

const PLAN = { warmup: 5, least: 30, most: 300, seconds: 2 };
const PATIENT_MS = 300; // a file slower than this for one image gets fewer runs
const SLOW_PLAN = { warmup: 1, least: 5, most: 30, seconds: 6 };

function quantile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.ceil(share * sorted.length) - 1)];
}

/** {runs, warmup, median_ms, p90_ms, min_ms} of milliseconds, each a run or the mean of some. */
export function latencyOf(times, warmup) {
  const sorted = Float64Array.from(times).sort();
  const middle = sorted.length >> 1;
  const median =
    sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
  const rounded = (ms) => Math.round(ms * 1000) / 1000;
  return {
    runs: times.length,
    warmup,
    median_ms: rounded(median),
    p90_ms: rounded(quantile(sorted, 0.9)),
    min_ms: rounded(sorted[0]),
  };
}

/** How many of two lists of numbers differ, and by how much at most. */
export function difference(found, expected) {
  if (found.length !== expected.length) return { differing: expected.length, largest: Infinity };
  let differing = 0;
  let largest = 0;
  for (let index = 0; index < expected.length; index += 1) {
    const distance = Math.abs(found[index] - expected[index]);
    if (distance !== 0) differing += 1;
    if (!(distance <= largest)) largest = distance; // NaN counts as different
  }
  return { differing, largest };
}

async function goldenSquares(bundle, engine, golden) {
  const squares = [];
  for (const { file, pixels_sha256: wanted } of golden.images) {
    const { data } = await engine.picture(await bundle.goldenBlob(file), "ignore");
    const found = sha256(data);
    squares.push({ file, pixels: data, found, right: wanted === undefined || found === wanted });
  }
  return squares;
}

/** Each golden photograph through this page's own preparation, against Python's square. */
async function replayPhotos(bundle, engine, golden) {
  const rows = [];
  for (const photo of golden.photos ?? []) {
    const row = { file: photo.file, allowed: photo.max_difference };
    rows.push(row);
    try {
      const square = await engine.square(await bundle.goldenBlob(photo.file), bundle.contract.rule);
      const wanted = await engine.picture(await bundle.goldenBlob(photo.square), "ignore");
      const { differing, largest } = difference(square.data, wanted.data);
      let sum = 0;
      wanted.data.forEach((value, index) => {
        sum += Math.abs(value - square.data[index]);
      });
      const mean = sum / wanted.data.length;
      const right = largest <= photo.max_difference && mean <= photo.mean_difference;
      Object.assign(row, { differing, largest, mean, right, values: wanted.data.length });
    } catch (error) {
      Object.assign(row, { right: false, error: error.message });
    }
  }
  return rows;
}

async function measure(engine, pixels) {
  const { ms } = await engine.run(pixels);
  const plan = ms > PATIENT_MS ? SLOW_PLAN : PLAN;
  const { times, group } = await engine.time(pixels, plan);
  return { latency: latencyOf(times, plan.warmup), group };
}

async function proveFile(bundle, engine, golden, squares, entry) {
  await engine.load(await bundle.model(entry), bundle.contract);
  const images = [];
  const { several } = bundle.contract;
  const row = { numbers: 0, differing: 0, largest: 0, agreeing: 0, several };
  for (const [index, { file, pixels, found }] of squares.entries()) {
    const { probabilities } = await engine.run(pixels);
    images.push({ file, pixels_sha256: found, probabilities: Array.from(probabilities) });
    const wanted = Float32Array.from(golden.images[index].probabilities[entry.key] ?? []);
    const { differing, largest } = difference(probabilities, wanted);
    row.numbers += wanted.length;
    row.differing += differing;
    row.largest = Math.max(row.largest, largest);
    row.agreeing += agree(bundle.contract, probabilities, wanted) ? 1 : 0;
  }
  return { row, images, ...(await measure(engine, squares[0].pixels)) };
}

function first(probabilities) {
  return probabilities.indexOf(probabilities.reduce((a, b) => Math.max(a, b), -Infinity));
}

/** Whether an app would say the same: the first class, or every class that is there. */
function agree(contract, found, wanted) {
  if (!contract.several) return first(found) === first(wanted);
  return String(present(contract, found)) === String(present(contract, wanted));
}

/**
 * Proves every file of the bundle, one after the other.
 *
 * Returns {artifacts, goldenSha256, rows, photos, wrongPixels, images}: the first two are what is
 * posted, the others what is shown; `wrongPixels` names golden images that were decoded otherwise.
 */
export async function prove(bundle, engine, report) {
  const { tflite } = bundle.index;
  const golden = await bundle.golden();
  report(0, tflite.length, "Reading the golden images");
  const squares = await goldenSquares(bundle, engine, golden);
  const photos = await replayPhotos(bundle, engine, golden);
  const artifacts = [];
  const rows = [];
  for (const [index, entry] of tflite.entries()) {
    report(index, tflite.length, `Running ${entry.path}`);
    const about = { key: entry.key, sha256: entry.sha256 };
    const tolerance = golden.tolerance[golden.precision[entry.key]];
    const shown = { key: entry.key, path: entry.path, precision: entry.precision, tolerance };
    try {
      const { row, images, latency, group } = await proveFile(bundle, engine, golden, squares, entry);
      artifacts.push({ ...about, status: "run", reason: "", images, latency });
      rows.push({ ...shown, ...row, latency, group, images: images.length });
    } catch (error) {
      const reason = error.message.slice(0, 300);
      artifacts.push({ ...about, status: "failed", reason, images: [], latency: null });
      rows.push({ ...shown, error: reason });
    }
  }
  report(tflite.length, tflite.length, "Done");
  const wrongPixels = squares.filter(({ right }) => !right).map(({ file }) => file);
  const goldenSha256 = golden.sha256;
  return { artifacts, goldenSha256, rows, photos, wrongPixels, images: squares.length };
}
