// Boxes over the picture: an SVG in the pixels of the screen, so that lines and text are as thick at any zoom.

const SVG = "http://www.w3.org/2000/svg";
const EDGES = ["left", "top", "right", "bottom"];
const NARROW = 500; // pixels: of pictures that are not wider, labels are smaller
const LEAST = 2; // pixels of the screen: a bar that is shorter cannot be told from the line

function shape(name, attributes, parent) {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  parent?.append(element);
  return element;
}

/** The band of each edge: between the two ends of where it may lie, along all of it. */
function bands(box, ends) {
  const [x1, y1, x2, y2] = box;
  return ends.map(([low, high], i) =>
    i % 2 ? { x: x1, y: low, width: x2 - x1, height: high - low } : { x: low, y: y1, width: high - low, height: y2 - y1 },
  );
}

/** An error bar across the middle of each edge that is long enough to be seen, as `gfocal predict` draws them. */
function errorBars(box, ends) {
  const [x1, y1, x2, y2] = box, sides = [x2 - x1, y2 - y1], middle = [(x1 + x2) / 2, (y1 + y2) / 2];
  let path = "";
  ends.forEach(([low, high], i) => {
    const axis = i % 2, cap = Math.min(5, 0.2 * sides[1 - axis]);
    if (!((high - low) / 2 > Math.max(0.02 * sides[axis], LEAST))) return;
    const place = (along, across) => {
      const at = [along, middle[1 - axis] + across];
      return (axis ? at.reverse() : at).map((value) => value.toFixed(1)).join(" ");
    };
    path += `M${place(low, 0)}L${place(high, 0)}`;
    for (const end of [low, high]) path += `M${place(end, -cap)}L${place(end, cap)}`;
  });
  return path;
}

const measure = document.createElement("canvas").getContext("2d");

function textWidth(text, size) {
  measure.font = `600 ${size}px system-ui, sans-serif`;
  return measure.measureText(text).width;
}

const overlap = (a, b) =>
  Math.max(0, Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x)) *
  Math.max(0, Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y));

/** Where a label has room: above its box, else inside at the top; null where both lie on labels that are there. */
function labelPlace(box, width, height, limits, taken) {
  const [x1, y1] = box;
  const x = Math.max(0, Math.min(x1 - 1, limits.width - width));
  for (const y of [y1 - height, y1, y1 + height]) {
    const place = { x, y, width, height };
    const fits = y >= 0 && y + height <= limits.height;
    if (fits && !taken.some((other) => overlap(place, other) > 0.05 * width * height)) return place;
  }
  return null;
}

/** Draw the boxes, best last so that it lies on top. Each group has its row as `data-row`; `endsOf`: where edges may lie. */
function drawBoxes(svg, found, { scale, endsOf, names, colours, selected }) {
  const limits = { width: svg.clientWidth, height: svg.clientHeight }, taken = [];
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${limits.width} ${limits.height}`);
  const groups = found.map((one, row) => {
    const box = one.box.map((edge) => edge * scale), colour = colours[one.label][0];
    const group = shape("g", { "data-row": row, class: row === selected ? "box selected" : "box" });
    const frame = { x: box[0], y: box[1], width: box[2] - box[0], height: box[3] - box[1] };
    shape("rect", { ...frame, class: "halo" }, group);
    shape("rect", { ...frame, stroke: colour, class: "line" }, group);
    const ends = endsOf(one)?.map((pair) => pair.map((end) => end * scale));
    if (ends) drawEdges(group, box, ends, colour, row === selected);
    return group;
  });
  svg.append(...groups.reverse());
  const own = svg.querySelector(".selected");
  if (own) svg.append(own);
  // Labels lie on top of all lines; those of the best come first, and get the room.
  const order = found.map((_, row) => row);
  if (selected !== null && selected < found.length) order.unshift(...order.splice(selected, 1));
  for (const row of order) {
    const own = { box: found[row].box.map((edge) => edge * scale), row, selected: row === selected };
    label(svg, found[row], own, { names, colours, limits, taken });
  }
}

function drawEdges(group, box, ends, colour, all) {
  if (all) for (const band of bands(box, ends)) group.prepend(shape("rect", { ...band, fill: colour, class: "band" }));
  const d = errorBars(box, ends);
  if (!d) return;
  shape("path", { d, class: "halo" }, group);
  shape("path", { d, stroke: colour, class: "line" }, group);
}

function label(svg, one, { box, row, selected }, { names, colours, limits, taken }) {
  const size = limits.width > NARROW ? 13 : 11, height = size + 6;
  const text = `${short(names[one.label], 28)} ${one.score.toFixed(2)}`, width = textWidth(text, size) + 10;
  let place = labelPlace(box, width, height, limits, taken);
  if (!place && !selected) return;
  place ??= { x: Math.max(0, Math.min(box[0], limits.width - width)), y: Math.max(0, box[1]), width, height };
  taken.push(place);
  const [ground, ink] = colours[one.label];
  const group = shape("g", { "data-row": row, class: selected ? "box selected" : "box" }, svg);
  shape("rect", { ...place, fill: ground, rx: 2 }, group);
  shape("text", { x: place.x + 5, y: place.y + size + 0.5, fill: ink, "font-size": size }, group).textContent = text;
}

const short = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);
