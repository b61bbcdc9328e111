"use strict";
// Draw on a good part, and watch how far its patches leave the plane of the good ones.
live.widgets.scratch = async (body, say) => {
  const {make} = live, run = await live.session("eyes");
  await live.load("scratch-data");
  const {facts, colours} = live.data.eyes, data = live.data["scratch-data"], {side, resize} = facts.input, [rows, columns] = facts.output.maps;
  const axes = live.floats(data.axes), origin = live.floats(data.origin), width = origin.length, count = axes.length / width;
  const parts = await Promise.all(data.photographs.map(live.pixels));

  /** The squared distance of each patch from the plane. */
  function energy(patches) {
    return Float32Array.from({length: rows * columns}, (_, i) => {
      const off = new Float64Array(width);
      let left = 0;
      for (let c = 0; c < width; c++) { off[c] = patches[i * width + c] - origin[c]; left += off[c] * off[c]; }
      for (let k = 0; k < count; k++) {
        let along = 0;
        for (let c = 0; c < width; c++) along += off[c] * axes[k * width + c];
        left -= along * along; // the axes are perpendicular and of length 1
      }
      return Math.max(0, left);
    });
  }

  const drawn = live.canvas(side, side, "The part to draw on"), heat = live.canvas(side, side, "Its anomaly map");
  const pen = drawn.getContext("2d", {willReadFrequently: true}), out = heat.getContext("2d");
  const colour = make("select", {}, ...[["#191919", "dark"], ["#f4f4f4", "bright"], ["#7a4a22", "brown"]].map(([value, text]) => make("option", {value}, text)));
  const size = make("select", {}, ...[[2, "thin"], [4, "medium"], [10, "thick"]].map(([value, text]) => make("option", {value, selected: value === 4}, text)));
  const verdict = make("p", {className: "live-verdict", role: "status"});
  let part = 0, last = null, dirty = true, busy = false;

  function clean() {
    pen.putImageData(parts[part], 0, 0);
    changed();
  }

  async function changed() {
    dirty = true;
    if (busy) return;
    busy = true;
    while (dirty) {
      dirty = false;
      const picture = pen.getImageData(0, 0, side, side), found = await run({pixels: engine.prepared(picture, side, resize)});
      const map = energy(found.patches.data), score = Math.max(...map);
      out.putImageData(engine.painted(picture, {data: map, width: columns, height: rows}, data.scale, colours), 0, 0);
      const bad = score > data.line;
      verdict.textContent = `Score ${score.toFixed(3)}: ${bad ? "anomalous" : "normal"}. The threshold is ${data.line.toFixed(3)}, the highest of 16 good parts.`;
      verdict.dataset.verdict = bad ? "anomalous" : "normal";
      body.dataset.score = score;
      await engine.pause();
    }
    busy = false;
  }

  const place = event => {
    const box = drawn.getBoundingClientRect();
    return [(event.clientX - box.left) * side / box.width, (event.clientY - box.top) * side / box.height];
  };
  function stroke(event) {
    const now = place(event);
    Object.assign(pen, {strokeStyle: colour.value, lineWidth: +size.value, lineCap: "round"});
    pen.beginPath();
    pen.moveTo(...last);
    pen.lineTo(now[0] + 0.01, now[1]);
    pen.stroke();
    last = now;
    changed();
  }
  drawn.style.touchAction = "none";
  drawn.addEventListener("pointerdown", event => { drawn.setPointerCapture(event.pointerId); last = place(event); stroke(event); });
  drawn.addEventListener("pointermove", event => last && stroke(event));
  for (const end of ["pointerup", "pointercancel"]) drawn.addEventListener(end, () => { last = null; });
  body.replaceChildren(
    make("div", {className: "live-pair"}, drawn, heat),
    verdict,
    make("p", {className: "live-bar"}, make("label", {}, "Pen ", colour), make("label", {}, "Width ", size),
      make("button", {type: "button", onclick: clean}, "Clean it"),
      make("button", {type: "button", onclick: () => { part = (part + 1) % parts.length; clean(); }}, "Another part")),
  );
  say("Draw on the part to the left.");
  clean();
};
