/** Softmax regression from scratch: parameters, softmax, loss and SGD by hand. */

import { Classifier } from "./classifier.mjs";
import { tf } from "./framework.mjs";

/** Exponentials of each row, divided by their sum. */
export function softmax(X) {
  const exp = tf.exp(X);
  return tf.div(exp, tf.sum(exp, 1, true));
}

/**
 * Negative logarithm of the probability given to each label.
 *
 * Picked by a mask: the WebAssembly backend has no kernel for the gradient of indexing
 * (UnsortedSegmentSum). A probability plus zeros is that probability, bit for bit.
 */
export function crossEntropy(yHat, y, averaged = true) {
  const picked = tf.sum(tf.mul(yHat, tf.oneHot(y, yHat.shape[1])), 1);
  const losses = tf.neg(tf.log(picked));
  return averaged ? tf.mean(losses) : losses;
}

/** Minibatch stochastic gradient descent. */
export class SGD {
  constructor(variables, lr) {
    this.variables = variables;
    this.lr = lr;
  }

  /** Update the variables by gradients of the same names. */
  step(gradients) {
    for (const [name, variable] of Object.entries(this.variables)) {
      variable.assign(tf.sub(variable, tf.mul(this.lr, gradients[name])));
    }
  }
}

/** Softmax regression by hand; `forward` gives probabilities. */
export class SoftmaxRegressionScratch extends Classifier {
  yHat = "probabilities";

  constructor({ numInputs, numOutputs, lr, sigma, seed }) {
    super();
    this.lr = lr;
    this.W = tf.variable(tf.randomNormal([numInputs, numOutputs], 0, sigma, "float32", seed));
    this.b = tf.variable(tf.zeros([numOutputs]));
  }

  variables() {
    return { W: this.W, b: this.b };
  }

  forward(X) {
    return softmax(tf.add(tf.matMul(X, this.W), this.b));
  }

  loss(yHat, y, averaged = true) {
    return crossEntropy(yHat, y, averaged);
  }

  configureOptimizer() {
    return new SGD(this.variables(), this.lr);
  }
}
