/** Runs one task of one implementation: progress on standard output, a record at the end. */

import { writeSync } from "node:fs";

console.log = console.info = console.error; // standard output is for progress alone

const say = (event, facts = {}) => writeSync(1, `${JSON.stringify({ event, ...facts })}\n`);
const end = () => process.exit(1);

// End with the runner: it holds the other end of standard input, however it ends itself.
process.stdin.on("end", end).on("error", end).resume();
try {
  say("importing");
  const started = performance.now();
  const { run } = await import("./run.mjs");
  await run(say, (performance.now() - started) / 1000);
  process.exit(0); // standard input is still open
} catch (error) {
  // The report quotes the last lines, so the message comes last.
  if (!error.refusal) console.error(error.stack);
  console.error(error.message);
  process.exit(1);
}
