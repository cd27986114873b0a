// Learning curves of all arms on one axis of what was spent: wheel, drag, pinch and keys zoom and pan.

// The first that every curve has is shown: compute is what all stages have in common.
const UNITS = {
  flops: ["Multiply-adds", value => short(value)],
  seconds: ["Time", value => clock(value)],
  images: ["Images seen", value => short(value)],
  epoch: ["Epoch", value => String(Math.round(value * 100) / 100)],
};

function short(value) {
  if (value === 0) return "0";
  const names = ["", "\u00a0k", "\u00a0M", "\u00a0G", "\u00a0T", "\u00a0P", "\u00a0E"];
  const step = Math.min(names.length - 1, Math.max(0, Math.floor(Math.log10(Math.abs(value)) / 3 + 1e-9)));
  return Number((value / 1000 ** step).toPrecision(3)) + names[step];
}

function clock(seconds) {
  if (seconds < 60) return Number(seconds.toPrecision(3)) + "\u00a0s";
  if (seconds < 3600) return Number((seconds / 60).toPrecision(3)) + "\u00a0min";
  return Number((seconds / 3600).toPrecision(3)) + "\u00a0h";
}

/** Round numbers between two ends. */
function marks(low, high, about) {
  const rough = (high - low) / about;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map(f => f * power).find(s => s >= rough * 0.999);
  const found = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) found.push(i * step);
  return [found, Math.max(0, -Math.floor(Math.log10(step) + 1e-9))];
}

