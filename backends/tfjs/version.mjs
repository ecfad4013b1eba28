/** Prints the framework's version once it computes: how the runner checks the environment. */

import { tf, versions } from "./framework.mjs";

const three = tf.tidy(() => tf.add(tf.scalar(1), tf.scalar(2)).dataSync()[0]);
if (three !== 3) throw new Error(`1 + 2 gave ${three}`);
console.log(versions.tfjs);
