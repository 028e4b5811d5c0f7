"use strict";

// The theme: the reader's setting until the button changes it.
{
  const root = document.documentElement;
  const button = document.getElementById("theme");
  const prefersDark = window.matchMedia("(prefers-color-scheme: dark)");
  const isDark = () => (root.dataset.theme ? root.dataset.theme === "dark" : prefersDark.matches);
  const show = () => {
    button.setAttribute("aria-pressed", String(isDark()));
  };
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    show();
  });
  prefersDark.addEventListener("change", show);
  button.hidden = false;
  show();
}

// A table that is wider than the page has a line above it that states so.
for (const region of document.querySelectorAll(".scroll")) {
  const note = document.createElement("p");
  note.className = "more-columns";
  note.textContent = "Scroll sideways for more columns \u2192";
  note.hidden = true;
  region.before(note);
  const update = () => { note.hidden = region.scrollWidth <= region.clientWidth + 1; };
  new ResizeObserver(update).observe(region);
  update();
}
