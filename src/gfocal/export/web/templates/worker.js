// The worker: it holds the network, so that the page answers while that computes.

let ort, detect, info, model;
const sessions = {}; // by name of the provider
let chosen; // provider; undefined until one image was seen, where there are two

const tell = (type, more = {}) => self.postMessage({ type, ...more });
const load = (code) => import(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
const create = (provider) =>
  ort.InferenceSession.create(model, { executionProviders: [provider], logSeverityLevel: 3 });

async function start(message) {
  ({ info, model } = message);
  ort = await load(message.script);
  ({ detect } = await load(message.detector));
  ort.env.logLevel = "error";
  ort.env.wasm.wasmBinary = message.wasm;
  // Threads need memory that is shared, which browsers give to isolated pages alone.
  ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(4, navigator.hardwareConcurrency || 1) : 1;
  let note = "";
  // This build holds one runtime for both, and WebGPU has to be asked for first.
  const wanted = await adapter();
  if (wanted === "") {
    try {
      sessions.webgpu = await create("webgpu");
    } catch (error) {
      note = `WebGPU is here but does not run this network (${words(error)})`;
    }
  } else note = wanted;
  sessions.wasm = await create("wasm");
  if (!sessions.webgpu) chosen = "wasm";
  model = null;
  tell("ready", { where: where(), note });
}

/** "" where there is a graphics adapter, else why not. */
async function adapter() {
  if (!navigator.gpu) return "this browser has no WebGPU";
  try {
    return (await navigator.gpu.requestAdapter()) ? "" : "WebGPU finds no graphics adapter";
  } catch (error) {
    return `WebGPU fails (${words(error)})`;
  }
}

const words = (error) => String(error?.message ?? error).split("\n")[0].slice(0, 160);

function where() {
  const threads = ort.env.wasm.numThreads;
  if (chosen === "webgpu") return "WebGPU";
  return `WebAssembly (SIMD, ${threads} thread${threads === 1 ? "" : "s"})`;
}

async function timed(provider, image) {
  const began = performance.now();
  const found = await detect(ort, sessions[provider], info, image);
  return { found, ms: performance.now() - began };
}

/** The first image is looked at by both: WebGPU is taken if it finds the same, and sooner. */
async function choose(image) {
  const usual = await timed("wasm", image);
  try {
    const first = await timed("webgpu", image); // with the time to compile its programs
    const second = await timed("webgpu", image);
    const apart = difference(usual.found, first.found, info);
    const ratio = (second.ms / usual.ms).toFixed(1);
    if (apart) chosen = drop(`WebGPU finds something else than WebAssembly on this machine (${apart})`);
    else if (second.ms >= usual.ms) chosen = drop(`WebGPU takes ${ratio} times as long as WebAssembly here`);
    else {
      chosen = "webgpu";
      return second;
    }
  } catch (error) {
    chosen = drop(`WebGPU fails (${words(error)})`);
  }
  return usual;
}

function drop(note) {
  sessions.webgpu?.release?.().catch(() => {});
  delete sessions.webgpu;
  tell("where", { where: (chosen = "wasm") && where(), note });
  return "wasm";
}

/** What two lists of detections disagree about, of those clearly above the threshold; "" for nothing. */
function difference(usual, other, info) {
  const sure = usual.filter((one) => one.score > Math.max(0.2, 2 * info.thresholds.score_threshold));
  for (const one of sure) {
    const near = (two) => two.label === one.label && Math.abs(two.score - one.score) < 0.02 &&
      two.box.every((edge, i) => Math.abs(edge - one.box[i]) < 0.02 * (one.box[2] - one.box[0] + one.box[3] - one.box[1]));
    if (!other.some(near)) return `a box of score ${one.score.toFixed(2)} is missing`;
  }
  return "";
}

async function run({ id, image }) {
  let found;
  if (chosen === undefined) {
    found = await choose(image);
    tell("where", { where: where() });
  } else {
    try {
      found = await timed(chosen, image);
    } catch (error) {
      if (chosen !== "webgpu") throw error;
      chosen = drop(`WebGPU stopped (${words(error)})`);
      found = await timed(chosen, image);
    }
  }
  tell("found", { id, ...found });
}

let before = Promise.resolve();
self.onmessage = ({ data }) => {
  before = before.then(() => (data.type === "start" ? start(data) : run(data))).catch((error) => {
    tell(data.type === "start" ? "dead" : "failed", { id: data.id, message: words(error) });
  });
};
