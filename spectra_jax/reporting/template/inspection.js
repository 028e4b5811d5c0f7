"use strict";

// Each recording: its windows can be played, and a playhead shows the position of its audio.
for (const section of document.querySelectorAll(".recording")) {
  const tracks = section.querySelector(".tracks");
  if (!tracks) continue;
  const audio = section.querySelector("audio");
  const overlay = tracks.querySelector(".overlay");
  const playhead = tracks.querySelector(".playhead");
  const chosen = tracks.querySelector(".chosen");
  const text = section.querySelector(".chosen-window");
  const seconds = Number(tracks.dataset.seconds);
  const audible = Number(tracks.dataset.audible);
  const windows = Array.from(section.querySelectorAll(".windows tbody tr"));
  let index = -1;
  let end = null; // where what is played ends; null to play on

  const time = (value) => {
    const hundredths = Math.round(value * 100);
    const minutes = Math.floor(hundredths / 6000);
    const two = (number) => String(number).padStart(2, "0");
    const rest = `${two(Math.floor((hundredths % 6000) / 100))}.${two(hundredths % 100)}`;
    return minutes >= 60 ? `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${rest}` : `${minutes}:${rest}`;
  };
  const percent = (value) => `${(100 * value) / seconds}%`;

  const move = (position) => {
    playhead.hidden = false;
    playhead.style.left = percent(position);
    overlay.setAttribute("aria-valuenow", position.toFixed(2));
  };
  const describe = (row) => {
    const cells = Array.from(row.cells, (cell) => cell.textContent);
    const remarks = [cells[4] === "no" ? "does not count" : "", cells[5]].filter(Boolean).join(", ");
    return `Window ${cells[0]} to ${cells[1]}: score ${cells[2]}${remarks ? `, ${remarks}` : ""}`;
  };
  const show = (start, stop, words) => {
    chosen.hidden = false;
    chosen.style.left = percent(start);
    chosen.style.width = percent(stop - start);
    const silent = start >= audible ? " (its audio is not on this page)" : "";
    text.textContent = words + silent;
    overlay.setAttribute("aria-valuetext", words + silent);
    move(start);
  };
  const choose = (next) => {
    if (!windows.length) return;
    windows[index]?.classList.remove("current");
    index = Math.min(Math.max(next, 0), windows.length - 1);
    const row = windows[index];
    row.classList.add("current");
    show(Number(row.dataset.start), Number(row.dataset.end), describe(row));
  };
  const play = (start, stop) => {
    if (!audio || start >= audible) return;
    for (const other of document.querySelectorAll("audio")) if (other !== audio) other.pause();
    end = stop;
    audio.currentTime = start;
    audio.play().catch(() => {});
  };
  const playChosen = () => {
    if (index >= 0) play(Number(windows[index].dataset.start), Number(windows[index].dataset.end));
  };
  const windowAt = (position) =>
    windows.findIndex((row) => Number(row.dataset.from) <= position && position < Number(row.dataset.to));

  overlay.tabIndex = 0;
  text.hidden = false;
  text.textContent = "Click, or press an arrow key and Enter, to choose a window and play it.";
  const attributes = {
    role: "slider", "aria-label": overlay.dataset.label, "aria-valuemin": "0", "aria-valuemax": seconds.toFixed(2),
    "aria-valuenow": "0", "aria-valuetext": "no window",
  };
  for (const [name, value] of Object.entries(attributes)) overlay.setAttribute(name, value);
  overlay.addEventListener("click", (event) => {
    const box = overlay.getBoundingClientRect();
    const position = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1) * seconds;
    const found = windowAt(position);
    if (found >= 0) {
      choose(found);
      playChosen();
    } else {
      windows[index]?.classList.remove("current");
      index = -1;
      show(position, position, `${time(position)}: in no window, and not scored`);
      play(position, null);
    }
  });
  overlay.addEventListener("keydown", (event) => {
    const page = Math.max(Math.round(windows.length / 10), 1);
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: page, PageDown: -page };
    if (event.key in steps) choose(index < 0 ? 0 : index + steps[event.key]);
    else if (event.key === "Home") choose(0);
    else if (event.key === "End") choose(windows.length - 1);
    else if (event.key === "Enter" || event.key === " ") {
      if (audio && !audio.paused) audio.pause();
      else if (index < 0) choose(0), playChosen();
      else playChosen();
    } else return;
    event.preventDefault();
  });

  // Times of the tables become buttons.
  for (const row of section.querySelectorAll("tr[data-start]")) {
    const [start, stop] = [Number(row.dataset.start), Number(row.dataset.end)];
    if (!audio || start >= audible) continue;
    const button = document.createElement("button");
    button.type = "button";
    button.className = "play";
    button.textContent = row.cells[0].textContent;
    button.setAttribute("aria-label", `Play ${button.textContent} to ${row.cells[1].textContent}`);
    row.cells[0].replaceChildren(button);
    button.addEventListener("click", () => {
      const number = windows.indexOf(row);
      if (number >= 0) choose(number);
      else show(start, stop, `Segment ${time(start)} to ${time(stop)}`);
      play(start, stop);
    });
  }

  if (!audio) continue;
  const follow = () => {
    if (end !== null && audio.currentTime >= end) {
      audio.pause();
      end = null;
    }
    move(audio.currentTime);
    if (!audio.paused) requestAnimationFrame(follow);
  };
  audio.addEventListener("play", follow);
  audio.addEventListener("seeked", () => move(audio.currentTime));
  // The user's own move of the player plays on.
  audio.addEventListener("pause", () => { end = null; });
}
