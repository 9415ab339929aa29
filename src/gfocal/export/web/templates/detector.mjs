// What is to be done around a file of `gfocal export --nms out`: resize before it, suppress after it, as gfocal does.
// For browsers and Node; nothing is imported. Written by gfocal, Apache-2.0.

export const METHOD = "bilinear with antialiasing, 8 bits"; // of `resize`, as `info.resize` names it
export const MULTIPLE = 32; // height and width of what enters the network are multiples of this
const MOST_BITS = 22; // of a weight: 255 times their sum fits 32 bits

/** [height, width] that an image gets by the rule `info.resize`; another rule than those here is an error. */
export function targetSize(rule, height, width) {
  if (rule.kind === "square") return [rule.size, rule.size];
  if (rule.kind !== "short_long") {
    throw new Error(`the file wants images resized by "${rule.kind}", and this module knows square and short_long`);
  }
  const scale = Math.min(rule.short_side / Math.min(height, width), rule.long_side / Math.max(height, width));
  return [Math.max(1, Math.trunc(height * scale + 0.5)), Math.max(1, Math.trunc(width * scale + 0.5))];
}

/** RGB bytes of an image in another size, bilinear with antialiasing in whole numbers, bit for bit as gfocal resizes. */
export function resize({ data, channels, height, width }, [newHeight, newWidth]) {
  const rows = along(data, channels, height, width, newWidth);
  return columns(rows, height, newWidth, newHeight);
}

function along(data, channels, height, width, wanted) {
  const out = new Uint8Array(height * wanted * 3);
  const { first, weights, taps, bits } = width === wanted ? identity(wanted) : tapsOf(width, wanted);
  const half = 1 << Math.max(bits - 1, 0);
  for (let y = 0, to = 0; y < height; y++) {
    for (let x = 0; x < wanted; x++, to += 3) {
      let red = half, green = half, blue = half;
      for (let t = 0, at = (y * width + first[x]) * channels; t < taps[x]; t++, at += channels) {
        const weight = weights[x][t];
        red += weight * data[at];
        green += weight * data[at + 1];
        blue += weight * data[at + 2];
      }
      out[to] = byte(red >> bits);
      out[to + 1] = byte(green >> bits);
      out[to + 2] = byte(blue >> bits);
    }
  }
  return out;
}

function columns(data, height, width, wanted) {
  if (height === wanted) return data;
  const row = width * 3, out = new Uint8Array(wanted * row), total = new Int32Array(row);
  const { first, weights, taps, bits } = tapsOf(height, wanted);
  for (let y = 0; y < wanted; y++) {
    total.fill(1 << Math.max(bits - 1, 0));
    for (let t = 0, at = first[y] * row; t < taps[y]; t++, at += row) {
      const weight = weights[y][t];
      for (let i = 0; i < row; i++) total[i] += weight * data[at + i];
    }
    for (let i = 0, to = y * row; i < row; i++) out[to + i] = byte(total[i] >> bits);
  }
  return out;
}

const byte = (value) => (value < 0 ? 0 : value > 255 ? 255 : value);

function identity(size) {
  const weights = new Array(size).fill([2]); // in halves, since half a unit is added before the bits are cut off
  return { first: weights.map((_, i) => i), weights, taps: new Array(size).fill(1), bits: 1 };
}

/** Which pixels of `size` each new one is made of: the first, how many, and their weights as whole numbers of 2^bits. */
function tapsOf(size, wanted) {
  const scale = size / wanted, support = Math.max(scale, 1), first = [], taps = [], shares = [];
  let largest = 0;
  for (let i = 0; i < wanted; i++) {
    const centre = scale * (i + 0.5);
    const from = Math.max(Math.trunc(centre - support + 0.5), 0);
    const until = Math.min(Math.trunc(centre + support + 0.5), size);
    const own = [];
    let sum = 0;
    for (let place = from; place < until; place++) {
      const share = Math.max(1 - Math.abs((place - centre + 0.5) / support), 0);
      own.push(share);
      sum += share;
    }
    first.push(from);
    taps.push(own.length);
    shares.push(own.map((share) => share / sum));
    largest = Math.max(largest, ...shares[i]);
  }
  let bits = 0;
  while (bits < MOST_BITS && Math.trunc(0.5 + largest * 2 ** (bits + 1)) < 1 << 15) bits++;
  const weights = shares.map((own) => own.map((share) => Math.trunc(0.5 + share * 2 ** bits)));
  return { first, weights, taps, bits };
}

