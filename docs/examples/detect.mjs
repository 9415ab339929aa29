// What a file of `gfocal export` finds on a picture, by Node: npm install onnxruntime-node sharp
// detector.mjs lies beside the page that `gfocal export MODEL --format web` writes; this file goes there, too.
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import sharp from "sharp";
import { detect } from "./detector.mjs";

const [model, picture] = process.argv.slice(2);
const { info } = JSON.parse(await readFile(`${model}.parity.json`, "utf8")); // what the file says about itself
const session = await ort.InferenceSession.create(model);
const { data, info: size } = await sharp(picture)
  .rotate() // as its EXIF data say
  .toColourspace("srgb")
  .removeAlpha()
  .raw()
  .toBuffer({ resolveWithObject: true });
for (const { label, score, box, std } of await detect(ort, session, info, { data, ...size })) {
  console.log(JSON.stringify({ class: info.names[label], score, box, std }));
}
