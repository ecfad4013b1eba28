/** Softmax regression from the framework's own layer, loss and optimizer, from logits. */

import { Classifier } from "./classifier.mjs";
import { tf } from "./framework.mjs";

/** Softmax regression; `forward` gives logits. */
export class SoftmaxRegression extends Classifier {
  yHat = "logits";

  constructor({ numInputs, numOutputs, lr, seed }) {
    super();
    this.lr = lr;
    this.net = tf.layers.dense({
      units: numOutputs,
      kernelInitializer: tf.initializers.glorotUniform({ seed }),
    });
    this.net.build([null, numInputs]);
  }

  variables() {
    const [W, b] = this.net.trainableWeights.map((weight) => weight.val);
    return { W, b };
  }

  forward(X) {
    return this.net.apply(X);
  }

  loss(yHat, y, averaged = true) {
    const reduction = averaged ? tf.Reduction.MEAN : tf.Reduction.NONE;
    const labels = tf.oneHot(y, yHat.shape[1]);
    return tf.losses.softmaxCrossEntropy(labels, yHat, undefined, 0, reduction);
  }

  configureOptimizer() {
    const sgd = tf.train.sgd(this.lr);
    const names = Object.entries(this.variables()).map(([name, { name: own }]) => [name, own]);
    return {
      step: (gradients) =>
        sgd.applyGradients(names.map(([name, own]) => ({ name: own, tensor: gradients[name] }))),
    };
  }
}
