// Score reference.npy as tokd detect does: npm install onnxruntime-web, node example.mjs.
// In a browser: draw a picture on a canvas, drop alpha, and hand its pixels to tensor().
import { readFile } from "node:fs/promises";
import * as ort from "onnxruntime-web";
import "./resize.js"; // sets tokd: OpenCV's and Pillow's resampling

const here = (name) => new URL(name, import.meta.url);
const model = JSON.parse(await readFile(here("model.json"), "utf8"));

/** Turn a face, [x, y, width, height] in {width, height, channels: 3, data} (RGB), into the input. */
export function tensor(image, [x, y, width, height]) {
  const { size, crop, mean, std } = model.input;
  const { detector, stored } = model.face;
  const side = stored ?? size;
  let face = tokd.crop(image, x, y, width, height);
  if (!(detector === "none" && stored === null) && width !== side)
    face = (width > side ? tokd.area : tokd.cubic)(face, side, side);
  face = tokd.pillow(face, size, size);
  const start = Math.floor((size - crop) / 2);
  return Float32Array.from({ length: 3 * crop * crop }, (_, i) => {
    const [c, place] = [Math.floor(i / (crop * crop)), i % (crop * crop)];
    const at = (start + Math.floor(place / crop)) * size + start + (place % crop);
    return (Math.fround(face.data[3 * at + c] / 255) - Math.fround(mean[c])) / Math.fround(std[c]);
  });
}

const { crop } = model.input;
const file = await readFile(here(model.reference.tensor));
const values = new Float32Array(file.buffer.slice(file.byteOffset + file.readUInt16LE(8) + 10));
const { onnx, "onnx-int8": int8 } = model.files;
const network = await readFile(here((onnx ?? int8).name));
const session = await ort.InferenceSession.create(network);
const { logits } = await session.run({ image: new ort.Tensor("float32", values, [1, 3, crop, crop]) });
const p_fake = 1 / (1 + Math.exp(logits.data[0] - logits.data[1]));
const known = onnx ? model.reference.logits : model.reference.logits_int8;
console.log(JSON.stringify({ p_fake, logits: [...logits.data], known }));
