// The card of one test image: photograph, label, every arm's answer, nearest neighbours in every space.

// The photographs are decoded when the page is there: a page opens faster without them.
const photographs = document.getElementById("sprite");
const sprite = photographs ? new Image() : null;
if (sprite) later(() => { sprite.src = photographs.textContent; });

/** A photograph cut out of the sprite. */
function photograph(tile, image, side, label) {
  const canvas = make("canvas", { width: tile.width, height: tile.height, role: "img", "aria-label": label, class: Math.max(tile.width, tile.height) <= 64 ? "pixels" : "" });
  canvas.style.width = side + "px";
  canvas.style.height = side * tile.height / tile.width + "px";
  const x = image % tile.columns * tile.step_x, y = Math.floor(image / tile.columns) * tile.step_y;
  const draw = () => canvas.getContext("2d").drawImage(sprite, x, y, tile.width, tile.height, 0, 0, tile.width, tile.height);
  if (sprite.naturalWidth > 0) draw();
  else sprite.addEventListener("load", draw, { once: true });
  return canvas;
}

function photographCard(gallery) {
  const body = make("div", { class: "card-body" });
  const told = make("p", { class: "unseen", "aria-live": "polite", id: "card-told" });
  const element = make("section", { class: "card", id: "card", "aria-label": "The chosen test image" }, body, told);
  const tile = gallery && sprite ? gallery.tile : null;

  function answer(arm, image) {
    const right = arm.predicted[image] === gallery.labels[image];
    return make("li", { class: right ? "right" : "wrong" },
      make("span", { class: "mark" }, right ? "✓" : "✗"), make("span", { class: "unseen" }, right ? "right: " : "wrong: "),
      make("span", { class: "who" }, arm.title), make("span", {}, className(arm.predicted[image])),
      make("span", { class: "n" }, percent(arm.confidence[image] / 65535)));
  }

  function row(arm, image) {
    const list = make("ol", { class: "near" });
    for (const other of arm.neighbours.subarray(image * arm.each, (image + 1) * arm.each)) {
      const same = gallery.labels[other] === gallery.labels[image];
      const name = className(gallery.labels[other]);
      const item = make("li", { class: same ? "right" : "wrong", title: name });
      if (tile) item.append(photograph(tile, other, 40, name));
      item.append(make("span", { class: "mark" }, same ? "✓" : "✗"), make("span", { class: "unseen" }, name));
      list.append(item);
    }
    return make("div", {}, make("h4", {}, "Nearest in the " + arm.title + " features"), list);
  }

  /** `note`: what else must be said, such as that the image has no dot in this map. */
  function show(image, note = "") {
    if (image === null || !gallery) {
      body.replaceChildren(make("p", { class: "hint" }, note || "No image is chosen yet."));
      told.textContent = note;
      return;
    }
    const label = className(gallery.labels[image]);
    const head = make("div", { class: "card-head" });
    if (tile) head.append(photograph(tile, image, 96, "Test image " + image + ": " + label));
    head.append(make("div", {}, make("p", { class: "truth" }, label), make("p", { class: "small" }, "test image " + image + (note && ". " + note)),
      make("ul", { class: "answers" }, ...gallery.arms.map(arm => answer(arm, image)))));
    body.replaceChildren(head, make("div", { class: "nears" }, ...gallery.arms.filter(arm => arm.each > 0).map(arm => row(arm, image))));
    told.textContent = "Test image " + image + ", " + label + ". " + gallery.arms.map(arm => arm.title + ": " + className(arm.predicted[image]) +
      (arm.predicted[image] === gallery.labels[image] ? ", right, " : ", wrong, ") + percent(arm.confidence[image] / 65535)).join(". ");
  }
  show(null);
  return { element, show };
}

const mapPlace = document.getElementById("map-lab");
if (data && mapPlace && data.maps.length > 0) later(() => mapLab(mapPlace));
