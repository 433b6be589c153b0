// Runs one .tflite file in LiteRT.js for browser.py: node browser_node.mjs CORE_FOLDER UTILS_FOLDER
//
// Frames on stdin and stdout: two little-endian uint32 (length of the JSON, length of the
// payload), the JSON, the payload. Requests: {"do": "open", "as": name} with the file as payload,
// answered by {"inputs": [{dtype, shape}], "outputs": [...]}; {"do": "run", "as": name} with uint8
// pixels, answered by {} with the float32 numbers of the first output. A failure is answered by
// {"error": text}. It ends when stdin does.

import { readFileSync, readSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import v8 from 'node:v8';

const [core, utils] = process.argv.slice(2);
const SPECIFIER = '"@litertjs/wasm-utils"';

for (const level of ['log', 'info', 'debug', 'warn']) console[level] = console.error; // stdout is ours

// The faster WebAssembly file, which is also the one that browsers take. Node 20 hides it
// behind a flag; later versions ignore the flag.
v8.setFlagsFromString('--experimental-wasm-relaxed-simd');

// What LiteRT.js expects of a worker in a browser.
globalThis.self = globalThis;
if (!globalThis.navigator) {
  Object.defineProperty(globalThis, 'navigator', { value: { hardwareConcurrency: 1 } });
}
globalThis.importScripts = (path) => {
  const module = { exports: {} };
  const names = ['module', 'exports', 'require', '__filename', '__dirname'];
  const script = new Function(...names, readFileSync(path, 'utf8'));
  script(module, module.exports, createRequire(pathToFileURL(path)), path, dirname(path));
  self.ModuleFactory = module.exports;
};

async function loadLibrary() {
  const text = readFileSync(join(core, 'dist', 'index.js'), 'utf8');
  const target = JSON.stringify(pathToFileURL(join(utils, 'dist', 'index.js')).href);
  const source = Buffer.from(text.replace(SPECIFIER, target)).toString('base64');
  const library = await import(`data:text/javascript;base64,${source}`);
  await library.loadLiteRt(join(core, 'wasm') + '/');
  return library;
}

function read(length) {
  const buffer = Buffer.alloc(length);
  let at = 0;
  while (at < length) {
    const got = readSync(0, buffer, at, length - at);
    if (got === 0) return null;
    at += got;
  }
  return buffer;
}

function receive() {
  const head = read(8);
  const text = head && read(head.readUInt32LE(0));
  const payload = text && read(head.readUInt32LE(4));
  return payload && { request: JSON.parse(text.toString('utf8')), payload };
}

function send(answer, payload = new Uint8Array(0)) {
  const text = Buffer.from(JSON.stringify(answer));
  const head = Buffer.alloc(8);
  head.writeUInt32LE(text.length, 0);
  head.writeUInt32LE(payload.byteLength, 4);
  const bytes = Buffer.concat([head, text, payload]);
  for (let at = 0; at < bytes.length; ) at += writeSync(1, bytes, at);
}

function described(details) {
  return details.map(({ dtype, shape }) => ({ dtype, shape: Array.from(shape) }));
}

let library;
const models = new Map();

async function open(name, file) {
  library ??= await loadLibrary();
  const options = { accelerator: 'wasm', cpuOptions: { numThreads: 1 } };
  const model = await library.loadAndCompile(new Uint8Array(file), options);
  models.set(name, model);
  send({
    inputs: described(model.getInputDetails()),
    outputs: described(model.getOutputDetails()),
  });
}

async function run(name, pixels) {
  const model = models.get(name);
  const input = new library.Tensor(new Uint8Array(pixels), model.getInputDetails()[0].shape);
  let made = [];
  try {
    made = await model.run(input);
    const values = made[0].toTypedArray().slice();
    send({}, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
  } finally {
    input.delete();
    made.forEach((tensor) => tensor.delete());
  }
}

for (let frame = receive(); frame; frame = receive()) {
  try {
    const { do: task, as: name } = frame.request;
    await (task === 'open' ? open(name, frame.payload) : run(name, frame.payload));
  } catch (error) {
    send({ error: String(error?.message ?? error) });
  }
}
process.exit(0);
