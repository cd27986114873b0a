// How a few validation images part in the course of training: a map and a matrix of similarities per arm.

function filmLab(place) {
  const films = data.films.filter(film => film.epochs.length > 1).map(film => ({ ...film, labels: unpack(film.labels), points: unpack(film.points), similarity: unpack(film.similarity) }));
  if (films.length === 0) return;
  const ramp = Array.from({ length: 256 }, (_, value) => {
    const at = value / 255 * (data.ramp.length - 1), below = Math.min(data.ramp.length - 2, Math.floor(at));
    return [0, 1, 2].map(c => Math.round(data.ramp[below][c] + (at - below) * (data.ramp[below + 1][c] - data.ramp[below][c])));
  });
  let now = 1; // share of the training that is done
  const views = films.map(film => {
    const count = film.labels.length, last = film.epochs.length - 1;
    const time = () => now * film.epochs[last];
    /** The two frames around the time, and how far it is from the first to the second. */
    const between = () => {
      let next = film.epochs.findIndex(epoch => epoch >= time());
      if (next <= 0) return [Math.max(0, next), Math.max(0, next), 0];
      const [a, b] = [film.epochs[next - 1], film.epochs[next]];
      return [next - 1, next, (time() - a) / (b - a)];
    };
    const map = sharpCanvas({ class: "plane", role: "img", "aria-label": "Map of " + count + " validation images in the " + film.title + " " + film.space }, width => width, (context, width) => {
      const [from, to, share] = between();
      context.strokeStyle = palette.line;
      context.strokeRect(0.5, 0.5, width - 1, width - 1);
      const value = (frame, i, axis) => film.points[2 * (frame * count + i) + axis] / (NOWHERE - 1);
      for (let i = 0; i < count; i++) {
        const [x, y] = [0, 1].map(axis => value(from, i, axis) * (1 - share) + value(to, i, axis) * share);
        context.globalAlpha = 0.85;
        context.fillStyle = palette.series[film.labels[i] % 10];
        context.beginPath();
        context.arc(8 + x * (width - 16), width - 8 - y * (width - 16), 3.2, 0, 7);
        context.fill();
      }
      context.globalAlpha = 1;
    });
    const small = document.createElement("canvas");
    small.width = small.height = count;
    const matrix = sharpCanvas({ class: "plane", role: "img", "aria-label": "Cosine similarities of the same images, sorted by class" }, width => width, (context, width) => {
      const [from, to, share] = between();
      const frame = share < 0.5 ? from : to;
      const inside = small.getContext("2d");
      const pixels = inside.createImageData(count, count);
      for (let i = 0; i < count * count; i++) {
        const [r, g, b] = ramp[film.similarity[frame * count * count + i]];
        pixels.data.set([r, g, b, 255], 4 * i);
      }
      inside.putImageData(pixels, 0, 0);
      context.imageSmoothingEnabled = false;
      context.drawImage(small, 0, 0, width, width);
    });
    const caption = make("p", { class: "small n-left" });
    const element = make("figure", { class: "film" }, make("h3", {}, film.title + " · " + film.space), make("div", { class: "pair" }, map.canvas, matrix.canvas), caption);
    return { element, redraw: () => {
      caption.textContent = "epoch " + Math.round(time()) + " of " + film.epochs[last];
      map.redraw();
      matrix.redraw();
    } };
  });
  const slider = make("input", { type: "range", min: 0, max: 1000, value: 1000, id: "film-time", oninput: () => {
    stop();
    seek(slider.value / 1000);
  } });
  const button = make("button", { type: "button", class: "plain", id: "film-play", onclick: () => running ? stop() : play() }, "▶ Play");
  let running = 0;
  function seek(share) {
    now = share;
    slider.value = Math.round(1000 * share);
    slider.setAttribute("aria-valuetext", Math.round(100 * share) + " percent of training");
    for (const view of views) view.redraw();
  }
  function stop() {
    cancelAnimationFrame(running);
    running = 0;
    button.textContent = "▶ Play";
  }
  function play() {
    button.textContent = "❚❚ Pause";
    const seconds = calm.matches ? 12 : 6;
    const began = performance.now() - (now >= 1 ? 0 : now) * 1000 * seconds;
    const step = time => {
      // Whoever prefers less motion sees a picture at a time.
      let share = Math.max(0, Math.min(1, (time - began) / 1000 / seconds));
      seek(calm.matches ? Math.floor(share * 6) / 6 : share);
      if (share < 1) running = requestAnimationFrame(step);
      else stop();
    };
    running = requestAnimationFrame(step);
  }
  place.append(make("div", { class: "controls" }, button, make("label", { class: "field wide" }, "Training", slider)),
    make("div", { class: "films" }, ...views.map(view => view.element)));
  seek(1);
}

const filmPlace = document.getElementById("film-lab");
if (data && filmPlace && data.films.length > 0) later(() => filmLab(filmPlace));
