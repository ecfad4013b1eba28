/** The tasks: train as the plan says, probe steps without training, or train on draws of one's own. */

import { SoftmaxRegression } from "./concise.mjs";
import { versions } from "./framework.mjs";
import { randomOrders } from "./independent.mjs";
import { options } from "./options.mjs";
import { Plan, fedSha256 } from "./plan.mjs";
import { probeSteps } from "./probe.mjs";
import { joined, list, peakRssBytes, stack, writeRecord } from "./record.mjs";
import { SoftmaxRegressionScratch } from "./scratch.mjs";
import { Trainer } from "./trainer.mjs";

const MODELS = { scratch: SoftmaxRegressionScratch, concise: SoftmaxRegression };

/**
 * Run the task of the command line and write its record.
 *
 * @param say writes a line of progress.
 * @param importSeconds how long the framework took to load.
 */
export async function run(say, importSeconds) {
  const { task, implementation, reference, record } = options;
  const plan = new Plan(options.plan);
  const seed = Number(options.seed);
  const model = new MODELS[implementation]({ ...plan.recipe, ...plan.shape, seed });
  if (task !== "independent") model.setParameters(plan.parameters);
  const initial = model.getParameters();
  const facts = {
    backend: "tfjs",
    implementation,
    versions,
    y_hat: model.yHat,
    plan_sha256: plan.sha256,
    fed_sha256: task === "independent" ? "" : fedSha256(plan, initial),
  };

  const trainer = new Trainer(model, plan);
  const arrays = {};
  if (task === "train") Object.assign(arrays, await train(trainer, plan, initial, say));
  if (task === "independent") await trainer.fit(randomOrders(plan, seed), () => {}, tell(say));
  if (task !== "independent" && reference) {
    say("probing");
    Object.assign(arrays, await probeSteps(trainer, plan, reference));
  }
  facts.history = trainer.history;
  facts.seconds = { import: importSeconds, ...trainer.seconds };
  facts.peak_rss_bytes = peakRssBytes();
  writeRecord(record, facts, arrays);
}

/** Train as the plan says; the arrays of the record. */
async function train(trainer, plan, initial, say) {
  const snapshots = [];
  const keep = (step) => {
    if (plan.snapshots.has(step)) snapshots.push({ step, ...trainer.model.getParameters() });
  };
  await trainer.fit(plan.orders, keep, tell(say));
  const arrays = {
    step_loss: list(Float64Array.from(trainer.stepLoss)),
    step_accuracy: list(Float64Array.from(trainer.stepAccuracy)),
    snapshots: list(Int32Array.from(snapshots, ({ step }) => step)),
    val_y_hat: trainer.predict(),
    "fed/y_train": list(plan.train.labels),
    "fed/examples": list(Int32Array.from(trainer.fed.labels, ({ length }) => length)),
    "fed/projections": joined(trainer.fed.projections),
    "fed/labels": joined(trainer.fed.labels),
  };
  for (const name of Object.keys(initial)) {
    arrays[`initial/${name}`] = initial[name];
    arrays[`parameters/${name}`] = stack(snapshots.map((snapshot) => snapshot[name]));
  }
  return arrays;
}

const tell = (say) => (epoch, epochs, loss) =>
  say("training", { epoch, max_epochs: epochs, loss });
