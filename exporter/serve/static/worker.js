// A classic worker, because LiteRT.js loads its WebAssembly with importScripts. Everything that
// takes time happens here, so that the page stays awake. Requests: {id, call, ...}; answers:
// {id, value} or {id, error}.

const WASM = "/litert/wasm/";
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

  /** The milliseconds of single runs: at least `least`, then until `seconds` or `most`. */
  async time({ pixels, warmup, least, most, seconds }) {
    for (let run = 0; run < warmup; run += 1) await infer(pixels);
    const times = [];
    const end = performance.now() + 1000 * seconds;
    while (times.length < most && (times.length < least || performance.now() < end)) {
      const started = performance.now();
      await infer(pixels);
      times.push(performance.now() - started);
    }
    return times;
  },
};

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
