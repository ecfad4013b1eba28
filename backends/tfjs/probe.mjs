/** Lock-step: from the reference's own states, one step each, every stage of it. */

import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

import { readNpz } from "./npy.mjs";

const POLL_MILLISECONDS = 20;

const scalar = (value) => ({ values: Float64Array.of(value), shape: [] });

const largestDifference = (received, expected) =>
  received.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);

/** The parameters before each probed step, once the reference's process has written them. */
async function referenceStates(path) {
  while (!existsSync(path)) await sleep(POLL_MILLISECONDS);
  const { probe_W: W, probe_b: b } = readNpz(path, ["probe_W", "probe_b"]);
  const part = ({ values, shape: [count, ...shape] }, i) => {
    const size = values.length / count;
    return { values: values.subarray(i * size, (i + 1) * size), shape };
  };
  return (i) => ({ W: part(W, i), b: part(b, i) });
}

/** The arrays `probe/STEP/…` of the plan's probed steps. */
export async function probeSteps(trainer, plan, reference) {
  const states = await referenceStates(reference);
  const size = plan.recipe.batch_size;
  const found = {};
  for (const [i, step] of plan.probes.entries()) {
    const start = (step % plan.stepsPerEpoch) * size;
    const rows = plan.orders[Math.floor(step / plan.stepsPerEpoch)].subarray(start, start + size);
    const { "data/X": X, ...arrays } = trainer.probe(states(i), plan.train.batch(rows));
    const planned = plan.train.batch(rows);
    arrays["data/X_error"] = scalar(largestDifference(X.values, planned.X));
    arrays["data/y_error"] = scalar(largestDifference(arrays["data/y"].values, planned.y));
    if (step === 0) arrays["data/X"] = X;
    for (const [name, array] of Object.entries(arrays)) found[`probe/${step}/${name}`] = array;
  }
  return found;
}
