// What this device is, and where a finished proof goes: to the server, or into a file.

import { cores, isolated } from "/static/model.js";

const NAME_KEY = "exporter.device-name";
const MAX_NAME = 80;

function browserName(agent) {
  const known = [
    [/Edg[A-Za-z]*\/(\d+)/, "Edge"],
    [/OPR\/(\d+)/, "Opera"],
    [/SamsungBrowser\/(\d+)/, "Samsung Internet"],
    [/Firefox\/(\d+)/, "Firefox"],
    [/(?:Chrome|CriOS)\/(\d+)/, "Chrome"],
    [/Version\/(\d+).*Safari/, "Safari"],
  ];
  for (const [pattern, name] of known) {
    const found = pattern.exec(agent);
    if (found) return `${name} ${found[1]}`;
  }
  return "a browser";
}

function systemName(agent) {
  const known = ["iPhone", "iPad", "Android", "Windows", "Mac OS X", "CrOS", "Linux"];
  return known.find((name) => agent.includes(name)) ?? navigator.platform ?? "";
}

/** 'Pixel 8, Chrome 156' where the browser tells the model, else the system's name. */
export async function usualName() {
  let kept = null;
  try {
    kept = localStorage.getItem(NAME_KEY);
  } catch {
    // storage is switched off
  }
  if (kept) return kept;
  const agent = navigator.userAgent;
  let model = "";
  try {
    ({ model } = await navigator.userAgentData.getHighEntropyValues(["model"]));
  } catch {
    // a browser that does not tell, or a page that is not secure
  }
  return `${model || systemName(agent)}, ${browserName(agent)}`.slice(0, MAX_NAME);
}

export function keepName(name) {
  try {
    localStorage.setItem(NAME_KEY, name);
  } catch {
    // storage is switched off: the name is asked for again
  }
}

function platformName() {
  return navigator.userAgentData?.platform || navigator.platform || "";
}

/** What is shown of the device: [[what, value], ...]. */
export function deviceFacts(threads) {
  return [
    ["Browser", browserName(navigator.userAgent)],
    ["Cores", String(cores())],
    ["Threads", String(threads)],
    ["Cross-origin isolated", isolated() ? "yes" : "no"],
  ];
}

/** The JSON that /results takes. */
export function resultOf(name, threads, index, { artifacts, goldenSha256 }) {
  return {
    schema: 1,
    device: {
      name: name.trim().slice(0, MAX_NAME) || "a device",
      user_agent: navigator.userAgent,
      platform: platformName(),
      cores: navigator.hardwareConcurrency ?? null,
      memory_gb: navigator.deviceMemory ?? null,
      threads,
      cross_origin_isolated: isolated(),
    },
    runtime: `LiteRT.js ${index.litertjs}`,
    accelerator: "wasm",
    golden_sha256: goldenSha256,
    artifacts,
  };
}

/** The token of the printed address, which never leaves the page but in a header. */
function token() {
  return new URLSearchParams(location.hash.slice(1)).get("token");
}

/**
 * Sends a result. Returns {stored, rows} as the server answers.
 *
 * Throws an Error whose message says what to do, when it was not stored. `folder` is where a
 * downloaded result can be put by hand.
 */
export async function post(result, folder) {
  const secret = token();
  const instead = `download the result and put it into ${folder}`;
  if (!secret) {
    throw new Error(
      "Not stored. This address has no token: open the address that 'exporter serve' printed, " +
        `or ${instead}.`,
    );
  }
  let response;
  try {
    response = await fetch("/results", {
      method: "POST",
      headers: { "Content-Type": "application/json", "X-Exporter-Token": secret },
      body: JSON.stringify(result),
    });
  } catch {
    throw new Error(`Not stored. The server does not answer: ${instead}.`);
  }
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  const what = answer.error ?? `The server answered ${response.status}.`;
  throw new Error(`Not stored. ${what}${answer.mend ? ` To mend it: ${answer.mend}.` : ""}`);
}

/** Hands the result to the person as a file. */
export function download(result) {
  const blob = new Blob([JSON.stringify(result, null, 1)], { type: "application/json" });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  const name = result.device.name.replace(/[^A-Za-z0-9]+/g, "-").replace(/^-|-$/g, "");
  link.download = `proof-${name || "device"}.json`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
