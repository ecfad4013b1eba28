/** What both implementations share: accuracy, and parameters in and out. */

import { tf } from "./framework.mjs";

/**
 * A classifier whose trainable tensors are `variables()`, `{ W, b }`.
 *
 * A subclass defines `forward(X)`, `loss(yHat, y, averaged)` and `configureOptimizer()`.
 */
export class Classifier {
  /** Part of the examples whose largest score is that of their class, or 0 or 1 for each. */
  accuracy(yHat, y, averaged = true) {
    const correct = tf.cast(tf.equal(tf.argMax(yHat, 1), y), "float32");
    return averaged ? tf.mean(correct) : correct;
  }

  /** Copies of the parameters: `{ name: { values, shape } }`. */
  getParameters() {
    return toArrays(this.variables());
  }

  setParameters(parameters) {
    for (const [name, variable] of Object.entries(this.variables())) {
      const { values, shape } = parameters[name];
      tf.tidy(() => variable.assign(tf.tensor(values, shape, "float32")));
    }
  }
}

/** Tensors by name as arrays of their own: `{ name: { values, shape } }`. */
export function toArrays(tensors) {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, tensor]) => [
      name,
      { values: tensor.dataSync().slice(), shape: tensor.shape },
    ]),
  );
}
