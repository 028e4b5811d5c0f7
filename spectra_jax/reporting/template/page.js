"use strict";

// The charts. Their colours are CSS variables, so that a change of theme needs no redrawing.
{
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const font = getComputedStyle(document.body).fontFamily;
  const config = {
    aria: false,
    background: null,
    font,
    padding: { left: 0, top: 6, right: 8, bottom: 4 },
    view: { stroke: null },
    axis: {
      labelColor: "var(--muted)", titleColor: "var(--muted)", gridColor: "var(--rule)", domainColor: "var(--faint)",
      tickColor: "var(--faint)", labelFontSize: 12, titleFontSize: 12, titleFontWeight: "normal", titlePadding: 8,
      labelLimit: 130, tickSize: 4,
    },
    axisY: { ticks: false, domain: false, labelPadding: 6 },
  };
  const options = { actions: false, ast: true, renderer: "svg", config };
  const drawn = Object.entries(specs).map(([id, spec]) => vegaEmbed(document.getElementById(id), spec, options));
  Promise.all(drawn).then(
    () => { document.documentElement.dataset.drawn = String(drawn.length); },
    (error) => { console.error(error); },
  );
}

// The trials: filtered by all words of the input, sorted by the button of a column.
const table = document.getElementById("trials-table");
if (table) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const clips = Array.from(document.querySelectorAll(".clips li"));
  const input = document.getElementById("filter");
  const shown = document.getElementById("shown");
  const filter = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    const kept = new Set();
    for (const row of rows) {
      const cells = Array.from(row.cells, (cell) => cell.textContent).join("\n").toLowerCase();
      const matches = words.every((word) => cells.includes(word));
      row.hidden = !matches;
      if (matches) kept.add(row.dataset.trial);
    }
    for (const clip of clips) clip.hidden = !kept.has(clip.dataset.trial);
    shown.textContent = `${kept.size} of ${rows.length}`;
  };
  input.addEventListener("input", filter);
  input.form.addEventListener("submit", (event) => event.preventDefault());

  const heads = Array.from(table.tHead.rows[0].cells);
  const names = new Intl.Collator("en", { numeric: true });
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const rising = head.getAttribute("aria-sort") !== "ascending";
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const numeric = head.classList.contains("number");
      const value = (row) => row.cells[column].textContent;
      const order = (a, b) => {
        if (!numeric) return names.compare(value(a), value(b));
        const [x, y] = [Number.parseFloat(value(a)), Number.parseFloat(value(b))];
        return (Number.isNaN(x) ? -Infinity : x) - (Number.isNaN(y) ? -Infinity : y) || 0;
      };
      body.append(...rows.sort((a, b) => (rising ? order(a, b) : order(b, a))));
    });
  });
}
