// Keeps the page, LiteRT.js and the bundle on the device, with the service worker's help.

const PAGE = [
  "/",
  "/manifest.webmanifest",
  ...[
    "app.js",
    "bundle.js",
    "contract.js",
    "exif.js",
    "icon-192.png",
    "icon.svg",
    "model.js",
    "offline.js",
    "photo.js",
    "pixels.js",
    "prove.js",
    "results.js",
    "sha256.js",
    "style.css",
    "views.js",
    "worker.js",
  ].map((name) => `/static/${name}`),
];

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

/** Stores all of it. Throws an Error that says what could not be stored. */
export async function keepOffline(bundle, libraryFiles) {
  await navigator.serviceWorker.register("/sw.js");
  const { active } = await navigator.serviceWorker.ready;
  const answer = await ask(active, {
    page: [...PAGE, ...libraryFiles],
    bundle: await bundle.addresses(),
    id: bundle.id,
    index: bundle.indexText,
  });
  if (answer.error) throw new Error(answer.error);
}
