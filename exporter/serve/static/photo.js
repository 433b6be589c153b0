// From an image file to its pixels. Runs in the page and in a worker.

import { exifOrientation, withoutOrientation } from "/static/exif.js";
import { MAX_PIXELS, oriented, overWhite, toSquare } from "/static/pixels.js";

const STRIP_PIXELS = 1 << 20; // read in strips: some phones refuse large canvases

function newCanvas(width, height) {
  if (typeof OffscreenCanvas !== "undefined") return new OffscreenCanvas(width, height);
  return Object.assign(document.createElement("canvas"), { width, height });
}

/** The picture {width, height, data: RGB} of a bitmap, over white, each strip from a canvas. */
function readPixels(bitmap) {
  const { width, height } = bitmap;
  const rows = Math.max(1, Math.min(height, Math.floor(STRIP_PIXELS / width)));
  const canvas = newCanvas(width, rows);
  const context = canvas.getContext("2d", { willReadFrequently: true, colorSpace: "srgb" });
  if (!context) throw new Error("This browser has no memory left for a canvas.");
  context.imageSmoothingEnabled = false;
  const data = new Uint8Array(width * height * 3);
  for (let top = 0; top < height; top += rows) {
    const count = Math.min(rows, height - top);
    context.clearRect(0, 0, width, rows);
    context.drawImage(bitmap, 0, top, width, count, 0, 0, width, count);
    const strip = context.getImageData(0, 0, width, count).data;
    data.set(overWhite(strip, width, count).data, top * width * 3);
  }
  return { width, height, data };
}

function isHeic(bytes) {
  const brand = String.fromCharCode(...bytes.subarray(4, 12));
  return /^ftyp(hei[cxms]|hev[cxms]|mif1|msf1)/.test(brand);
}

async function decode(bytes) {
  if (bytes.length === 0) throw new Error("This file is empty.");
  try {
    return await createImageBitmap(new Blob([withoutOrientation(bytes)]), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
    });
  } catch {
    throw new Error(
      isHeic(bytes)
        ? "This is a HEIC photo, which this browser cannot open: save it as JPEG first."
        : "This browser cannot open the file: it is not an image, is damaged, or is too large.",
    );
  }
}

/** The upright picture {width, height, data: RGB} in a file; `exif` is 'apply' or 'ignore'. */
export async function openPicture(blob, exif) {
  const bytes = new Uint8Array(await blob.arrayBuffer());
  const bitmap = await decode(bytes);
  let picture;
  try {
    const { width, height } = bitmap;
    if (width * height > MAX_PIXELS) {
      throw new Error(`This picture has ${width} x ${height} pixels: scale it down first.`);
    }
    picture = readPixels(bitmap);
  } finally {
    bitmap.close(); // before the pixels are turned: a phone has no room for three copies
  }
  return exif === "apply" ? oriented(picture, exifOrientation(bytes)) : picture;
}

/** The square that the model takes, from an image file. */
export async function openSquare(blob, rule) {
  return toSquare(await openPicture(blob, rule.exif), rule);
}
