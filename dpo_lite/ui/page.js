// What the page does without the server: copying, and keeping the address in step with what is shown.
document.addEventListener("click", async (event) => {
  const button = event.target.closest(".dl-copy");
  if (!button) return;
  const text = button.dataset.copy;
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // No clipboard outside of https and localhost: copy by hand.
    const area = document.createElement("textarea");
    area.value = text;
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1200);
});

// The first tab is opened before the address is read, which must not count as a choice.
const first = new URL(location).searchParams;
let settled = false;

window.dlFirstAddress = () => {
  settled = true;
  document.body.dataset.settled = ""; // Gradio has drawn all and listens
  return [first.get("tab") || "", first.get("runs") || ""];
};

window.dlAddress = (key, value) => {
  if (!settled) return;
  const address = new URL(location);
  if (value) address.searchParams.set(key, value);
  else address.searchParams.delete(key);
  history.replaceState(null, "", address);
};

// Gradio's text fields tell of input only when a key makes a letter. Deleting, pasting and input methods
// are input too, so they are told as such a key; the field's value is what counts.
let letter = false;
document.addEventListener("keypress", (event) => {
  letter = event.isTrusted;
  setTimeout(() => (letter = false)); // Enter and the like make none: what is pasted next is not theirs
}, true);
document.addEventListener("input", (event) => {
  const told = letter;
  letter = false;
  if (told || !event.target.matches?.("[data-testid=textbox]")) return;
  event.target.dispatchEvent(new KeyboardEvent("keypress", {bubbles: true, key: "Unidentified"}));
});

// The recipe's form as it stands on the screen, by key: what is sent along when a button is clicked, so that
// it acts on what is shown and not on what the server has heard of so far.
window.dlShown = () => {
  const shown = {};
  for (const field of document.querySelectorAll("#recipes-form .dl-field[id]")) {
    const input = field.querySelector("[data-testid=textbox], input, textarea");
    if (input) shown[field.dataset.key || field.id.replace(/^recipes-/, "").replace("-", ".")] = input.value;
  }
  return JSON.stringify(shown);
};

// Whether somebody changed the recipe before the page heard what the browser remembers of an earlier one. Who
// did keeps that; for all others it holds still while the remembered one is put there, so that nothing is typed
// over what is about to be replaced.
const RECIPE = "#recipes-start, #recipes-cards, #recipes-form, #recipes-yaml";
let touched = false, typed = false;
for (const kind of ["input", "change", "drop", "keydown", "mousedown"]) {
  document.addEventListener(kind, (event) => {
    const part = event.target.closest?.(RECIPE);
    const presses = {keydown: ".cm-content", mousedown: "[data-recipe], [role=option]"}[kind];
    if (!part || (presses && !event.target.closest(presses))) return;
    touched = true;
    typed = part.matches("#recipes-form, #recipes-yaml") && kind !== "mousedown";
  }, true);
}
const recipes = () => document.querySelector("#tab-recipes");
window.dlTouched = () => {
  if (!touched && recipes()) recipes().inert = true;
  setTimeout(window.dlRelease, 10000); // an answer that never came
  return touched ? "yes" : "";
};
// Before Gradio listens to a field, what is typed there is told to nobody; by now it does.
window.dlOpened = () => typed && document.querySelector("#recipes-early")?.click();
window.dlRelease = () => {
  if (recipes()) recipes().inert = false;
};

// A file that is dropped on the first questions is chosen there.
const START = "#recipes-start";
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    const start = event.target.closest?.(START);
    if (!start || ![...(event.dataTransfer?.types || [])].includes("Files")) return;
    event.preventDefault();
    start.classList.toggle("dl-over-it", kind === "dragenter" || kind === "dragover");
    const input = document.querySelector("#recipes-start-file input[type=file], input#recipes-start-file");
    const chooser = input || document.querySelector("#recipes-start-file")?.parentElement?.querySelector("input[type=file]");
    if (kind !== "drop" || !chooser) return;
    chooser.files = event.dataTransfer.files;
    chooser.dispatchEvent(new Event("change", {bubbles: true}));
  }, true);
}

// A menu that one can write in is emptied by the first letter, as a menu is expected to be.
document.addEventListener("click", (event) => {
  if (event.target.matches?.(".wrap-inner input:not([readonly])")) setTimeout(() => event.target.select());
});

// Keys 1, 2, … press the vote buttons while they are there, else "Prefer this" of the answer in that place,
// unless somebody types.
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.target.closest("input, textarea, select, [contenteditable]")) return;
  const place = "123456789".indexOf(event.key);
  const there = (which) => [...document.querySelectorAll(which)].filter((b) => b.offsetParent);
  const blind = there("#compare-vote button");
  const buttons = blind.length ? blind : there("#compare-answers button[data-said=best]");
  if (place >= 0 && buttons[place] && !buttons[place].disabled) buttons[place].click();
});

// The browser's tab says how far a run is and how it ended, with a sound where that was asked for.
let seen = null, runs = false, told = "";
const SOUND = "dl-sound";
window.dlSound = (on) => {
  localStorage.setItem(SOUND, on ? "on" : "");
  if (on) ring();
};
function ring() {
  const context = new AudioContext(), end = context.currentTime + 0.5;
  const tone = context.createOscillator(), volume = context.createGain();
  volume.gain.setValueAtTime(0.15, context.currentTime);
  volume.gain.exponentialRampToValueAtTime(0.001, end);
  tone.connect(volume).connect(context.destination);
  tone.start();
  tone.stop(end);
}
function tell(title, ended) {
  if (seen !== null && ended !== seen && runs) {
    told = ended;
    if (localStorage.getItem(SOUND)) ring();
  }
  seen = ended;
  runs = Boolean(title);
  if (title) told = "";
  document.title = [title || told, "dpo-lite"].filter(Boolean).join(" · ");
}

// Every other second: what runs, and which of the tabs shows something that has changed since.
const marks = {};

async function pulse() {
  const runs = new URL(location).searchParams.get("runs") || "";
  const answer = await fetch(`pulse?runs=${encodeURIComponent(runs)}`);
  if (!answer.ok) return;
  const {line, title, ended, ...now} = await answer.json();
  tell(title, ended);
  const bar = document.querySelector("#status-bar .dl-top");
  if (bar && marks.line !== line) bar.outerHTML = line;
  marks.line = line;
  for (const [tab, mark] of Object.entries(now)) {
    const button = document.querySelector(`#${tab}-changed`);
    const shown = document.querySelector(`#tab-${tab}`)?.offsetParent;
    if (button && shown && marks[tab] !== mark) {
      marks[tab] = mark;
      button.click();
    }
  }
}

let beat;
async function beats() {
  clearTimeout(beat);
  try {
    if (!document.hidden) await pulse();
  } catch {
    // The server is gone; Gradio says so, and it may come back.
  }
  clearTimeout(beat);
  beat = setTimeout(beats, 2000);
}
document.addEventListener("visibilitychange", beats);
document.addEventListener("click", (event) => event.target.closest("[role=tab]") && setTimeout(beats));
beats();
