// What a file of `gfocal export` finds on a picture, by Node: npm install onnxruntime-node sharp
// detector.mjs lies beside the page that `gfocal export MODEL --format web` writes; this file goes there, too.
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import ort from "onnxruntime-node";
import sharp from "sharp";
import { detect } from "./detector.mjs";

try {
  const [model, picture] = process.argv.slice(2);
  const file = await readFile(model);
  // What the file says about itself.
  const { info, sha256 } = JSON.parse(await readFile(`${model}.parity.json`, "utf8"));
  if (createHash("sha256").update(file).digest("hex") !== sha256) {
    throw new Error(`${model}.parity.json is of another file, so its resize rule may be another: copy or export both`);
  }
  const session = await ort.InferenceSession.create(file);
  const { data, info: size } = await sharp(picture)
    .rotate() // as its EXIF data say
    .toColourspace("srgb")
    .removeAlpha()
    .raw()
    .toBuffer({ resolveWithObject: true });
  for (const { label, score, box, std } of await detect(ort, session, info, { data, ...size })) {
    console.log(JSON.stringify({ class: info.names[label], score, box, std }));
  }
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exitCode = 1;
}
