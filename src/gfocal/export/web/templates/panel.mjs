// What is shown of detections: the list, the numbers of one of them, the status line.

const canvas = get("picture"), svg = get("boxes"), stage = get("stage");
const pen = canvas.getContext("2d", { willReadFrequently: true });
const LISTED = 200; // rows of the list: more do not help anybody
const state = {
  found: [], // all above the threshold of the file, best first
  shown: false, // there is a picture
  selected: null, // row, looked at
  pinned: false, // by a click: it stays
  ms: 0,
  where: "",
  camera: null, // its stream
};

const threshold = () => Number(get("threshold").value);
const visible = () => state.found.filter((one) => one.score > threshold());
const digits = (value) => value.toFixed(1);
const percent = (share) => `${(100 * share).toFixed(share < 0.095 ? 1 : 0)} %`;
const sentence = (text) => text && text[0].toUpperCase() + text.slice(1);
const say = (text) => (get("status").textContent = sentence(text));

function complain(text) {
  get("problem").textContent = sentence(text);
  get("problem").hidden = !text;
}

const busy = (yes) => stage.setAttribute("aria-busy", String(yes));

function showWhere({ where, note }) {
  state.where = where;
  get("where").textContent = where;
  if (note) get("where-note").textContent = ` – ${note}`;
  if (state.found.length) showStatus();
}

/** Make the picture as large as its place allows; small ones are enlarged. */
function fit() {
  if (!state.shown) return;
  const room = stage.parentElement.clientWidth, most = Math.max(240, 0.68 * window.innerHeight);
  const scale = Math.min(room / canvas.width, most / canvas.height);
  stage.style.width = `${Math.round(canvas.width * scale)}px`;
  stage.style.height = `${Math.round(canvas.height * scale)}px`;
}

function show({ found, ms }) {
  Object.assign(state, { found, ms, selected: null, pinned: false });
  render();
  document.dispatchEvent(new CustomEvent("found", { detail: { found, ms } })); // for whoever builds on this page
}

function showStatus() {
  const count = visible().length, all = state.found.length;
  const what = count === 1 ? "1 object" : `${count} objects`;
  const more = all > count ? `, ${all - count} more below it` : "";
  const time = `${state.ms.toFixed(0)} ms by ${state.where}`;
  if (count) say(`${what} above ${threshold().toFixed(2)}${more} · ${time}`);
  else if (all) say(`nothing is found above ${threshold().toFixed(2)}: lower the threshold to see ${all} weaker ones · ${time}`);
  else say(`nothing is found on this picture · ${time}`);
}

function render() {
  const found = visible();
  if (state.selected !== null && state.selected >= found.length) Object.assign(state, { selected: null, pinned: false });
  paint(found);
  showList(found);
  showNumbers(found);
  if (state.shown && state.ms) showStatus();
}

function paint(found) {
  const scale = stage.clientWidth / canvas.width;
  drawBoxes(svg, found, { scale, names: info.names, colours, selected: state.selected, endsOf });
  svg.classList.toggle("one", state.selected !== null);
  const counts = new Map();
  for (const one of found) counts.set(one.label, (counts.get(one.label) ?? 0) + 1);
  const words = [...counts].map(([name, count]) => `${count} ${info.names[name]}`).join(", ");
  svg.setAttribute("aria-label", state.shown ? `Found: ${words || "nothing"}` : "No picture yet");
}

/** Where the edges of a detection may lie, as the bars show it: [[low, high], ...], null for no bars. */
function endsOf({ box, std, interval }) {
  const what = get("bands")?.value ?? "0", times = Number(what);
  if (what === "interval") return interval;
  return std && times ? box.map((edge, i) => [edge - times * std[i], edge + times * std[i]]) : null;
}

function showList(found) {
  const list = get("list");
  if (list.children.length > found.length) [...list.children].slice(Math.min(found.length, LISTED)).forEach((row) => row.remove());
  found.slice(0, LISTED).forEach((one, row) => {
    const item = list.children[row] ?? list.appendChild(newRow(row));
    const [button] = item.children, [swatch, name, score] = button.children;
    swatch.style.background = colours[one.label][0];
    name.textContent = info.names[one.label];
    score.textContent = one.score.toFixed(2);
    button.setAttribute("aria-pressed", String(row === state.selected));
  });
  get("more").textContent = found.length > LISTED ? `and ${found.length - LISTED} more` : "";
  get("none").hidden = found.length > 0;
}

function newRow(row) {
  const item = document.createElement("li"), button = document.createElement("button");
  button.type = "button";
  button.dataset.row = row;
  for (const kind of ["swatch", "name", "score"]) {
    const part = document.createElement("span");
    part.className = kind;
    button.append(part);
  }
  item.append(button);
  return item;
}

/** Class, score and edges of the one that is looked at. */
function showNumbers(found) {
  const one = state.selected === null ? null : found[state.selected], box = get("numbers");
  box.hidden = !one;
  if (!one) return;
  const [x1, y1, x2, y2] = one.box;
  get("numbers-name").textContent = `${info.names[one.label]}, score ${one.score.toFixed(3)}`;
  get("numbers-size").textContent = `${digits(x2 - x1)} × ${digits(y2 - y1)} px`;
  const right = get("numbers-chance");
  if (right) right.textContent = info.calibration.scores.rule === "iou" ? `expected IoU ${one.chance.toFixed(2)}` : `right in ${percent(one.chance)} of such cases`;
  EDGES.forEach((edge, i) => {
    get(`edge-${edge}`).textContent = digits(one.box[i]);
    const spread = get(`std-${edge}`);
    if (spread) spread.textContent = one.std ? `± ${digits(one.std[i])}` : "";
    const interval = get(`interval-${edge}`);
    if (interval) interval.textContent = one.interval[i].map(digits).join(" – ");
  });
}

function select(row, pin) {
  if (state.pinned && !pin) return;
  if (pin && state.pinned && row === state.selected) row = null; // a second click lets go
  if (row === state.selected && !pin) return;
  Object.assign(state, { selected: row, pinned: pin && row !== null });
  const found = visible();
  paint(found);
  showList(found);
  showNumbers(found);
}

const rowOf = (event) => {
  const element = event.target.closest?.("[data-row]");
  return element ? Number(element.dataset.row) : null;
};

for (const place of [svg, get("list")]) {
  place.addEventListener("pointermove", (event) => event.pointerType === "mouse" && select(hit(event), false));
  place.addEventListener("pointerleave", () => select(null, false));
  place.addEventListener("click", (event) => select(hit(event), true));
}
get("list").addEventListener("focusin", (event) => select(rowOf(event), false));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") Object.assign(state, { pinned: false }), select(null, false);
});

/** Of boxes that lie over each other the smallest: a large one around it would hide it for ever. */
function hit(event) {
  if (event.currentTarget !== svg) return rowOf(event);
  const area = svg.getBoundingClientRect(), scale = stage.clientWidth / canvas.width;
  const x = (event.clientX - area.left) / scale, y = (event.clientY - area.top) / scale, reach = 4 / scale;
  let best = null, least = Infinity;
  visible().forEach(({ box: [x1, y1, x2, y2] }, row) => {
    const size = (x2 - x1) * (y2 - y1);
    if (x >= x1 - reach && x <= x2 + reach && y >= y1 - reach && y <= y2 + reach && size < least) [best, least] = [row, size];
  });
  return best;
}

get("threshold").addEventListener("input", () => {
  get("threshold-value").textContent = threshold().toFixed(2);
  render();
});
get("bands")?.addEventListener("change", render);
new ResizeObserver(() => (fit(), paint(visible()))).observe(stage.parentElement);
