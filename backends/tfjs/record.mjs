/** The record: a JSON of facts and an NPZ of arrays; a whole folder or none. */

import { mkdirSync, mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";

import { writeNpz } from "./npy.mjs";

const SCHEMA = 1;

/** Write a record as a new folder, by one rename once both files are complete. */
export function writeRecord(folder, facts, arrays) {
  mkdirSync(dirname(folder), { recursive: true });
  const made = mkdtempSync(join(dirname(folder), `.${basename(folder)}-`));
  try {
    writeNpz(join(made, "arrays.npz"), arrays);
    writeFileSync(join(made, "record.json"), JSON.stringify({ schema: SCHEMA, ...facts }, null, 1));
    renameSync(made, folder);
  } catch (error) {
    rmSync(made, { recursive: true, force: true });
    throw error;
  }
}

/** A vector of numbers, as the record's arrays are given. */
export const list = (values) => ({ values, shape: [values.length] });

/** Vectors one after the other, as one. */
export function joined(vectors) {
  const all = new vectors[0].constructor(vectors.reduce((sum, { length }) => sum + length, 0));
  let done = 0;
  for (const vector of vectors) {
    all.set(vector, done);
    done += vector.length;
  }
  return list(all);
}

/** Arrays of one shape as one array, along a new first axis. */
export function stack(arrays) {
  const [{ values, shape }] = arrays;
  const stacked = new values.constructor(arrays.length * values.length);
  arrays.forEach((array, i) => stacked.set(array.values, i * values.length));
  return { values: stacked, shape: [arrays.length, ...shape] };
}

/** The largest resident memory of this process so far, in bytes. */
export function peakRssBytes() {
  try {
    return 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf-8"))[1]);
  } catch {
    return 1024 * process.resourceUsage().maxRSS;
  }
}
