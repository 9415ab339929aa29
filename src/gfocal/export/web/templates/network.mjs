// The network: unpacked from this file, run by a worker.

const get = (id) => document.getElementById(id);
const { info, colours } = JSON.parse(get("about-data").textContent);
let worker, ready, number = 0;
const waiting = new Map(); // id of an image -> what to do with its detections

async function unpack(id) {
  const element = get(id), text = element.textContent.trim();
  element.remove(); // its text is not needed twice
  const packed = Uint8Array.fromBase64
    ? Uint8Array.fromBase64(text)
    : Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function missing() {
  if (typeof WebAssembly !== "object") return "WebAssembly";
  if (typeof DecompressionStream !== "function") return "DecompressionStream";
  if (typeof BigInt64Array !== "function") return "BigInt";
  return null;
}

async function startWorker() {
  if (missing()) throw new Error(`this browser is too old: it has no ${missing()}. Any of 2023 or later will do`);
  const [script, wasm, model, code, detector] = await Promise.all(["ort-script", "ort-wasm", "model", "worker", "detector"].map(unpack));
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  worker = new Worker(address); // no module: of a page that a double click opened, Chromium takes classic ones alone
  return new Promise((resolve, reject) => {
    worker.onerror = (event) => {
      const error = new Error(event.message || "the browser does not start a worker, or ended it");
      reject(error);
      for (const job of waiting.values()) job.reject(error);
      waiting.clear();
    };
    worker.onmessage = ({ data }) => {
      if (data.type === "ready") resolve(data);
      else if (data.type === "dead") reject(new Error(data.message));
      else answer(data);
    };
    worker.postMessage({ type: "start", script, detector, wasm, model, info }, [wasm.buffer, model.buffer]);
  });
}

function answer(data) {
  if (data.type === "where") return showWhere(data);
  const job = waiting.get(data.id);
  waiting.delete(data.id);
  if (data.type === "failed") job?.reject(new Error(data.message));
  else job?.resolve(data);
}

/** What is found on an image: { found, ms }. */
async function lookAt({ data, width, height }) {
  await ready;
  const id = ++number;
  return new Promise((resolve, reject) => {
    waiting.set(id, { resolve, reject });
    worker.postMessage({ type: "run", id, image: { data, channels: 4, width, height } }, [data.buffer]);
  });
}