/** Rows that stay of N boxes (xyxy, best score first), best first: the greedy suppression of gfocal. */
export function suppress(boxes, labels, count, { iou, limit, classAgnostic }) {
  const area = (i) => (boxes[4 * i + 2] - boxes[4 * i]) * (boxes[4 * i + 3] - boxes[4 * i + 1]);
  const gone = new Uint8Array(count), kept = [];
  for (let i = 0; i < count && kept.length < limit; i++) {
    if (gone[i]) continue;
    kept.push(i);
    for (let j = i + 1; j < count; j++) {
      if (gone[j] || (!classAgnostic && labels[j] !== labels[i])) continue;
      const width = Math.min(boxes[4 * j + 2], boxes[4 * i + 2]) - Math.max(boxes[4 * j], boxes[4 * i]);
      const height = Math.min(boxes[4 * j + 3], boxes[4 * i + 3]) - Math.max(boxes[4 * j + 1], boxes[4 * i + 1]);
      const shared = Math.max(width, 0) * Math.max(height, 0);
      if (shared > iou * (area(j) + area(i) - shared)) gone[j] = 1;
    }
  }
  return kept;
}

/** The inputs of the graph for one image: it is resized and put at the top left of what fills the network's size. */
export function inputs(info, image) {
  if (info.resize.method !== METHOD) {
    throw new Error(`the file wants images resized "${info.resize.method}", and this module does it "${METHOD}"`);
  }
  const [height, width] = targetSize(info.resize, image.height, image.width);
  const full = (fixed, side) => fixed ?? Math.ceil(side / MULTIPLE) * MULTIPLE;
  const dims = [info.batch ?? 1, full(info.height, height), full(info.width, width), 3];
  if (height > dims[1] || width > dims[2]) {
    throw new Error(`the image becomes ${width}x${height} pixels, and the file takes ${dims[2]}x${dims[1]}`);
  }
  const images = new Uint8Array(dims.reduce((product, side) => product * side));
  for (let at = 0; at < images.length; at += 3) images.set(info.resize.fill, at);
  const small = resize(image, [height, width]);
  for (let y = 0; y < height; y++) images.set(small.subarray(y * width * 3, (y + 1) * width * 3), y * dims[2] * 3);
  const sizes = new BigInt64Array(2 * dims[0]).fill(BigInt(MULTIPLE));
  sizes.set([BigInt(height), BigInt(width)]);
  return { images, dims, sizes, size: [height, width] };
}

/**
 * Detections of the first image in its own pixels, best first: [{ label, score, box: [x1, y1, x2, y2], std }].
 *
 * Of a calibrated detector also `interval`, the lowest and highest position of left, top, right and bottom at the level
 * `info.calibration.level`, and `chance`, the calibrated score.
 */
export function detections(outputs, info, size, image) {
  const boxes = outputs.boxes.data, scores = outputs.scores.data, std = outputs.edge_std?.data;
  const labels = Array.from(outputs.labels.data, Number), count = Number(outputs.count.data[0]);
  const { nms_iou: iou, max_detections: limit, class_agnostic: classAgnostic } = info.thresholds;
  const kept = info.nms === "in"
    ? Array.from({ length: count }, (_, i) => i)
    : suppress(boxes, labels, count, { iou, limit, classAgnostic });
  const scale = [image.width / size[1], image.height / size[0]].map(Math.fround);
  const edge = (values, row, i) => Math.fround(values[4 * row + i] * scale[i % 2]);
  const inside = (value, i) => Math.min(Math.max(value, 0), i % 2 ? image.height : image.width);
  const found = kept.map((row) => ({
    label: labels[row],
    score: scores[row],
    box: [0, 1, 2, 3].map((i) => inside(edge(boxes, row, i), i)),
    std: std ? [0, 1, 2, 3].map((i) => edge(std, row, i)) : null,
  }));
  if (!info.calibration || calibrationMisfit(info)) return found;
  const levels = outputs.levels?.data, probs = outputs.edge_probs?.data, bins = probs && probs.length / boxes.length;
  return found.map((one, i) => {
    const row = kept[i], level = levels && Number(levels[row]);
    const spread = probs && [0, 1, 2, 3].map((k) => Array.from(probs.subarray((4 * row + k) * bins, (4 * row + k + 1) * bins)));
    return { ...one, interval: edgeIntervals(info, { ...one, level, probs: spread }, image), chance: chance(info, one.score) };
  });
}

// ---- what `gfocal calibrate` found out, as gfocal/calibration has it ----

const LEVELS = [...Array.from({ length: 99 }, (_, i) => (i + 1) / 100), 0.995, 0.999];
const AXES = ["edge_std", "score", "aspect", "size"];

/** Why `info.calibration` does not hold where whole images are looked at; "" where it does. */
export function calibrationMisfit(info) {
  const own = info.calibration;
  if (!own) return "the detector is not calibrated";
  return own.tile === null ? "" : `it was calibrated on tiles of ${own.tile} pixels, and this looks at whole pictures`;
}

/**
 * Where each edge of a detection lies: [[low, high], ...] of left, top, right and bottom, in pixels of the image.
 *
 * `one` is { label, score, box, std, level, probs }: the last three as far as the calibration looks at them (level of the
 * pyramid; the probabilities of each edge's bins). `wholeBox`: all four edges together, not each by itself.
 */
