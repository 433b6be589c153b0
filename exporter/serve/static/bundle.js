// The served bundle. Every address but index.json carries what it must be, so that no cache,
// the service worker's or the browser's, can mix two bundles.

import { readContract } from "/static/contract.js";
import { sha256 } from "/static/sha256.js";

const CHANGED = "The bundle on the server has changed: reload this page.";

async function get(address) {
  let response;
  try {
    response = await fetch(address);
  } catch {
    throw new Error("The server does not answer, and this file is not stored on this device.");
  }
  if (!response.ok) throw new Error(`${address.split("?")[0]} is missing (${response.status}).`);
  return response;
}

export class Bundle {
  #models = new Map();

  /** Reads index.json, then contract.json. */
  static async open() {
    const bundle = new Bundle();
    const text = await (await get("/bundle/index.json")).text();
    bundle.indexText = text;
    bundle.index = JSON.parse(text);
    bundle.id = sha256(new TextEncoder().encode(text)).slice(0, 16);
    bundle.contract = readContract(await (await get(bundle.address("contract.json"))).text());
    if (bundle.contract.labelHash !== bundle.index.label_hash) throw new Error(CHANGED);
    return bundle;
  }

  address(path) {
    return `/bundle/${path}?v=${this.id}`;
  }

  modelAddress(entry) {
    return `/bundle/${entry.path}?v=${entry.sha256}`;
  }

  /** The bytes of one of `index.tflite`, which are those that the index names. */
  async model(entry) {
    if (!this.#models.has(entry.key)) {
      const bytes = new Uint8Array(await (await get(this.modelAddress(entry))).arrayBuffer());
      if (sha256(bytes) !== entry.sha256) throw new Error(CHANGED);
      this.#models.set(entry.key, bytes);
    }
    return this.#models.get(entry.key);
  }

  /** golden.json, and its `sha256`. */
  async golden() {
    const text = await (await get(this.address("golden/golden.json"))).text();
    const golden = JSON.parse(text);
    if (golden.label_hash !== this.index.label_hash) throw new Error(CHANGED);
    return { ...golden, sha256: sha256(new TextEncoder().encode(text)) };
  }

  async goldenBlob(file) {
    return (await get(this.address(`golden/${file}`))).blob();
  }

  /** Every address that the page may ask for, for the offline store. */
  async addresses() {
    const { images, photos = [] } = await this.golden();
    const files = [...images.map(({ file }) => file)];
    for (const { file, square } of photos) files.push(file, square);
    return [
      this.address("contract.json"),
      this.address("golden/golden.json"),
      ...files.map((file) => this.address(`golden/${file}`)),
      ...this.index.tflite.map((entry) => this.modelAddress(entry)),
    ];
  }
}
