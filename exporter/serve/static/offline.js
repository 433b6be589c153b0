// Keeps the page, LiteRT.js and the bundle on the device, with the service worker's help.

import { sha256 } from "/static/sha256.js";

const PAGE_INDEX = "/page.json";
const LIBRARY = "/litert/";

function ask(worker, request) {
  return new Promise((resolve) => {
    const { port1, port2 } = new MessageChannel();
    port1.onmessage = ({ data }) => resolve(data);
    worker.postMessage(request, [port2]);
  });
}

/** What a person should know where this page cannot be kept; null where it can. */
export function whyNotOffline() {
  if ("serviceWorker" in navigator) return null;
  return window.isSecureContext
    ? "this browser has no service workers"
    : "the browser allows that over https or from localhost only";
}

/** {id, files: {address: ETag}} of the page, with those of LiteRT.js that this device uses. */
async function pageToKeep(libraryFiles) {
  const response = await fetch(PAGE_INDEX);
  if (!response.ok) throw new Error(`${PAGE_INDEX} is missing (${response.status})`);
  const text = await response.text();
  const all = Object.entries(JSON.parse(text).files);
  const used = all.filter(([at]) => !at.startsWith(LIBRARY) || libraryFiles.includes(at));
  const id = sha256(new TextEncoder().encode(text)).slice(0, 16);
  return { id, files: Object.fromEntries(used) };
}

/** Stores all of it. Throws an Error that says what could not be stored. */
export async function keepOffline(bundle, libraryFiles) {
  await navigator.serviceWorker.register("/sw.js");
  const { active } = await navigator.serviceWorker.ready;
  const answer = await ask(active, {
    page: await pageToKeep(libraryFiles),
    bundle: await bundle.addresses(),
    id: bundle.id,
    index: bundle.indexText,
  });
  if (answer.error) throw new Error(answer.error);
}
