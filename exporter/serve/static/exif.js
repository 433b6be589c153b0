// The EXIF orientation of a JPEG, PNG or WebP file. Browsers differ in which of the three they
// turn, and some turn whatever they are told (Chromium takes imageOrientation 'none' for
// 'from-image'), so the page takes the tag out of the file's copy and turns the pixels itself.

const ORIENTATION = 0x0112;
const SHORT = 3;

function text(view, offset, length) {
  if (offset + length > view.byteLength) return "";
  let found = "";
  for (let index = 0; index < length; index += 1) {
    found += String.fromCharCode(view.getUint8(offset + index));
  }
  return found;
}

/** {value, at, little} in a TIFF header and its first directory; null where it has none. */
function fromTiff(view, start) {
  const order = text(view, start, 2);
  const little = order === "II";
  if ((!little && order !== "MM") || view.getUint16(start + 2, little) !== 42) return null;
  const directory = start + view.getUint32(start + 4, little);
  const entries = view.getUint16(directory, little);
  for (let index = 0; index < entries; index += 1) {
    const entry = directory + 2 + 12 * index;
    if (view.getUint16(entry, little) !== ORIENTATION) continue;
    if (view.getUint16(entry + 2, little) !== SHORT) return null;
    return { value: view.getUint16(entry + 8, little), at: entry + 8, little };
  }
  return null;
}

function fromJpeg(view) {
  let offset = 2;
  while (offset + 4 <= view.byteLength) {
    if (view.getUint8(offset) !== 0xff) return null;
    const marker = view.getUint8(offset + 1);
    if (marker === 0xff) {
      offset += 1; // a fill byte
      continue;
    }
    if (marker === 0xda || marker === 0xd9) return null;
    const length = view.getUint16(offset + 2);
    if (marker === 0xe1 && text(view, offset + 4, 6) === "Exif\0\0") {
      return fromTiff(view, offset + 10);
    }
    offset += 2 + length;
  }
  return null;
}

function fromPng(view) {
  let offset = 8;
  while (offset + 12 <= view.byteLength) {
    if (text(view, offset + 4, 4) === "eXIf") return fromTiff(view, offset + 8);
    offset += 12 + view.getUint32(offset);
  }
  return null;
}

function fromWebp(view) {
  let offset = 12;
  while (offset + 8 <= view.byteLength) {
    const length = view.getUint32(offset + 4, true);
    if (text(view, offset, 4) === "EXIF") {
      const prefixed = text(view, offset + 8, 6) === "Exif\0\0";
      return fromTiff(view, offset + 8 + (prefixed ? 6 : 0));
    }
    offset += 8 + length + (length % 2);
  }
  return null;
}

function find(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  try {
    if (view.getUint16(0) === 0xffd8) return fromJpeg(view);
    if (text(view, 1, 3) === "PNG") return fromPng(view);
    if (text(view, 0, 4) === "RIFF" && text(view, 8, 4) === "WEBP") return fromWebp(view);
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // cut short: as if it had none
  }
  return null;
}

/** 1 to 8, from the bytes of an image file; 1 where it has none or a broken one. */
export function exifOrientation(bytes) {
  const { value } = find(bytes) ?? { value: 1 };
  return value >= 1 && value <= 8 ? value : 1;
}

/** The same image file for a decoder that is to leave its pixels as they are stored. */
export function withoutOrientation(bytes) {
  const found = find(bytes);
  if (found === null) return bytes;
  const copy = Uint8Array.from(bytes);
  new DataView(copy.buffer).setUint16(found.at, 1, found.little);
  return copy;
}
