// From an image file to its pixels. Runs in the page and in a worker.

import { exifOrientation, withoutOrientation } from "/static/exif.js";
import { MAX_PIXELS, oriented, overWhite, toSquare } from "/static/pixels.js";

const STRIP_PIXELS = 1 << 20; // read in strips: some phones refuse large canvases

function newCanvas(width, height) {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** R, G, B, A of a bitmap, each strip from a canvas. */
function readPixels(bitmap) {
  const { width, height } = bitmap;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const canvas = newCanvas(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw new Error("This browser has no memory left for a canvas.");
  context.imageSmoothingEnabled = false;
  const all = new Uint8ClampedArray(width * height * 4);
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    all.set(context.getImageData(0, 0, width, count).data, top * width * 4);
  }
  return all;
}

async function decode(bytes) {
  try {
    return await createImageBitmap(new Blob([withoutOrientation(bytes)]), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error("This file is not an image that the browser can open.");
  }
}

/** The upright picture {width, height, data: RGB} in a file; `exif` is 'apply' or 'ignore'. */
export async function openPicture(blob, exif) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const bitmap = await decode(bytes);
  try {
    const { width, height } = bitmap;
    if (width * height > MAX_PIXELS) {
      throw new Error(`This picture has ${width} x ${height} pixels: scale it down first.`);
    }
    const picture = overWhite(readPixels(bitmap), width, height);
    return exif === "apply" ? oriented(picture, exifOrientation(bytes)) : picture;
  } finally {
    bitmap.close();
  }
}

/** The square that the model takes, from an image file. */
export async function openSquare(blob, rule) {
  return toSquare(await openPicture(blob, rule.exif), rule);
}
