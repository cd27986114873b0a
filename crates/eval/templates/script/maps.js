// Embedding maps side by side. Pointing at a dot shows its photograph, and where its neighbours lie in every map.

const NOWHERE = 65535;

function mapLab(place) {
  const gallery = data.gallery && {
    labels: unpack(data.gallery.labels),
    tile: data.gallery.tile,
    arms: data.gallery.arms.map(arm => ({ ...arm, predicted: unpack(arm.predicted), confidence: unpack(arm.confidence), neighbours: unpack(arm.neighbours) })),
  };
  const methods = data.maps.map(map => ({
    method: map.method, images: unpack(map.images), labels: unpack(map.labels),
    arms: map.arms.map(arm => ({ ...arm, points: unpack(arm.points) })),
  }));
  for (const map of methods) map.position = new Map(Array.from(map.images, (image, position) => [image, position]));
  let map = methods[0];
  let alone = null; // the class that is looked at
  let chosen = null; // image
  let pinned = false;
  const card = photographCard(gallery);
  const views = [];

  /** Neighbours of the chosen image by the arm of that name, or none. */
  function neighbours(name) {
    const arm = gallery && gallery.arms.find(arm => arm.arm === name);
    if (!arm || chosen === null || arm.each === 0) return [];
    return Array.from(arm.neighbours.subarray(chosen * arm.each, (chosen + 1) * arm.each));
  }

  function view(index) {
    const arm = () => map.arms[index];
    const margin = 10;
    const at = (position, side) => {
      const [x, y] = [arm().points[2 * position], arm().points[2 * position + 1]];
      if (x === NOWHERE) return null;
      return [margin + x / (NOWHERE - 1) * (side - 2 * margin), side - margin - y / (NOWHERE - 1) * (side - 2 * margin)];
    };
    // Dots change seldom, what is highlighted often: they are kept as a picture.
    let still = null;
    let stillOf = "";
    function dots(width) {
      const sharp = plane.canvas.width / width;
      const key = [map.method, alone, width, sharp, palette.paper].join(" ");
      if (still && stillOf === key) return still;
      still = document.createElement("canvas");
      still.width = still.height = plane.canvas.width;
      stillOf = key;
      const context = still.getContext("2d");
      context.setTransform(sharp, 0, 0, sharp, 0, 0);
      const radius = map.images.length > 4000 ? 1.6 : map.images.length > 1500 ? 2 : 2.6;
      for (const behind of [true, false]) for (let i = 0; i < map.images.length; i++) {
        const shown = alone === null || map.labels[i] === alone;
        if (shown === behind) continue;
        const place = at(i, width);
        if (!place) continue;
        context.globalAlpha = shown ? 0.8 : 0.07;
        context.fillStyle = palette.series[map.labels[i] % 10];
        context.beginPath();
        context.arc(place[0], place[1], radius, 0, 7);
        context.fill();
      }
      return still;
    }
    function draw(context, width) {
      context.drawImage(dots(width), 0, 0, width, width);
      context.strokeStyle = palette.line;
      context.lineWidth = 1;
      context.strokeRect(0.5, 0.5, width - 1, width - 1);
      if (chosen === null || !map.position.has(chosen)) return;
      const centre = at(map.position.get(chosen), width);
      if (!centre) return;
      map.arms.forEach((other, which) => {
        const own = which === index;
        for (const image of neighbours(other.arm)) {
          const position = map.position.get(image);
          const there = position === undefined ? null : at(position, width);
          if (!there) continue;
          context.strokeStyle = palette.ink;
          context.globalAlpha = own ? 0.45 : 0.25;
          context.lineWidth = 1;
          context.setLineDash(own ? [] : [3, 3]);
          context.beginPath();
          context.moveTo(...centre);
          context.lineTo(...there);
          context.stroke();
          context.setLineDash([]);
          context.globalAlpha = 1;
          context.fillStyle = palette.series[map.labels[position] % 10];
          context.lineWidth = 1.5;
          context.beginPath();
          if (which === 0) context.arc(there[0], there[1], 4.5, 0, 7);
          else context.rect(there[0] - 4, there[1] - 4, 8, 8);
          context.fill();
          context.stroke();
        }
      });
      context.fillStyle = palette.series[map.labels[map.position.get(chosen)] % 10];
      context.strokeStyle = palette.paper;
      context.lineWidth = 5;
      context.beginPath();
      context.arc(centre[0], centre[1], 7, 0, 7);
      context.stroke();
      context.strokeStyle = palette.ink;
      context.lineWidth = 2.5;
      context.fill();
      context.stroke();
    }
    const plane = sharpCanvas({ class: "plane", tabindex: 0, role: "img", "data-arm": arm().arm }, width => width, draw);

    function nearestTo(x, y, reach, pass = () => true) {
      const side = plane.size()[0];
      let best = null, least = reach * reach;
      for (let i = 0; i < map.images.length; i++) {
        if (alone !== null && map.labels[i] !== alone) continue;
        const place = at(i, side);
        if (!place || !pass(place, i)) continue;
        const far = (place[0] - x) ** 2 + (place[1] - y) ** 2;
        if (far < least) [best, least] = [map.images[i], far];
      }
      return best;
    }
    plane.canvas.addEventListener("pointermove", event => {
      if (pinned || event.pointerType === "touch") return;
      const found = nearestTo(event.offsetX, event.offsetY, 16);
      if (found !== null && found !== chosen) choose(found);
    });
    plane.canvas.addEventListener("click", event => {
      const found = nearestTo(event.offsetX, event.offsetY, 28);
      pinned = found !== null && !(pinned && found === chosen);
      if (found !== null) choose(found);
    });
    plane.canvas.addEventListener("keydown", event => {
      const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") {
        pinned = false;
        choose(null);
      } else if (event.key === "Enter" || event.key === " ") {
        pinned = chosen !== null && !pinned;
      } else if (event.key === "Home" || (way && (chosen === null || !map.position.has(chosen)))) {
        const side = plane.size()[0];
        choose(nearestTo(side / 2, side / 2, side));
      } else if (way) {
        const side = plane.size()[0];
        const here = at(map.position.get(chosen), side);
        if (!here) return;
        // The nearest dot within 45 degrees of the way that the key points.
        const ahead = place => {
          const [dx, dy] = [place[0] - here[0], place[1] - here[1]];
          const along = dx * way[0] + dy * way[1];
          return along > 0.5 && along >= Math.abs(dx * way[1] + dy * way[0]);
        };
        const found = nearestTo(here[0], here[1], 2 * side, ahead);
        if (found !== null) choose(found);
      } else return;
      event.preventDefault();
    });
    return { plane, title: make("h3", {}), index, at };
  }

  function choose(image, note = "") {
    chosen = image;
    if (image !== null && !map.position.has(image)) note = "It is not among the " + map.images.length + " images of this map.";
    number.value = image === null ? "" : image;
    place.dataset.image = image === null ? "" : image;
    card.show(image, note);
    for (const { plane } of views) plane.redraw();
  }
  function redrawAll() {
    for (const { plane, title, index } of views) {
      title.textContent = map.arms[index].title + " · " + map.method;
      plane.canvas.setAttribute("aria-label", "Map of the " + map.arms[index].title + " features by " + map.method + ", " + map.images.length +
        " test images coloured by class. Arrow keys go from dot to dot, Enter holds one, Escape lets go; the chosen image is told below.");
      plane.redraw();
    }
  }

  const number = make("input", { type: "number", min: 0, inputmode: "numeric", id: "image-number", onchange: () => {
    const image = Math.floor(Number(number.value));
    const known = gallery ? image >= 0 && image < gallery.labels.length : map.position.has(image);
    if (number.value === "") return choose(null);
    if (!known) return choose(null, gallery ? "There is no test image " + number.value + "; they are numbered from 0 to " + (gallery.labels.length - 1) + "." :
      "Test image " + number.value + " is not among the " + map.images.length + " images of this map.");
    pinned = true;
    choose(image);
  } });
  if (gallery) number.max = gallery.labels.length - 1;
  const controls = make("div", { class: "controls" });
  if (methods.length > 1) controls.append(choice("Map", methods.map((m, i) => [String(i), m.method]), "0", value => {
    map = methods[Number(value)];
    redrawAll();
    if (chosen !== null) choose(chosen);
  }));
  controls.append(make("label", { class: "field" }, "Test image no.", number));
  const legend = make("div", { class: "toggles", role: "group", "aria-label": "Show one class alone" });
  const buttons = data.classes.map((name, label) => make("button", { type: "button", "aria-pressed": "false", onclick: () => {
    alone = alone === label ? null : label;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === alone)));
    redrawAll();
  } }, make("i", { class: "b" + label % 10 }), name));
  legend.append(...buttons);
  const grid = make("div", { class: "planes" });
  map.arms.forEach((_, index) => {
    const one = view(index);
    views.push(one);
    grid.append(make("figure", {}, one.title, one.plane.canvas));
  });
  const shapes = map.arms.length > 1 && gallery
    ? " Circles are its neighbours in the " + map.arms[0].title + " features, squares those in the others; solid lines join those of the map's own space." : "";
  place.append(controls, legend, grid, make("p", { class: "small" }, "Point at a dot, tap it, or use the arrow keys. A click or Enter holds it." + shapes), card.element);
  redrawAll();
}