export function edgeIntervals(info, one, image, { level = info.calibration.level, wholeBox = false } = {}) {
  const { groups, scale } = info.calibration.edges, names = info.calibration.names ?? info.names;
  const last = groups.length - 1, own = groups.findIndex((group, i) => i < last && group.name === names[one.label]);
  const table = groups[own < 0 ? last : own][wholeBox ? "box" : "edges"];
  const at = LEVELS.findIndex((each) => each + 1e-9 >= level), limits = [image.width, image.height];
  if (at < 0 || !(level > 0)) throw new Error(`level must be above 0 and at most 0.999, got ${level}`);
  const scales = edgeScales(scale, one, image);
  return one.box.map((edge, i) => {
    const half = (table[i][at] ?? Infinity) * scales[i]; // null: too few objects for this level
    return [edge - half, edge + half].map((end) => clamp(end, 0, limits[i % 2]));
  });
}

/** What the intervals of the four edges are proportional to. */
function edgeScales({ kind, model }, one, image) {
  const [x1, y1, x2, y2] = one.box, side = [x2 - x1, y2 - y1].map((length) => Math.max(length, 1e-3));
  const std = (i) => Math.max(one.std[i], 1e-4 * side[i % 2]);
  const four = [0, 1, 2, 3];
  if (kind === "constant") return four.map(() => 1);
  if (kind === "size") return four.map(() => Math.sqrt(side[0] * side[1]));
  if (kind === "edge_std") return four.map(std);
  if (kind === "quantiles") return four.map((i) => halfSpread(one.probs[i], std(i)));
  const odds = logOdds(one.score, 1e-4), limits = [image.width, image.height];
  return four.map((i) => {
    const axis = i % 2, own = side[axis];
    const logarithms = {
      edge_std: one.std && Math.log(std(i) / own),
      score: odds,
      aspect: Math.log(side[1 - axis] / own),
      size: Math.log(own / Math.max(limits[axis], 1)),
    };
    const knots = Object.fromEntries(AXES.filter((name) => model.columns.includes(`${name} <`)).map((name, k) => [name, model.knots[k]]));
    const column = (name) => {
      const [what, side_] = name.split(" ");
      if (what === "level") return one.level === Number(side_) ? 1 : 0;
      return side_ === "<" ? Math.min(logarithms[what] - knots[what], 0) : Math.max(logarithms[what] - knots[what], 0);
    };
    const sum = model.columns.reduce(
      (total, name, k) => total + model.weights[k] * clamp(column(name), model.lows[k], model.highs[k]), model.offset,
    );
    return own * Math.exp(clamp(sum, -50, 50));
  });
}

/** Half of what lies between the 10 % and the 90 % quantile of a distribution over bins with this deviation in pixels. */
function halfSpread(probs, std) {
  const mean = probs.reduce((sum, share, bin) => sum + share * bin, 0);
  const deviation = Math.sqrt(probs.reduce((sum, share, bin) => sum + share * (bin - mean) ** 2, 0));
  if (!(deviation > 1e-9)) return std;
  let total = 0;
  const below = probs.map((share) => (total += share));
  const quantile = (share) => {
    const found = below.findIndex((sum) => sum >= share * total), place = found < 0 ? probs.length - 1 : found;
    const before = place ? below[place - 1] : 0, own = below[place] - before;
    return place - 0.5 + (own > 0 ? clamp((share * total - before) / Math.max(own, 1e-12), 0, 1) : 0.5);
  };
  return Math.max((std / deviation) * ((quantile(0.9) - quantile(0.1)) / 2), 0.1 * std);
}

/** The calibrated score: what `info.calibration.scores.rule` says, the chance to be right or the expected IoU. */
export function chance(info, score) {
  const { kind, x, y, slope, offset } = info.calibration.scores;
  let mapped;
  if (kind === "platt") mapped = 1 / (1 + Math.exp(-clamp(slope * logOdds(score, 1e-7) + offset, -60, 60)));
  else {
    const at = x.findLastIndex((each) => each <= score);
    if (at < 0 || at === x.length - 1) mapped = y[Math.max(at, 0)];
    else mapped = y[at] + ((y[at + 1] - y[at]) / (x[at + 1] - x[at])) * (score - x[at]);
  }
  return (1 - 1e-6) * mapped + 1e-6 * score;
}

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const logOdds = (score, least) => {
  const inner = clamp(score, least, 1 - least);
  return Math.log(inner / (1 - inner));
};

/**
 * What is found on an image.
 *
 * `ort` is onnxruntime-web or onnxruntime-node, `session` an InferenceSession of the file, `info` what stands in its
 * metadata (and in its .parity.json), `image` { data, channels, height, width }: rows of 3 or 4 bytes, red first.
 */
export async function detect(ort, session, info, image) {
  const { images, dims, sizes, size } = inputs(info, image);
  const outputs = await session.run({
    images: new ort.Tensor("uint8", images, dims),
    sizes: new ort.Tensor("int64", sizes, [dims[0], 2]),
  });
  return detections(outputs, info, size, image);
}
