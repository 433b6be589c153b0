// The page without a network. The page itself is always asked of the server first. Addresses
// with ?v= name their content and come from the store where they are in it. index.json, which
// names them all, is stored last. Each version of the page and of the bundle has a store of its
// own, and the older ones go when the newest is complete: what is stored fits together.

const OURS = "exporter-";
const PAGE = `${OURS}page-`;
const BUNDLE = `${OURS}bundle-`;
const INDEX = "/bundle/index.json";
const PATIENCE_MS = 4000; // for a server that has gone without a word

/** Stores [address, ETag] pairs that are not stored yet; a pair without ETag takes any. */
async function storeAll(cache, files) {
  for (const [address, tag] of files) {
    if (await cache.match(address)) continue;
    const response = await fetch(address, { cache: "no-cache" });
    if (!response.ok) throw new Error(`${address} is missing (${response.status})`);
    if (tag && response.headers.get("ETag") !== tag) {
      throw new Error(`${address} has changed on the server: reload this page`);
    }
    await cache.put(address, response);
  }
}

async function keep({ page, bundle, id, index }) {
  const kept = [PAGE + page.id, BUNDLE + id];
  await storeAll(await caches.open(PAGE + page.id), Object.entries(page.files));
  const cache = await caches.open(BUNDLE + id);
  await storeAll(cache, bundle.map((address) => [address]));
  await cache.put(INDEX, new Response(index, { headers: { "Content-Type": "application/json" } }));
  for (const name of await caches.keys()) {
    if (name.startsWith(OURS) && !kept.includes(name)) await caches.delete(name);
  }
}

function withPatience(promise) {
  return new Promise((resolve, reject) => {
    setTimeout(() => reject(new Error("too slow")), PATIENCE_MS);
    promise.then(resolve, reject);
  });
}

async function fromServerFirst(request, key) {
  const stored = await caches.match(key);
  const asked = fetch(request);
  try {
    return await (stored ? withPatience(asked) : asked);
  } catch (error) {
    if (stored) return stored;
    throw error;
  }
}

async function fromStoreFirst(request) {
  return (await caches.match(request)) ?? fetch(request);
}

self.addEventListener("install", (event) => event.waitUntil(self.skipWaiting()));
self.addEventListener("activate", (event) => event.waitUntil(self.clients.claim()));

self.addEventListener("message", (event) => {
  const [port] = event.ports;
  const done = keep(event.data).then(
    () => port.postMessage({}),
    (error) => port.postMessage({ error: error.message }),
  );
  event.waitUntil(done);
});

self.addEventListener("fetch", (event) => {
  const { request } = event;
  const url = new URL(request.url);
  if (request.method !== "GET" || url.origin !== self.location.origin) return;
  if (url.searchParams.has("v")) event.respondWith(fromStoreFirst(request));
  else event.respondWith(fromServerFirst(request, url.pathname));
});
