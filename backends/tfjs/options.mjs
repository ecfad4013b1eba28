/** What the runner asks for: the command line of command.toml, read once. */

import { parseArgs } from "node:util";

const { values } = parseArgs({
  options: {
    environment: { type: "string" },
    task: { type: "string", default: "train" },
    implementation: { type: "string", default: "scratch" },
    plan: { type: "string" },
    reference: { type: "string" },
    record: { type: "string" },
    seed: { type: "string", default: "0" },
  },
});

export const options = values;
