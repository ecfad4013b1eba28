/** Orders drawn by the framework's own generator, for comparisons over independent seeds. */

import { tf } from "./framework.mjs";

/** For each epoch a random order of the training examples: rows by the size of a random key. */
export function randomOrders(plan, seed) {
  const { length } = plan.train;
  return plan.orders.map((_, epoch) => {
    const keys = tf.tidy(() =>
      tf.randomUniform([length], 0, 1, "float32", `${seed}, ${epoch}`).dataSync().slice(),
    );
    return Int32Array.from(keys.keys()).sort((i, j) => keys[i] - keys[j]);
  });
}
