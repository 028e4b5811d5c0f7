"use strict";
const element = (id) => document.getElementById(id);
const form = element("form"), drop = element("drop"), file = element("file"), result = element("result");
let running = null;

fetch("/readyz").then((response) => response.json()).then((ready) => {
  element("demo").hidden = ready.model !== "demo";
  if (ready.status !== "ready") show("The network is being loaded; a recording can be sent in a moment.");
}).catch(() => show("The service does not answer.", true));

function show(text, failed = false) {
  element("status").textContent = text;
  element("status").classList.toggle("failed", failed);
}

async function score() {
  if (running) running.abort();
  const controller = running = new AbortController();
  const body = new FormData();
  body.append("windows", element("windows").value);
  if (element("threshold").value.trim()) body.append("threshold", element("threshold").value.trim());
  body.append("file", file.files[0]);
  const key = element("key").value;
  show(`Scoring ${file.files[0].name} ...`);
  result.hidden = element("save").hidden = true;
  try {
    const headers = key ? { Authorization: `Bearer ${key}` } : {};
    const response = await fetch("/v1/page", { method: "POST", body, headers, signal: controller.signal });
    const text = await response.text();
    if (!response.ok) {
      show(JSON.parse(text).detail, true);
      element("status").focus();
      return;
    }
    result.srcdoc = text;
    result.hidden = element("save").hidden = false;
    URL.revokeObjectURL(element("download").href);
    element("download").href = URL.createObjectURL(new Blob([text], { type: "text/html" }));
    show(`${file.files[0].name} is scored.`);
    result.focus();
  } catch (error) {
    if (error.name !== "AbortError") show(`The service did not answer: ${error.message}`, true);
  } finally {
    if (running === controller) running = null;
  }
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  score();
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
  });
}
document.addEventListener("drop", (event) => {
  if (!event.dataTransfer.files.length) return;
  file.files = event.dataTransfer.files;
  score();
});