function curveLab(place) {
  const has = (curve, key) => curve[key].some(value => value !== null);
  const axes = Object.keys(UNITS).filter(axis => data.curves.every(curve => has(curve, axis)));
  if (axes.length === 0) return;
  let axis = axes[0];
  let metric = data.curves.some(curve => has(curve, "top1")) ? "top1" : "loss";
  const off = new Set();
  let view = [0, 1]; // shares of the whole axis
  let pointed = null;

  const drawn = () => data.curves.filter((curve, i) => !off.has(i) && has(curve, metric));
  // A second stage of an arm is dashed, so that colour alone never tells two lines apart.
  const dashed = curve => data.curves.slice(0, data.curves.indexOf(curve)).some(other => other.colour === curve.colour && has(other, metric));
  const most = () => Math.max(1e-9, ...data.curves.flatMap(curve => has(curve, metric) ? curve[axis] : []).filter(v => v !== null));
  const inset = { left: 52, right: 14, top: 12, bottom: 38 };

  const spoken = make("p", { class: "unseen", "aria-live": "polite" });
  const tip = make("div", { class: "tip", hidden: true });
  const chart = sharpCanvas({ class: "chart", id: "curve-chart", tabindex: 0, role: "img" }, width => Math.max(260, Math.min(420, width * 0.5)), draw);

  function frame() {
    const [width, height] = chart.size();
    const whole = most();
    const [from, to] = [view[0] * whole, view[1] * whole];
    const x = value => inset.left + (value - from) / (to - from) * (width - inset.left - inset.right);
    const seen = [];
    for (const curve of drawn()) curve[metric].forEach((value, i) => {
      const at = curve[axis][i];
      if (value !== null && at !== null && at >= from && at <= to) seen.push(value);
    });
    let [low, high] = seen.length ? [Math.min(...seen), Math.max(...seen)] : [0, 1];
    const pad = Math.max((high - low) * 0.08, Math.abs(high) * 0.005, 1e-6);
    [low, high] = [low - pad, high + pad];
    const y = value => height - inset.bottom - (value - low) / (high - low) * (height - inset.top - inset.bottom);
    return { width, height, from, to, low, high, x, y };
  }

  function draw(context) {
    const { width, height, from, to, low, high, x, y } = frame();
    context.font = "11px " + FONT;
    context.lineWidth = 1;
    const [across, decimals] = marks(low * (metric === "top1" ? 100 : 1), high * (metric === "top1" ? 100 : 1), 5);
    context.textAlign = "right";
    for (const mark of across) {
      const at = y(metric === "top1" ? mark / 100 : mark);
      context.strokeStyle = palette.line;
      context.beginPath();
      context.moveTo(inset.left, at);
      context.lineTo(width - inset.right, at);
      context.stroke();
      context.fillStyle = palette.mute;
      context.fillText(mark.toFixed(decimals) + (metric === "top1" ? " %" : ""), inset.left - 8, at + 4);
    }
    context.textAlign = "center";
    for (const mark of marks(from, to, width < 500 ? 4 : 7)[0]) {
      context.fillText(UNITS[axis][1](mark), Math.min(x(mark), width - 22), height - inset.bottom + 17);
    }
    context.textAlign = "right";
    context.fillText(UNITS[axis][0] + (axis === "epoch" ? " of the stage" : " by the arm until then"), width - inset.right, height - 4);
    context.strokeStyle = palette.axis;
    context.beginPath();
    context.moveTo(inset.left, height - inset.bottom);
    context.lineTo(width - inset.right, height - inset.bottom);
    context.stroke();

    context.save();
    context.beginPath();
    context.rect(inset.left - 4, 0, width - inset.left - inset.right + 8, height - inset.bottom + 4);
    context.clip();
    for (const curve of drawn()) {
      const colour = palette.series[curve.colour];
      context.strokeStyle = context.fillStyle = colour;
      context.lineWidth = 2.25;
      context.lineJoin = "round";
      context.setLineDash(dashed(curve) ? [7, 5] : []);
      context.beginPath();
      let up = true;
      curve[metric].forEach((value, i) => {
        if (value === null || curve[axis][i] === null) { up = true; return; }
        context[up ? "moveTo" : "lineTo"](x(curve[axis][i]), y(value));
        up = false;
      });
      context.stroke();
      context.setLineDash([]);
      if (curve[metric].length <= 60) curve[metric].forEach((value, i) => {
        if (value === null || curve[axis][i] === null) return;
        context.beginPath();
        context.arc(x(curve[axis][i]), y(value), 2.75, 0, 7);
        context.fill();
      });
    }
    if (pointed !== null) {
      context.strokeStyle = palette.axis;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(pointed, inset.top);
      context.lineTo(pointed, height - inset.bottom);
      context.stroke();
    }
    context.restore();
  }

  function show(at) {
    const { width, from, to, x } = frame();
    pointed = Math.max(inset.left, Math.min(width - inset.right, at));
    const value = from + (pointed - inset.left) / (width - inset.left - inset.right) * (to - from);
    tip.replaceChildren(make("strong", {}, UNITS[axis][0] + " " + UNITS[axis][1](value)));
    for (const curve of drawn()) {
      let best = -1;
      curve[axis].forEach((v, i) => {
        if (v === null || curve[metric][i] === null) return;
        if (best < 0 || Math.abs(v - value) < Math.abs(curve[axis][best] - value)) best = i;
      });
      const known = curve[axis].filter((v, i) => v !== null && curve[metric][i] !== null).map(x);
      if (best < 0 || pointed < Math.min(...known) - 12 || pointed > Math.max(...known) + 12) continue;
      const shown = metric === "top1" ? percent(curve.top1[best]) : curve.loss[best].toFixed(4);
      tip.append(make("span", {}, make("i", { class: "b" + curve.colour + (dashed(curve) ? " dashed" : "") }), curve.title + " ",
        make("b", {}, shown), " at " + UNITS[axis][1](curve[axis][best])));
    }
    tip.hidden = false;
    const right = pointed > width / 2;
    tip.style.left = right ? "auto" : pointed + 12 + "px";
    tip.style.right = right ? width - pointed + 12 + "px" : "auto";
    chart.redraw();
  }
  function hide() {
    pointed = null;
    tip.hidden = true;
    chart.redraw();
  }

  function look(from, to) {
    const span = Math.min(1, Math.max(0.005, to - from));
    from = Math.min(1 - span, Math.max(0, from));
    view = [from, from + span];
    const whole = most();
    const text = UNITS[axis][1];
    spoken.textContent = UNITS[axis][0] + " from " + text(view[0] * whole) + " to " + text(view[1] * whole);
    chart.canvas.dataset.view = view.map(v => v.toFixed(4)).join(" ");
    reset.disabled = span === 1;
    describe();
    if (pointed === null) chart.redraw();
    else show(pointed);
  }
  function zoom(factor, around = 0.5) {
    const span = view[1] - view[0];
    const centre = view[0] + around * span;
    look(centre - around * span * factor, centre + (1 - around) * span * factor);
  }
  const shareAt = event => {
    const box = chart.canvas.getBoundingClientRect();
    return Math.max(0, Math.min(1, (event.clientX - box.left - inset.left) / (box.width - inset.left - inset.right)));
  };

  chart.canvas.addEventListener("wheel", event => {
    const whole = view[1] - view[0] === 1;
    if (whole && event.deltaY > 0) return; // nothing to zoom out of: the page scrolls on
    event.preventDefault();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, shareAt(event));
  }, { passive: false });
  const touching = new Map();
  chart.canvas.addEventListener("pointerdown", event => {
    touching.set(event.pointerId, event);
    chart.canvas.setPointerCapture(event.pointerId);
  });
  chart.canvas.addEventListener("pointermove", event => {
    const before = touching.get(event.pointerId);
    if (!before) return show(event.offsetX);
    const width = chart.size()[0] - inset.left - inset.right;
    const span = view[1] - view[0];
    if (touching.size === 2) {
      const other = [...touching.values()].find(touch => touch.pointerId !== event.pointerId);
      const [then, now] = [Math.abs(before.clientX - other.clientX), Math.abs(event.clientX - other.clientX)];
      if (then > 10 && now > 10) zoom(then / now, shareAt(other));
    } else {
      const by = (event.clientX - before.clientX) / width * span;
      look(view[0] - by, view[1] - by);
      show(event.offsetX);
    }
    touching.set(event.pointerId, event);
  });
  for (const end of ["pointerup", "pointercancel"]) chart.canvas.addEventListener(end, event => touching.delete(event.pointerId));
  chart.canvas.addEventListener("pointerleave", hide);
  chart.canvas.addEventListener("dblclick", () => look(0, 1));
  chart.canvas.addEventListener("keydown", event => {
    const span = view[1] - view[0];
    const keys = {
      ArrowLeft: () => look(view[0] - span / 8, view[1] - span / 8),
      ArrowRight: () => look(view[0] + span / 8, view[1] + span / 8),
      ArrowUp: () => zoom(0.8), ArrowDown: () => zoom(1.25),
      "+": () => zoom(0.8), "=": () => zoom(0.8), "-": () => zoom(1.25),
      0: () => look(0, 1), Home: () => look(0, span), End: () => look(1 - span, 1), Escape: hide,
    };
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
  });

  function describe() {
    const ends = drawn().map(curve => {
      const values = curve[metric].filter(value => value !== null);
      const last = values[values.length - 1];
      return curve.title + " ends at " + (metric === "top1" ? percent(last) : last.toFixed(3));
    });
    chart.canvas.setAttribute("aria-label", (metric === "top1" ? "Validation top-1" : "Training loss") + " against " +
      UNITS[axis][0].toLowerCase() + ". " + ends.join(". ") + ". Keys: arrows pan and zoom, plus and minus zoom, 0 shows all.");
  }

  const legend = make("div", { class: "toggles", role: "group", "aria-label": "Curves shown" });
  function fillLegend() {
    legend.replaceChildren();
    data.curves.forEach((curve, i) => {
      if (!has(curve, metric)) return;
      const button = make("button", { type: "button", "aria-pressed": String(!off.has(i)), onclick: () => {
        if (off.has(i)) off.delete(i); else off.add(i);
        button.setAttribute("aria-pressed", String(!off.has(i)));
        describe();
        chart.redraw();
      } }, make("i", { class: "b" + curve.colour + (dashed(curve) ? " dashed" : "") }), curve.title,
      metric === "loss" ? make("small", {}, " " + curve.loss_name) : "");
      legend.append(button);
    });
  }

  const reset = make("button", { type: "button", class: "plain", disabled: true, onclick: () => look(0, 1) }, "Show all");
  const controls = make("div", { class: "controls" });
  if (data.curves.some(curve => has(curve, "top1"))) controls.append(choice("Show", [["top1", "Validation top-1"], ["loss", "Training loss"]], metric, value => {
    metric = value;
    fillLegend();
    look(0, 1);
  }));
  controls.append(choice("Against", axes.map(key => [key, UNITS[key][0]]), axis, value => {
    axis = value;
    look(...view);
  }), reset);
  place.append(controls, legend, make("div", { class: "chart-holder" }, chart.canvas, tip), spoken,
    make("p", { class: "small" }, "Scroll, pinch or press + and − to zoom; drag or use the arrow keys to move; 0 or a double click shows all."));
  fillLegend();
  look(0, 1);
}

const curvePlace = document.getElementById("curve-lab");
if (data && curvePlace && data.curves.length > 0) later(() => curveLab(curvePlace));
