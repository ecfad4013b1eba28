/** The training loop: epochs over the plan's order, validation, history, and one step's stages. */

import { toArrays } from "./classifier.mjs";
import { tf } from "./framework.mjs";

const EVALUATION_EXAMPLES = 10_000;
const STEPS_BETWEEN_BREATHS = 32;

const clock = () => performance.now() / 1000;
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** Let what waits for the event loop happen: the end of standard input, above all. */
const breathe = () => new Promise((resolve) => setImmediate(resolve));

/** A batch of {@link Examples} in the framework's tensors. */
const tensors = ({ X, y, shape }) => ({ X: tf.tensor2d(X, shape), y: tf.tensor1d(y, "int32") });

export class Trainer {
  /**
   * @param model a classifier.
   * @param plan says which examples, and how many in a batch.
   */
  constructor(model, plan) {
    this.model = model;
    this.plan = plan;
    this.optimizer = model.configureOptimizer();
    this.history = { train_loss: [], train_accuracy: [], val_loss: [], val_accuracy: [] };
    this.stepLoss = [];
    this.stepAccuracy = [];
    this.fed = { projections: [], labels: [] };
    this.direction = tf.tensor1d(plan.direction.values);
    this.seconds = { compile: 0, fit: 0, evaluate: 0 };
  }

  /**
   * Train: one epoch for each of the orders.
   *
   * @param orders rows of the training data in the order of their use.
   * @param onStep told after every update how many there were.
   * @param onEpoch told after every epoch how many there were, of how many, and its mean loss.
   */
  async fit(orders, onStep, onEpoch) {
    const { batch_size: size } = this.plan.recipe;
    for (const [epoch, order] of orders.entries()) {
      const first = this.stepLoss.length;
      const started = clock();
      for (let start = 0; start < order.length; start += size) {
        this.fitBatch(this.plan.train.batch(order.subarray(start, start + size)));
        onStep(this.stepLoss.length);
        if (this.stepLoss.length % STEPS_BETWEEN_BREATHS === 0) await breathe();
      }
      this.seconds.fit += clock() - started;
      const weights = this.stepLoss
        .slice(first)
        .map((_, step) => Math.min(size, order.length - step * size) / order.length);
      for (const [name, values] of [
        ["train_loss", this.stepLoss],
        ["train_accuracy", this.stepAccuracy],
      ]) {
        this.history[name].push(sum(weights.map((weight, step) => weight * values[first + step])));
      }
      this.evaluate();
      onEpoch(epoch + 1, orders.length, this.history.train_loss.at(-1));
      await breathe();
    }
  }

  fitBatch(batch) {
    tf.tidy(() => {
      const { X, y } = tensors(batch);
      this.fed.projections.push(X.dot(this.direction).dataSync().slice());
      this.fed.labels.push(y.dataSync().slice());
      const { yHat, loss } = this.step(this.model, this.optimizer, X, y);
      const correct = this.model.accuracy(yHat, y, false).dataSync();
      this.stepLoss.push(loss.dataSync()[0]);
      this.stepAccuracy.push(sum(correct) / correct.length);
    });
  }

  /** One update; what it was made of. Called inside `tf.tidy`. */
  step(model, optimizer, X, y) {
    const variables = model.variables();
    let yHat;
    const { value: loss, grads } = tf.variableGrads(() => {
      yHat = tf.keep(model.forward(X));
      return model.loss(yHat, y);
    }, Object.values(variables));
    const gradients = Object.fromEntries(
      Object.entries(variables).map(([name, variable]) => [name, grads[variable.name]]),
    );
    optimizer.step(gradients);
    return { yHat: release(yHat), loss, gradients };
  }

  /** Mean loss and accuracy over all validation examples, into the history. */
  evaluate() {
    const started = clock();
    const { model, plan } = this;
    const [loss, accuracy] = [[], []];
    for (const batch of plan.val.batches(EVALUATION_EXAMPLES)) {
      tf.tidy(() => {
        const { X, y } = tensors(batch);
        const yHat = model.forward(X);
        const part = batch.y.length / plan.val.length;
        loss.push(part * model.loss(yHat, y).dataSync()[0]);
        accuracy.push(part * model.accuracy(yHat, y).dataSync()[0]);
      });
    }
    this.history.val_loss.push(sum(loss));
    this.history.val_accuracy.push(sum(accuracy));
    this.seconds.evaluate += clock() - started;
  }

  /** What `forward` gives for the validation examples: `{ values, shape }`. */
  predict() {
    const { model, plan } = this;
    const shape = [plan.val.length, plan.shape.numOutputs];
    const values = new Float32Array(shape[0] * shape[1]);
    let done = 0;
    for (const batch of plan.val.batches(EVALUATION_EXAMPLES)) {
      const some = tf.tidy(() => model.forward(tensors(batch).X).dataSync().slice());
      values.set(some, done);
      done += some.length;
    }
    return { values, shape };
  }

  /** The arrays of every stage of one step from given parameters, by training's own code. */
  probe(parameters, batch) {
    const { model } = this;
    const before = model.getParameters();
    model.setParameters(parameters);
    const arrays = tf.tidy(() => {
      const { X, y } = tensors(batch);
      const { yHat, loss, gradients } = this.step(model, model.configureOptimizer(), X, y);
      return toArrays({
        "data/X": X,
        "data/y": y,
        "forward/y_hat": yHat,
        example_loss: model.loss(yHat, y, false),
        loss,
        "metric/accuracy": model.accuracy(yHat, y),
        "gradient/W": gradients.W,
        "gradient/b": gradients.b,
      });
    });
    for (const [name, array] of Object.entries(model.getParameters())) {
      arrays[`update/${name}`] = array;
    }
    model.setParameters(before);
    return arrays;
  }
}

/** Give a tensor that was kept back to the tidy around it. */
function release(tensor) {
  const released = tensor.clone();
  tensor.dispose();
  return released;
}
