/** Executes a plan: one implementation, progress on standard output, a record at the end. */

import { writeSync } from "node:fs";

import { options } from "./options.mjs";

console.log = console.info = console.error; // standard output is for progress alone

const say = (event, facts = {}) => writeSync(1, `${JSON.stringify({ event, ...facts })}\n`);

/** End with the runner: it holds the other end of standard input, however it ends. */
function endWithRunner() {
  process.stdin.on("end", () => process.exit(1)).on("error", () => process.exit(1)).resume();
}

async function main() {
  const started = performance.now();
  say("importing");
  const { versions } = await import("./framework.mjs");
  const importSeconds = (performance.now() - started) / 1000;
  const { Plan, fedSha256 } = await import("./plan.mjs");
  const { SoftmaxRegressionScratch } = await import("./scratch.mjs");
  const { SoftmaxRegression } = await import("./concise.mjs");
  const { Trainer } = await import("./trainer.mjs");
  const { probeSteps } = await import("./probe.mjs");
  const { peakRssBytes, stack, writeRecord } = await import("./record.mjs");
  const { randomOrders } = await import("./independent.mjs");

  const plan = new Plan(options.plan);
  const { lr, sigma, max_epochs: maxEpochs } = plan.recipe;
  const seed = Number(options.seed);
  const Model = { scratch: SoftmaxRegressionScratch, concise: SoftmaxRegression }[
    options.implementation
  ];
  const { numInputs, numOutputs } = plan;
  const model = new Model({ numInputs, numOutputs, lr, sigma, seed });
  const independent = options.task === "independent";
  const orders = { train: plan.orders, probe: [] }[options.task] ?? randomOrders(plan, seed);
  if (!independent) model.setParameters(plan.parameters);
  const initial = model.getParameters();
  const fed = independent ? "" : fedSha256(plan, initial);

  const trainer = new Trainer(model, plan);
  const snapshots = [];
  const onStep = (step) => {
    if (plan.snapshots.has(step)) snapshots.push({ step, ...model.getParameters() });
  };
  const onEpoch = (epoch) =>
    say("training", { epoch, max_epochs: maxEpochs, loss: trainer.history.train_loss.at(-1) });
  await trainer.fit(orders, onStep, onEpoch);

  let arrays = {};
  if (options.task === "train") {
    const list = (values) => ({ values, shape: [values.length] });
    arrays = {
      step_loss: list(Float64Array.from(trainer.stepLoss)),
      step_accuracy: list(Float64Array.from(trainer.stepAccuracy)),
      snapshots: list(Int32Array.from(snapshots, ({ step }) => step)),
      val_y_hat: trainer.predict(),
      "fed/y_train": list(plan.train.labels),
    };
    for (const name of Object.keys(initial)) {
      arrays[`initial/${name}`] = initial[name];
      arrays[`parameters/${name}`] = stack(snapshots.map((snapshot) => snapshot[name]));
    }
  }
  if (!independent && options.reference) {
    say("probing");
    Object.assign(arrays, await probeSteps(trainer, plan, options.reference));
  }
  const facts = {
    backend: "tfjs",
    implementation: options.implementation,
    versions,
    y_hat: model.yHat,
    plan_sha256: plan.sha256,
    fed_sha256: fed,
    history: trainer.history,
    seconds: { import: importSeconds, ...trainer.seconds },
    peak_rss_bytes: peakRssBytes(),
  };
  writeRecord(options.record, facts, arrays);
}

endWithRunner();
try {
  await main();
  process.exit(0); // standard input is still open
} catch (error) {
  // The report quotes the last lines, so the message comes last.
  if (error.constructor.name !== "Refusal") console.error(error.stack);
  console.error(error.message);
  process.exit(1);
}
