/** TensorFlow.js with its WebAssembly backend, from the environment that the runner built. */

import { createRequire } from "node:module";
import { join } from "node:path";

import { options } from "./options.mjs";

/** Packages lie in the cache, not beside this file, where an `import` would look for them. */
const load = createRequire(join(options.environment, "package.json"));

export const tf = load("@tensorflow/tfjs");
load("@tensorflow/tfjs-backend-wasm");
export const { zipSync, unzipSync } = load("fflate");

if (!(await tf.setBackend("wasm"))) throw new Error("TensorFlow.js has no WebAssembly backend here");
await tf.ready();

const device = process.env.FRAMEWORK_PARITY_DEVICE ?? "cpu";
if (device !== "cpu") throw new Error(`device: expected cpu, all that WebAssembly has; received ${device}`);

/** The framework's version and those of what it runs on. */
export const versions = {
  node: process.versions.node,
  tfjs: tf.version_core,
  wasm: tf.env().get("WASM_HAS_SIMD_SUPPORT") ? "SIMD" : "no SIMD",
};
