// What a keyboard, a screen reader and weak eyes need and Gradio's own parts lack.

// A box that scrolls is reached by Tab where nothing in it is; one that fits is no stop on the way.
const SCROLLS = ".dl-scroll, .dl-command code, .dl-pre, .dl-text, .dl-frame, .dl-frames, .dl-chat, .dl-cards," +
  " #publish-card :is(table, pre), .cm-scroller";
const REACHED = "a[href], button, input, select, textarea, [tabindex], [contenteditable=true]";
function reachable() {
  for (const box of document.querySelectorAll(SCROLLS)) {
    const more = box.scrollWidth > box.clientWidth + 1 || box.scrollHeight > box.clientHeight + 1;
    if (more && !box.querySelector(REACHED)) box.tabIndex = 0;
    else if (!more && box.hasAttribute("tabindex")) box.removeAttribute("tabindex");
  }
}

// The editor colours YAML too faintly to be read; each of its colours is mixed with the ink. Its rules are
// made anew when another part of it is loaded, so they are looked at again.
function readable() {
  for (const sheet of document.styleSheets) {
    if (sheet.href || !sheet.ownerNode?.textContent.includes(".\u037c")) continue;
    for (const rule of sheet.cssRules) {
      const color = rule.style?.color;
      if (!rule.selectorText?.startsWith(".\u037c") || !color?.match(/^(#|rgb)/)) continue;
      if (rule.selectorText.includes(" ")) continue; // of the editor's frame, not of its words
      rule.style.color = `color-mix(in srgb, ${color} 40%, var(--dl-ink))`;
    }
  }
}

// Gradio calls every editor by the same words; and Tab leaves it, as it leaves any other field.
function named() {
  const editor = document.querySelector("#recipes-yaml .cm-content");
  if (editor && editor.ariaLabel !== "The recipe as YAML") editor.ariaLabel = "The recipe as YAML";
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Tab" && event.target.closest?.(".cm-content")) event.stopImmediatePropagation();
}, true);

// What a check or a plan found is of the recipe as it was then.
function outdated() {
  const found = document.querySelector("#recipes-outcome [data-of]");
  const now = document.querySelector("#recipes-command [data-of]")?.dataset.of;
  const old = found && found.dataset.of !== now;
  if (found && found.classList.contains("dl-outdated") !== old) found.classList.toggle("dl-outdated", old);
}

let soon = null;
function look() {
  if (soon !== null) return;
  soon = setTimeout(() => {
    soon = null;
    reachable();
    readable();
    named();
    outdated();
  }, 300);
}
new MutationObserver(look).observe(document.documentElement, {childList: true, subtree: true});
look();
window.addEventListener("resize", look);

// Escape says no to what asks, as a click on the button does.
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const no = [...document.querySelectorAll("#runs-delete-no, #chat-leave")].find((b) => b.offsetParent);
  no?.click();
});
