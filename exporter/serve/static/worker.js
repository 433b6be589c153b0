// A classic worker, because LiteRT.js loads its WebAssembly with importScripts. Everything that
// takes time happens here, so that the page stays awake. Requests: {id, call, ...}; answers:
// {id, value} or {id, error}.

const WASM = "/litert/wasm/";
const STEPS = 20;
const MOST_IN_GROUP = 1024;
let library;
let photo;
let model;
let input;

function quietly(work) {
  const { warn } = console;
  // It looks for a GPU that nobody asked for, and warns where there is none.
  console.warn = (...words) => {
    if (!String(words[0]).includes("WebGPU")) warn(...words);
  };
  return work().finally(() => {
    console.warn = warn;
  });
}

const calls = {
  /** Loads LiteRT.js; {threads} that it will use. */
  async start({ threads }) {
    [library, photo] = await Promise.all([import("/litert/core.js"), import("/static/photo.js")]);
    const simd = await library.supportsFeature("relaxedSimd");
    const threaded = threads > 1 && simd && (await library.supportsFeature("threads"));
    const variant = threaded ? "threaded_" : simd ? "" : "compat_";
    const script = new URL(`${WASM}litert_wasm_${variant}internal.js`, self.location).href;
    self.Module = {
      mainScriptUrlOrBlob: script,
      locateFile: (name) => new URL(WASM + name, self.location).href,
      print: () => {},
      printErr: () => {},
    };
    await quietly(() => library.loadLiteRt(WASM, { threads: threaded }));
    return { threads: threaded ? threads : 1, variant, script };
  },

  /** Compiles a .tflite file; what it takes and gives. */
  async load({ bytes, threads }) {
    input?.delete();
    model?.delete();
    input = model = undefined;
    const options = { accelerator: "wasm", cpuOptions: { numThreads: threads } };
    model = await library.loadAndCompile(bytes, options);
    const [given] = model.getInputDetails();
    const [made] = model.getOutputDetails();
    const about = ({ dtype, shape }) => ({ dtype, shape: Array.from(shape) });
    return { input: about(given), output: about(made) };
  },

  async picture({ blob, exif }) {
    return photo.openPicture(blob, exif);
  },

  async square({ blob, rule }) {
    return photo.openSquare(blob, rule);
  },

  async run({ pixels }) {
    const started = performance.now();
    const probabilities = await infer(pixels);
    return { probabilities, ms: performance.now() - started };
  },

  /**
   * {times, group}: milliseconds of one run, at least `least` of them, then until `seconds` or
   * `most`. Where the clock is coarse (100 us on a page that is not isolated, 1 ms in some
   * browsers) each of them is the mean of a group of runs that it can measure.
   */
  async time({ pixels, warmup, least, most, seconds }) {
    for (let run = 0; run < warmup; run += 1) await infer(pixels);
    const group = await groupFor(pixels);
    const times = [];
    const end = performance.now() + 1000 * seconds;
    while (times.length < most && (times.length < least || performance.now() < end)) {
      times.push(await timed(pixels, group));
    }
    return { times, group };
  },
};

/** The milliseconds that one of `runs` runs takes. */
async function timed(pixels, runs) {
  const started = performance.now();
  for (let run = 0; run < runs; run += 1) await infer(pixels);
  return (performance.now() - started) / runs;
}

/** The smallest step of the clock, in milliseconds. */
function clockStep() {
  let least = Infinity;
  for (let round = 0; round < 5; round += 1) {
    const before = performance.now();
    let after = before;
    while (after === before) after = performance.now();
    least = Math.min(least, after - before);
  }
  return least;
}

/** How many runs take so long that the clock's step is a twentieth of it at most. */
async function groupFor(pixels) {
  const wanted = STEPS * clockStep();
  let runs = 1;
  let one = await timed(pixels, runs);
  while (one * runs < wanted && runs < MOST_IN_GROUP) {
    runs *= 2;
    one = await timed(pixels, runs);
  }
  return runs;
}

async function infer(pixels) {
  const tensor = new library.Tensor(pixels, model.getInputDetails()[0].shape);
  let made = [];
  try {
    made = await model.run(tensor);
    return made[0].toTypedArray().slice();
  } finally {
    tensor.delete();
    made.forEach((one) => one.delete());
  }
}

self.onmessage = async ({ data }) => {
  try {
    self.postMessage({ id: data.id, value: await calls[data.call](data) });
  } catch (error) {
    self.postMessage({ id: data.id, error: String(error?.message ?? error) });
  }
};
