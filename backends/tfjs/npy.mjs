/** NumPy's files: .npy arrays read and written, .npz archives of them. */

import { closeSync, openSync, readFileSync, readSync, writeFileSync } from "node:fs";
import { basename } from "node:path";

import { unzipSync, zipSync } from "./framework.mjs";

const TYPES = {
  "|u1": Uint8Array,
  "|i1": Int8Array,
  "<u2": Uint16Array,
  "<i2": Int16Array,
  "<u4": Uint32Array,
  "<i4": Int32Array,
  "<u8": BigUint64Array,
  "<i8": BigInt64Array,
  "<f4": Float32Array,
  "<f8": Float64Array,
};
const NAMES = new Map(Object.entries(TYPES).map(([name, type]) => [type, name]));
const MAGIC = "\x93NUMPY";
const ALIGNMENT_BYTES = 64;
const MOST_BYTES = 2 ** 30; // of one call of readSync, which cannot do more than 2 GiB

/** NumPy's name of a typed array's element type, such as "<f4". */
export const dtype = (array) => NAMES.get(array.constructor);

/** A shape as Python prints a tuple: "(3, 4)", "(3,)", "()". */
export const tuple = (shape) => (shape.length === 1 ? `(${shape[0]},)` : `(${shape.join(", ")})`);

/** The bytes of a typed array, not copied. */
export const bytes = (array) => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);

function parseHeader(buffer, name) {
  const wide = buffer[6] > 1; // version 1 has a length of two bytes, later ones of four
  const start = wide ? 12 : 10;
  if (buffer.toString("latin1", 0, 6) !== MAGIC) throw new Error(`${name}: no .npy file`);
  const end = start + (wide ? buffer.readUInt32LE(8) : buffer.readUInt16LE(8));
  const header = buffer.toString("latin1", start, end);
  const [, descr, order, shape] =
    /'descr': '([^']+)', 'fortran_order': (\w+), 'shape': \(([^)]*)\)/.exec(header) ?? [];
  if (!TYPES[descr] || order !== "False") throw new Error(`${name}: cannot read ${header.trim()}`);
  return { end, Type: TYPES[descr], shape: shape.split(",").filter((n) => n.trim()).map(Number) };
}

const product = (shape) => shape.reduce((size, n) => size * n, 1);

/** Read a .npy file: `{ values, shape }`, the values in a typed array of their own type. */
export function readNpy(path) {
  const file = openSync(path, "r");
  try {
    const head = Buffer.alloc(4096);
    readSync(file, head, 0, head.length, 0);
    const { end, Type, shape } = parseHeader(head, basename(path));
    const values = new Type(product(shape));
    const into = bytes(values);
    for (let done = 0; done < into.length; ) {
      const count = readSync(file, into, done, Math.min(MOST_BYTES, into.length - done), end + done);
      if (!count) throw new Error(`${basename(path)}: ends too early`);
      done += count;
    }
    return { values, shape };
  } finally {
    closeSync(file);
  }
}

/** Read some arrays of an .npz file by their names. */
export function readNpz(path, names) {
  const wanted = new Set(names.map((name) => `${name}.npy`));
  const files = unzipSync(readFileSync(path), { filter: (file) => wanted.has(file.name) });
  return Object.fromEntries(
    names.map((name) => {
      const content = Buffer.from(files[`${name}.npy`]); // a copy, whose start is aligned
      const { end, Type, shape } = parseHeader(content, name);
      return [name, { values: new Type(new Uint8Array(content.subarray(end)).buffer), shape }];
    }),
  );
}

function npy({ values, shape }) {
  const facts = `{'descr': '${dtype(values)}', 'fortran_order': False, 'shape': ${tuple(shape)}, }`;
  const length = Math.ceil((10 + facts.length + 1) / ALIGNMENT_BYTES) * ALIGNMENT_BYTES - 10;
  const head = Buffer.alloc(10 + length, " ");
  head.write(MAGIC, 0, "latin1");
  head.writeUInt16LE(1, 6); // version 1.0
  head.writeUInt16LE(length, 8);
  head.write(facts, 10, "latin1");
  head.write("\n", head.length - 1);
  return Buffer.concat([head, bytes(values)]);
}

/** Write arrays `{ name: { values, shape } }` to an .npz file, as `numpy.savez` does. */
export function writeNpz(path, arrays) {
  const files = Object.entries(arrays).map(([name, array]) => [`${name}.npy`, npy(array)]);
  writeFileSync(path, zipSync(Object.fromEntries(files), { level: 0 }));
}
