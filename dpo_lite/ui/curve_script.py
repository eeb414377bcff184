"""What the browser does with curves by itself: it reads them at the pointer, marks a part to look
at, and saves a panel as a picture. The server draws."""

CURVES_SCRIPT = """
const nearest = (line, step) => {
  let low = 0, high = line.at.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (line.at[middle][0] < step) low = middle; else high = middle;
  }
  return step - line.at[low][0] < line.at[high][0] - step ? line.at[low] : line.at[high];
};
const panels = () => [...element.querySelectorAll(".dl-panel[data-read]")];
const read = (panel) => {
  if (panel.dlText !== panel.dataset.read) {  // a panel that is drawn anew may be the same element
    panel.dlText = panel.dataset.read;
    panel.dlRead = JSON.parse(panel.dlText);
  }
  return panel.dlRead;
};
const stepAt = (panel, event) => {
  const box = panel.querySelector("svg").getBoundingClientRect();
  const {left, right, span} = read(panel);
  const share = ((event.clientX - box.left) / box.width - left) / (right - left);
  return span[0] + Math.min(Math.max(share, 0), 1) * (span[1] - span[0]);
};
const placeOf = (panel, step) => {
  const {left, right, span} = read(panel);
  return 100 * (left + (right - left) * (step - span[0]) / (span[1] - span[0]));
};
const svgPart = (panel, kind, css) => {
  const svg = panel.querySelector("svg");
  let part = svg.querySelector("." + css);
  if (!part) {
    part = document.createElementNS("http://www.w3.org/2000/svg", kind);
    part.setAttribute("class", css);
    svg.append(part);
  }
  return part;
};
const clear = () => {
  element.querySelectorAll(".dl-cross, .dl-part").forEach((part) => part.remove());
  element.querySelectorAll(".dl-reading").forEach((line) => {
    line.textContent = line.dataset.rest;
  });
};
let pointer = null;
const show = () => {
  if (!pointer) return;
  for (const panel of panels()) {
    const {span, lines} = read(panel);
    if (pointer.step < span[0] || pointer.step > span[1] || !lines.length) continue;
    const cross = svgPart(panel, "line", "dl-cross");
    const x = placeOf(panel, pointer.step) + "%";
    const ends = {x1: x, x2: x, y1: 8, y2: 180};
    for (const [key, value] of Object.entries(ends)) cross.setAttribute(key, value);
    const names = new Set(lines.map((line) => line.run)).size > 1;
    const keys = new Set(lines.map((line) => line.key)).size > 1;
    const words = lines.map((line) => {
      const [step, value] = nearest(line, pointer.step);
      const run = names ? line.run + " " : "";
      const key = keys ? line.key.split("/").pop() + " " : "";
      const kept = step === line.kept ? ", kept" : "";
      return `${run}${key}${value} (${line.unit} ${step}${kept})`;
    });
    panel.querySelector(".dl-reading").textContent = words.join(" · ");
  }
};
let start = null;
element.addEventListener("pointermove", (event) => {
  const panel = event.target.closest?.(".dl-panel[data-read]");
  if (!panel || !event.target.closest("svg")) { pointer = null; clear(); return; }
  pointer = {step: stepAt(panel, event)};
  show();
  if (!start || start.panel !== panel) return;
  const part = svgPart(panel, "rect", "dl-part");
  const [a, b] = [start.step, pointer.step].sort((one, other) => one - other);
  part.setAttribute("x", placeOf(panel, a) + "%");
  part.setAttribute("width", placeOf(panel, b) - placeOf(panel, a) + "%");
  part.setAttribute("y", 8);
  part.setAttribute("height", 172);
});
element.addEventListener("pointerleave", () => { pointer = null; start = null; clear(); });
element.addEventListener("pointerdown", (event) => {
  const panel = event.target.closest?.(".dl-panel[data-read]");
  if (!panel || !event.target.closest("svg") || event.button) return;
  event.preventDefault();
  start = {panel, step: stepAt(panel, event), x: event.clientX};
});
element.addEventListener("pointerup", (event) => {
  if (start && Math.abs(event.clientX - start.x) > 8) {
    const ends = [start.step, stepAt(start.panel, event)].sort((one, other) => one - other);
    if (ends[1] - ends[0] >= 1) trigger("click", {window: ends});
  }
  start = null;
});
element.addEventListener("dblclick", (event) => {
  if (event.target.closest(".dl-panel svg")) trigger("click", {window: null});
});
const KEPT = ["fill", "stroke", "stroke-width", "stroke-dasharray", "opacity"];
KEPT.push("font-size", "font-family", "text-anchor");
const picture = (panel) => {
  const svg = panel.querySelector("svg"), copy = svg.cloneNode(true);
  const [, , width, height] = svg.getAttribute("viewBox").split(" ").map(Number);
  const styled = [...svg.querySelectorAll("*")];
  [...copy.querySelectorAll("*")].forEach((part, place) => {
    const style = getComputedStyle(styled[place]);
    const rules = KEPT.map((key) => `${key}:${style.getPropertyValue(key)}`);
    part.setAttribute("style", rules.join(";"));
  });
  copy.setAttribute("width", 3 * width);
  copy.setAttribute("height", 3 * height);
  const image = new Image();
  image.onload = () => {
    const canvas = document.createElement("canvas");
    canvas.width = 3 * width;
    canvas.height = 3 * (height + 22);
    const context = canvas.getContext("2d"), style = getComputedStyle(panel);
    context.fillStyle = style.backgroundColor;
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.fillStyle = style.color;
    context.font = "600 36px sans-serif";
    const title = panel.querySelector("figcaption").textContent;
    context.fillText(title, 24, 46);
    context.drawImage(image, 0, 66);
    const link = document.createElement("a");
    link.download = title.replace(/[^A-Za-z0-9]+/g, "-") + ".png";
    link.href = canvas.toDataURL("image/png");
    link.click();
  };
  const text = new XMLSerializer().serializeToString(copy);
  image.src = "data:image/svg+xml," + encodeURIComponent(text);
};
element.addEventListener("click", (event) => {
  const button = event.target.closest(".dl-png");
  if (button) picture(button.closest(".dl-panel"));
});
watch("value", show);
"""
