// Speaks with SanoTTS: node sanotts.mjs ENGINE JOBS.json, with jobs of the keys text, out, voice and speed.
import { readFileSync, writeFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [, , enginePath, jobsPath] = process.argv;
const { synthesizeVoice } = await import(pathToFileURL(enginePath).href);
for (const { text, out, voice, speed } of JSON.parse(readFileSync(jobsPath, "utf8"))) {
  try {
    writeFileSync(out, await synthesizeVoice(voice, text, 25, { lengthScale: 1 / (speed ?? 1) }));
  } catch (error) {
    process.exitCode = 1;
    console.error(`sanotts: no sound for '${text}' (${error.message})`);
  }
}
