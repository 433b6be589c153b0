// The page's side of worker.js: one LiteRT.js, one open .tflite file.

import { openPicture, openSquare } from "/static/photo.js";

const START_MS = 60_000;
const MOST_THREADS = 4; // more than the fast cores of a phone slow it down

export const isolated = () => globalThis.crossOriginIsolated === true;
export const cores = () => navigator.hardwareConcurrency || 1;
export const usualThreads = () => (isolated() ? Math.min(MOST_THREADS, cores()) : 1);

export class Engine {
  #worker;
  #waiting = new Map();
  #last = 0;
  #wanted;
  #bytes;
  #queue = Promise.resolve();
  threads = 1;
  files = [];

  /** Starts LiteRT.js with that many threads; with one where threads do not work. */
  async start(threads) {
    this.#wanted = threads;
    try {
      await this.#begin(threads);
    } catch (error) {
      if (threads === 1) throw error;
      await this.#begin(1);
    }
  }

  async #begin(threads) {
    this.stop(new Error("LiteRT.js was started again."));
    this.#worker = new Worker("/static/worker.js", { name: "litert" });
    this.#worker.onmessage = ({ data }) => this.#answer(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.stop(new Error(event.message || "LiteRT.js cannot be loaded."));
    };
    const started = await this.#ask("start", { threads }, START_MS);
    this.threads = started.threads;
    const base = `/litert/wasm/litert_wasm_${started.variant}internal`;
    this.files = ["/litert/core.js", "/litert/wasm-utils.js", `${base}.js`, `${base}.wasm`];
  }

  stop(error) {
    this.#worker?.terminate();
    this.#worker = undefined;
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #answer({ id, value, error }) {
    const asked = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (!asked) return;
    if (error === undefined) asked.resolve(value);
    else asked.reject(new Error(error));
  }

  #ask(call, request = {}, limit = 0) {
    if (!this.#worker) return Promise.reject(new Error("LiteRT.js is not running."));
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve, reject) => {
      const timer = limit
        ? setTimeout(() => this.stop(new Error("LiteRT.js did not start in time.")), limit)
        : 0;
      const done = (settle) => (value) => {
        clearTimeout(timer);
        settle(value);
      };
      this.#waiting.set(id, { resolve: done(resolve), reject: done(reject) });
      this.#worker.postMessage({ id, call, ...request });
    });
  }

  /** One task after the other: a proof and a photograph never share the open file. */
  exclusively(task) {
    const next = this.#queue.then(task, task);
    this.#queue = next.catch(() => {});
    return next;
  }

  /** Opens a .tflite file that takes the contract's square and gives a number a label. */
  async load(bytes, contract) {
    if (!this.#worker) await this.start(this.#wanted); // it had stopped with an error
    this.#bytes = undefined;
    const { input, output } = await this.#ask("load", { bytes, threads: this.threads });
    const { height, width } = contract.rule;
    const wanted = [
      ["input", input, "uint8", [1, height, width, 3]],
      ["output", output, "float32", [1, contract.labels.length]],
    ];
    for (const [what, found, dtype, shape] of wanted) {
      if (found.dtype !== dtype || String(found.shape) !== String(shape)) {
        throw new Error(
          `The ${what} of this file is ${found.dtype} [${found.shape}], ` +
            `the contract says ${dtype} [${shape}].`,
        );
      }
    }
    this.#bytes = bytes;
  }

  /** Whether exactly these bytes are open. */
  holds(bytes) {
    return this.#bytes === bytes && this.#worker !== undefined;
  }

  picture(blob, exif) {
    if (typeof OffscreenCanvas === "undefined") return openPicture(blob, exif);
    return this.#ask("picture", { blob, exif });
  }

  square(blob, rule) {
    if (typeof OffscreenCanvas === "undefined") return openSquare(blob, rule);
    return this.#ask("square", { blob, rule });
  }

  /** {probabilities: Float32Array, ms} of the square's RGB bytes. */
  run(pixels) {
    return this.#ask("run", { pixels });
  }

  time(pixels, plan) {
    return this.#ask("time", { pixels, ...plan });
  }
}
