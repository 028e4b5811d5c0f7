// Speaks with gnuspeech: node gnuspeech.mjs MODULE JOBS.json, with jobs of the keys text, out, voice and speed.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , modulePath, jobsPath] = process.argv;
const { synthesize } = await import(pathToFileURL(modulePath).href);
for (const { text, out, voice, speed } of JSON.parse(readFileSync(jobsPath, "utf8"))) {
  const { audioData } = await synthesize(text, { voice, tempo: speed ?? 1 });
  writeFileSync(out, audioData);
}
