/** The plan and its data, as the runner wrote them, and the digest of what training is given. */

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";

import { bytes, dtype, readNpy, tuple } from "./npy.mjs";

const HASHED_ROWS = 4096;

/** Something that the runner asks for and this backend cannot do: one line, no stack. */
class Refusal extends Error {
  refusal = true;
}

const readJson = (path) => JSON.parse(readFileSync(path, "utf-8"));

/** Training or validation examples as stored; scaled batch by batch, a byte a pixel until then. */
export class Examples {
  constructor(folder, split, divisor) {
    const X = readNpy(join(folder, `X_${split}.npy`));
    [this.length, this.numInputs] = X.shape;
    this.stored = X.values;
    // Int64Array holds BigInts, which no other typed array takes.
    this.labels = Int32Array.from(readNpy(join(folder, `y_${split}.npy`)).values, Number);
    this.divisor = Math.fround(divisor);
  }

  /**
   * Features of these rows, scaled, and their labels.
   *
   * A quotient of two float32 numbers that is rounded to double and then to float32 is the same
   * as one that is rounded once: these are the bits that the other backends train on.
   */
  batch(rows) {
    const { stored, labels, numInputs, divisor } = this;
    const X = new Float32Array(rows.length * numInputs);
    const y = new Int32Array(rows.length);
    let to = 0;
    for (let i = 0; i < rows.length; i += 1) {
      const end = (rows[i] + 1) * numInputs;
      for (let from = end - numInputs; from < end; from += 1) X[to++] = stored[from] / divisor;
      y[i] = labels[rows[i]];
    }
    return { X, y, shape: [rows.length, numInputs] };
  }

  /** All examples in order, so many at a time. */
  *batches(size) {
    for (let start = 0; start < this.length; start += size) {
      const count = Math.min(size, this.length - start);
      yield this.batch(Int32Array.from({ length: count }, (_, i) => start + i));
    }
  }
}

/** A recipe made concrete: initial parameters, the order of the examples, and the examples. */
export class Plan {
  constructor(folder) {
    const facts = readJson(join(folder, "plan.json"));
    this.recipe = facts.recipe;
    if (this.recipe.dtype !== "float32") {
      throw new Refusal(
        `dtype: expected float32; received ${this.recipe.dtype}, which TensorFlow.js does not ` +
          "have; leave --dtype out",
      );
    }
    this.sha256 = facts.sha256;
    this.snapshots = new Set(facts.snapshots);
    this.probes = facts.probes;
    this.parameters = {
      W: readNpy(join(folder, "W.npy")),
      b: readNpy(join(folder, "b.npy")),
    };
    this.direction = readNpy(join(folder, "direction.npy"));
    const order = readNpy(join(folder, "order.npy"));
    const [epochs, numTrain] = order.shape;
    this.orders = Array.from({ length: epochs }, (_, epoch) =>
      order.values.subarray(epoch * numTrain, (epoch + 1) * numTrain),
    );
    const { divisor } = readJson(join(facts.data_folder, "facts.json"));
    this.train = new Examples(facts.data_folder, "train", divisor);
    this.val = new Examples(facts.data_folder, "val", divisor);
    const [numInputs, numOutputs] = this.parameters.W.shape;
    this.shape = { numInputs, numOutputs };
    this.stepsPerEpoch = Math.ceil(numTrain / this.recipe.batch_size);
  }
}

/** SHA-256 of what training is given: scaled examples, labels, parameters, order. */
export function fedSha256(plan, parameters) {
  const hash = createHash("sha256");
  const head = (name, type, shape) => hash.update(`${name}:${type}:${tuple(shape)};`);
  const array = (name, { values, shape }) => {
    head(name, dtype(values), shape);
    hash.update(bytes(values));
  };
  const splits = { False: plan.val, True: plan.train };
  for (const [train, examples] of Object.entries(splits)) {
    head(`X_${train}`, "<f4", [examples.length, examples.numInputs]);
    for (const { X } of examples.batches(HASHED_ROWS)) hash.update(bytes(X));
  }
  for (const [train, examples] of Object.entries(splits)) {
    array(`y_${train}`, { values: examples.labels, shape: [examples.length] });
  }
  for (const [name, value] of Object.entries(parameters)) array(name, value);
  plan.orders.forEach((order, epoch) => {
    array(`order ${epoch}`, { values: order, shape: [order.length] });
  });
  return hash.digest("hex");
}
