// The page: pictures and the camera in, boxes and their numbers out. network.mjs, boxes.mjs and panel.mjs stand before
// this text.

const video = document.createElement("video");
const FASTEST = 40; // ms between two images of the camera, at least
const MOST_PIXELS = 64e6; // of a picture: its bytes are held several times

let turn = 0; // of what was asked for last: what comes late for an earlier one is dropped

class Problem extends Error {}

// ---- pictures ----

async function decode(file) {
  if (file.type.startsWith("video/")) throw new Problem(`“${short(file.name, 60)}” is a film: give a picture`);
  try {
    // As stored: the detector was trained on such values. Turned as its EXIF data say.
    return await createImageBitmap(file, { colorSpaceConversion: "none", premultiplyAlpha: "none", imageOrientation: "from-image" });
  } catch {
    const what = file.size === 0 ? "is empty" : "is no picture that this browser can read";
    throw new Problem(`“${short(file.name || "what was dropped", 60)}” ${what}: JPEG, PNG and WebP work everywhere`);
  }
}

async function showPicture(file) {
  stopCamera();
  complain("");
  busy(true);
  const own = ++turn;
  try {
    const bitmap = await decode(file);
    if (own !== turn) return;
    const { width, height } = bitmap;
    if (width * height > MOST_PIXELS) {
      bitmap.close();
      throw new Problem(`the picture has ${width} × ${height} pixels: at most ${MOST_PIXELS / 1e6} million`);
    }
    put(bitmap, width, height);
    bitmap.close();
    say("looking …");
    const found = await lookAt(pen.getImageData(0, 0, width, height));
    if (own !== turn) return;
    show(found);
  } catch (error) {
    if (own !== turn) return;
    complain(error instanceof Problem ? error.message : `the picture could not be looked at: ${error.message}`);
    if (!state.found.length) say("");
  }
  busy(false);
}

function put(source, width, height) {
  canvas.width = width;
  canvas.height = height;
  pen.drawImage(source, 0, 0, width, height);
  Object.assign(state, { found: [], ms: 0, selected: null, pinned: false, shown: true });
  stage.classList.add("filled");
  fit();
  render();
}

function fromTransfer(transfer) {
  const file = [...(transfer?.files ?? [])][0];
  if (file) showPicture(file);
  else complain("that was no file: drop a picture from this device (one that is dragged out of another page may come as an address)");
}

// ---- the camera ----

const REFUSED = {
  NotAllowedError: "the camera was refused: allow it for this page in the browser's address bar, then open it again",
  NotFoundError: "there is no camera on this device",
  NotReadableError: "another program uses the camera: close that, then open it again",
};

async function startCamera() {
  complain("");
  if (!navigator.mediaDevices?.getUserMedia) {
    return complain("this browser gives no camera to this page: serve the folder (python -m http.server) and open http://localhost:8000");
  }
  const own = turn;
  try {
    const stream = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" }, audio: false });
    if (own !== turn) return stream.getTracks().forEach((track) => track.stop()); // a picture came meanwhile
    turn++;
    state.camera = stream;
    get("status").setAttribute("aria-live", "off"); // or it is read out for every image
    busy(false);
    stream.getVideoTracks()[0].addEventListener("ended", () => (stopCamera(), complain("the camera was taken away")));
    Object.assign(video, { srcObject: stream, muted: true, playsInline: true });
    await video.play();
    get("camera").textContent = "Stop the camera";
    get("camera").setAttribute("aria-pressed", "true");
    watch(stream);
  } catch (error) {
    stopCamera();
    complain(REFUSED[error.name] ?? `the camera does not start: ${error.message}`);
  }
}

/** Each image is shown together with what was found on it: boxes never trail behind. */
async function watch(stream) {
  const frame = document.createElement("canvas"), own = frame.getContext("2d", { willReadFrequently: true });
  while (state.camera === stream) {
    const began = performance.now(), { videoWidth: width, videoHeight: height } = video;
    if (width && height) {
      if (frame.width !== width || frame.height !== height) Object.assign(frame, { width, height });
      own.drawImage(video, 0, 0);
      try {
        const found = await lookAt(own.getImageData(0, 0, width, height));
        if (state.camera !== stream) return;
        put(frame, width, height);
        show(found);
      } catch (error) {
        stopCamera();
        return complain(`the camera's image could not be looked at: ${error.message}`);
      }
    }
    await new Promise((go) => setTimeout(go, Math.max(0, FASTEST - (performance.now() - began))));
  }
}

function stopCamera() {
  get("status").setAttribute("aria-live", "polite");
  for (const track of state.camera?.getTracks() ?? []) track.stop();
  state.camera = video.srcObject = null;
  get("camera").textContent = "Open the camera";
  get("camera").setAttribute("aria-pressed", "false");
}

// ---- what people do ----

get("file").addEventListener("change", ({ target }) => {
  if (target.files[0]) showPicture(target.files[0]);
  target.value = ""; // or the same file could not be chosen twice
});
get("choose").addEventListener("click", () => get("file").click());
get("camera").addEventListener("click", () => (state.camera ? stopCamera() : startCamera()));
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => (event.preventDefault(), stage.classList.add("over")));
}
document.addEventListener("dragleave", (event) => event.relatedTarget || stage.classList.remove("over"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  stage.classList.remove("over");
  fromTransfer(event.dataTransfer);
});
document.addEventListener("paste", ({ clipboardData }) => {
  if (clipboardData?.files.length) fromTransfer(clipboardData);
});

say("starting …");
ready = startWorker();
ready.then(
  (data) => {
    showWhere(data);
    document.documentElement.dataset.ready = "yes";
    if (!state.shown) say("ready: give a picture, or open the camera");
  },
  (error) => {
    document.documentElement.dataset.ready = "no";
    say("");
    const hint = location.protocol === "file:" ? ". If the page came whole, serve its folder: python -m http.server" : "";
    complain(`the detector does not start: ${error.message}${hint}`);
  },
);
