// What all parts share: the page's data, colours of the ground in use, elements, canvases of the right sharpness.

const root = document.documentElement;
root.classList.add("js");
const holder = document.getElementById("data");
const data = holder ? JSON.parse(holder.textContent) : null;

/** Numbers packed as base 64, little endian. */
function unpack(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  if (packed.kind === "u8") return bytes;
  const view = new DataView(bytes.buffer);
  const wide = packed.kind === "u32";
  const numbers = wide ? new Uint32Array(bytes.length / 4) : new Uint16Array(bytes.length / 2);
  for (let i = 0; i < numbers.length; i++) numbers[i] = wide ? view.getUint32(4 * i, true) : view.getUint16(2 * i, true);
  return numbers;
}

/** An element with attributes, texts and children. */
function make(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** Buttons of which one is chosen. `choices`: pairs of value and label. */
function choice(label, choices, chosen, change) {
  const name = "choice-" + label.toLowerCase().replace(/[^a-z]+/g, "-");
  const group = make("fieldset", { class: "choice" }, make("legend", {}, label));
  for (const [value, text] of choices) {
    const input = make("input", { type: "radio", name, value, checked: value === chosen, onchange: () => change(value) });
    group.append(make("label", {}, input, make("span", {}, text)));
  }
  return group;
}

const listeners = [];
let palette = readPalette();
function readPalette() {
  const style = getComputedStyle(root);
  const of = name => style.getPropertyValue("--" + name).trim();
  const series = [];
  for (let i = 0; i < 10; i++) series.push(of("c" + i));
  return { series, ink: of("ink"), mute: of("mute"), line: of("line"), axis: of("axis"), paper: of("paper"), good: of("good"), bad: of("bad") };
}

/** Calls `draw` whenever the ground's colours change. */
function onColours(draw) {
  listeners.push(draw);
}
function coloursChanged() {
  palette = readPalette();
  for (const draw of listeners) draw();
}
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", coloursChanged);

const theme = document.getElementById("theme");
if (theme) {
  const names = { auto: "Theme: system", light: "Theme: light", dark: "Theme: dark" };
  const order = Object.keys(names);
  let now = "auto";
  theme.hidden = false;
  theme.addEventListener("click", () => {
    now = order[(order.indexOf(now) + 1) % order.length];
    if (now === "auto") root.removeAttribute("data-theme");
    else root.setAttribute("data-theme", now);
    theme.textContent = names[now];
    coloursChanged();
  });
}

/** A canvas that fills its width; `draw(context, width, height)` works in CSS pixels. */
function sharpCanvas(attributes, heightOf, draw) {
  const canvas = make("canvas", attributes);
  let size = [0, 0];
  const redraw = () => {
    const [width, height] = size;
    if (width === 0) return;
    const context = canvas.getContext("2d");
    const sharp = canvas.width / width;
    context.setTransform(sharp, 0, 0, sharp, 0, 0);
    context.clearRect(0, 0, width, height);
    draw(context, width, height);
  };
  new ResizeObserver(() => {
    const width = Math.round(canvas.clientWidth);
    if (width === 0 || width === size[0]) return;
    const height = Math.round(heightOf(width));
    const sharp = Math.min(3, window.devicePixelRatio || 1);
    canvas.style.height = height + "px";
    canvas.width = Math.round(width * sharp);
    canvas.height = Math.round(height * sharp);
    size = [width, height];
    redraw();
  }).observe(canvas);
  onColours(redraw);
  return { canvas, redraw, size: () => size };
}

/** Calls `work` once the page is there and the browser has time: what is read first comes first. */
function later(work) {
  const idle = () => window.requestIdleCallback ? requestIdleCallback(work, { timeout: 500 }) : setTimeout(work, 0);
  if (document.readyState === "complete") idle();
  else addEventListener("load", idle, { once: true });
}

const FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif";
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const className = label => data.classes[label] ?? "class " + label;
const percent = share => (100 * share).toFixed(1) + "\u00a0%";

// The interactive chart shows what the still figures show: they are folded away, but not in print.
for (const still of document.querySelectorAll("details.stages")) still.open = false;
addEventListener("beforeprint", () => {
  for (const folded of document.querySelectorAll("details")) folded.open = true;
});
// Once the page stands, what is out of sight is laid out too: a picture of the whole page holds all of it.
later(() => root.classList.add("whole"));
