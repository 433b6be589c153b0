// From a decoded photograph to the square of pixels that the model takes, equal to
// Python's (models/images.py, docs/contract.md) byte for byte. No DOM: it runs in Node too.
//
// A picture is {width, height, data}: data is a Uint8Array, R, G, B of each pixel, row by row.

const PRECISION = 22; // bits behind the binary point of a resize coefficient
const HALF = 1 << (PRECISION - 1);

export const MAX_PIXELS = 64_000_000;
export const MAX_ELONGATION = 50;

/** Alpha-composites R, G, B, A (not premultiplied) over white, in Pillow's integer steps. */
export function overWhite(rgba, width, height) {
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const alpha = rgba[from + 3];
    for (let channel = 0; channel < 3; channel += 1) {
      const value = rgba[from + channel];
      data[to + channel] = alpha === 255 ? value : blend(value, alpha);
    }
  }
  return { width, height, data };
}

function blend(value, alpha) {
  const sum = (value * alpha + 255 * (255 - alpha)) * 128 + (128 << 7);
  return ((sum >> 8) + sum) >> 15;
}

/** Turns a picture as its EXIF orientation (1 to 8) says. */
export function oriented(picture, orientation) {
  if (!(orientation >= 2 && orientation <= 8)) return picture;
  const { width, height, data } = picture;
  const swapped = orientation >= 5;
  const flipX = [2, 3, 7, 8].includes(orientation); // of the stored picture, before a swap
  const flipY = [3, 4, 6, 7].includes(orientation);
  const outWidth = swapped ? height : width;
  const out = new Uint8Array(data.length);
  for (let y = 0; y < height; y += 1) {
    const rowTo = flipY ? height - 1 - y : y;
    for (let x = 0; x < width; x += 1) {
      const columnTo = flipX ? width - 1 - x : x;
      const to = 3 * (swapped ? columnTo * outWidth + rowTo : rowTo * outWidth + columnTo);
      const from = 3 * (y * width + x);
      out[to] = data[from];
      out[to + 1] = data[from + 1];
      out[to + 2] = data[from + 2];
    }
  }
  return { width: outWidth, height: swapped ? width : height, data: out };
}

/**
 * For each output position the first input position, how many there are, and their weights:
 * a triangle of half-width max(1, scale) around the centre, in doubles, then rounded to 22 bits.
 */
function coefficients(inSize, outSize) {
  const scale = inSize / outSize;
  const stretch = Math.max(scale, 1);
  const most = Math.ceil(stretch) * 2 + 1;
  const first = new Int32Array(outSize);
  const count = new Int32Array(outSize);
  const weights = new Int32Array(outSize * most);
  const row = new Float64Array(most);
  for (let out = 0; out < outSize; out += 1) {
    const center = (out + 0.5) * scale;
    const low = Math.max(Math.trunc(center - stretch + 0.5), 0);
    const taps = Math.min(Math.trunc(center + stretch + 0.5), inSize) - low;
    let sum = 0;
    for (let tap = 0; tap < taps; tap += 1) {
      const distance = Math.abs((tap + low - center + 0.5) * (1 / stretch));
      row[tap] = distance < 1 ? 1 - distance : 0;
      sum += row[tap];
    }
    for (let tap = 0; tap < taps; tap += 1) {
      const weight = sum === 0 ? row[tap] : row[tap] / sum;
      weights[out * most + tap] = Math.trunc(weight * (1 << PRECISION) + 0.5);
    }
    first[out] = low;
    count[out] = taps;
  }
  return { first, count, weights, most };
}

function clip8(sum) {
  return Math.min(Math.max(sum >> PRECISION, 0), 255);
}

function resizeWidth({ width, height, data }, outWidth) {
  const { first, count, weights, most } = coefficients(width, outWidth);
  const out = new Uint8Array(outWidth * height * 3);
  let to = 0;
  for (let y = 0; y < height; y += 1) {
    const start = y * width;
    for (let x = 0; x < outWidth; x += 1) {
      let red = HALF;
      let green = HALF;
      let blue = HALF;
      let from = 3 * (start + first[x]);
      const base = x * most;
      for (let tap = 0; tap < count[x]; tap += 1, from += 3) {
        const weight = weights[base + tap];
        red += data[from] * weight;
        green += data[from + 1] * weight;
        blue += data[from + 2] * weight;
      }
      out[to] = clip8(red);
      out[to + 1] = clip8(green);
      out[to + 2] = clip8(blue);
      to += 3;
    }
  }
  return { width: outWidth, height, data: out };
}

function resizeHeight({ width, height, data }, outHeight) {
  const { first, count, weights, most } = coefficients(height, outHeight);
  const stride = width * 3;
  const out = new Uint8Array(stride * outHeight);
  const sums = new Int32Array(stride);
  for (let y = 0; y < outHeight; y += 1) {
    sums.fill(HALF);
    for (let tap = 0; tap < count[y]; tap += 1) {
      const weight = weights[y * most + tap];
      const start = (first[y] + tap) * stride;
      for (let index = 0; index < stride; index += 1) sums[index] += data[start + index] * weight;
    }
    for (let index = 0; index < stride; index += 1) out[y * stride + index] = clip8(sums[index]);
  }
  return { width, height: outHeight, data: out };
}

/** Pillow's antialiased bilinear resize: width first, then height, 8 bits in between. */
export function resize(picture, width, height) {
  const wide = picture.width === width ? picture : resizeWidth(picture, width);
  return wide.height === height ? wide : resizeHeight(wide, height);
}

/** [width, height] once the shorter side is `side`. */
export function resizedSize(width, height, side) {
  const longer = Math.max(width, height);
  const shorter = Math.min(width, height);
  if (shorter < 1 || longer > MAX_ELONGATION * shorter) {
    throw new Error(`A picture of ${width} x ${height} pixels is too elongated: crop it first.`);
  }
  return width <= height
    ? [side, Math.trunc((side * height) / width)]
    : [Math.trunc((side * width) / height), side];
}

function halfToEven(doubled) {
  const floor = Math.floor(doubled / 2);
  return doubled % 2 === 0 ? floor : floor + (floor % 2);
}

/** The centre `width` x `height` of a picture; half a pixel goes to the even offset. */
export function centerCrop(picture, width, height) {
  const left = halfToEven(picture.width - width);
  const top = halfToEven(picture.height - height);
  const data = new Uint8Array(width * height * 3);
  for (let y = 0; y < height; y += 1) {
    const start = 3 * ((top + y) * picture.width + left);
    data.set(picture.data.subarray(start, start + 3 * width), 3 * y * width);
  }
  return { width, height, data };
}

/** An upright picture as the model takes it; `rule` is `contract.input`. */
export function toSquare(picture, rule) {
  const side = rule.resize_shorter_side;
  const [width, height] = resizedSize(picture.width, picture.height, side);
  return centerCrop(resize(picture, width, height), rule.width, rule.height);
}
