// SHA-256 (FIPS 180-4). crypto.subtle is missing where the page comes over plain http from
// another machine, which is how a phone on the local network opens it.

function fractionBits(value) {
  return Math.floor((value - Math.floor(value)) * 2 ** 32);
}

function firstPrimes(count) {
  const primes = [];
  for (let candidate = 2; primes.length < count; candidate += 1) {
    if (primes.every((prime) => candidate % prime !== 0)) primes.push(candidate);
  }
  return primes;
}

const START = firstPrimes(8).map((prime) => fractionBits(Math.sqrt(prime)));
const ROUND = Uint32Array.from(firstPrimes(64), (prime) => fractionBits(Math.cbrt(prime)));

function rotate(value, bits) {
  return (value >>> bits) | (value << (32 - bits));
}

function addBlock(state, view, offset, words) {
  for (let index = 0; index < 16; index += 1) words[index] = view.getUint32(offset + 4 * index);
  for (let index = 16; index < 64; index += 1) {
    const a = words[index - 15];
    const b = words[index - 2];
    const low = rotate(a, 7) ^ rotate(a, 18) ^ (a >>> 3);
    const high = rotate(b, 17) ^ rotate(b, 19) ^ (b >>> 10);
    words[index] = words[index - 16] + low + words[index - 7] + high;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let index = 0; index < 64; index += 1) {
    const one = rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25);
    const choice = (e & f) ^ (~e & g);
    const first = (h + one + choice + ROUND[index] + words[index]) | 0;
    const zero = rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22);
    const majority = (a & b) ^ (a & c) ^ (b & c);
    const second = (zero + majority) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, index) => {
    state[index] += value;
  });
}

/** The sha256 of a Uint8Array, in hexadecimal. */
export function sha256(bytes) {
  const state = Uint32Array.from(START);
  const words = new Uint32Array(64);
  const whole = bytes.length - (bytes.length % 64);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  for (let offset = 0; offset < whole; offset += 64) addBlock(state, view, offset, words);
  const rest = bytes.length - whole;
  const tail = new Uint8Array(rest < 56 ? 64 : 128);
  tail.set(bytes.subarray(whole));
  tail[rest] = 0x80;
  const end = new DataView(tail.buffer);
  end.setBigUint64(tail.length - 8, BigInt(bytes.length) * 8n);
  for (let offset = 0; offset < tail.length; offset += 64) addBlock(state, end, offset, words);
  return Array.from(state, (word) => word.toString(16).padStart(8, "0")).join("");
}
