"use strict";
// Click on a scene: the image has been encoded, and the decoder answers in the page.
live.widgets.sam = async (body, say) => {
  const {make} = live, run = await live.session("sam-data"), data = live.data["sam-data"];
  const scenes = await Promise.all(data.scenes.map(async one => ({picture: await live.pixels(one.picture), embedding: live.floats(one.embedding)})));
  let at = 0, clicks = [], chosen = null, answer = null;
  const {width, height} = scenes[0].picture, shown = live.canvas(width, height, "A scene with several parts: click on one");
  const pen = shown.getContext("2d", {willReadFrequently: true});
  const off = make("input", {type: "checkbox"}), choices = make("p", {className: "live-bar"}), verdict = make("p", {className: "live-verdict", role: "status"});

  async function ask() {
    chosen = null;
    if (!clicks.length) answer = null;
    else {
      const scale = data.side / Math.max(width, height), points = new Float32Array(clicks.flatMap(({x, y}) => [x * scale, y * scale]));
      const found = await run({
        embedding: {data: scenes[at].embedding, dims: data.shape},
        points: {data: points, dims: [1, clicks.length, 2]},
        labels: {data: Float32Array.from(clicks, click => click.on ? 1 : 0), dims: [1, clicks.length]},
      });
      answer = {iou: [...found.iou.data], logits: found.logits.data, side: found.logits.dims[2]};
    }
    draw();
  }

  /** The mask of the answer with that number at the scene's size: logits to the network's square, and from there. */
  function mask(k) {
    const {side, logits} = answer, one = logits.subarray(k * side * side, (k + 1) * side * side);
    const square = engine.resampled(one, side, side, 1, 1, data.side, data.side, "bilinear");
    return engine.resampled(square, data.side, data.side, 1, 1, width, height, "bilinear").map(value => value > 0 ? 1 : 0);
  }

  function draw() {
    const picture = new ImageData(Uint8ClampedArray.from(scenes[at].picture.data), width, height);
    choices.replaceChildren();
    verdict.textContent = "";
    delete body.dataset.pixels;
    if (answer) {
      const best = answer.iou.indexOf(Math.max(...answer.iou)), k = chosen === null ? best : chosen, inside = mask(k);
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++) {
          const i = y * width + x, rim = inside[i] && !(inside[i - 1] && inside[i + 1] && inside[i - width] && inside[i + width]);
          if (!inside[i]) for (let c = 0; c < 3; c++) picture.data[4 * i + c] *= 0.45;
          if (rim) picture.data.set([255, 196, 0, 255], 4 * i);
        }
      answer.iou.forEach((iou, j) => choices.append(make("button", {type: "button", "aria-pressed": j === k, onclick: () => { chosen = j; draw(); }}, `mask ${j + 1}, expected IoU ${iou.toFixed(2)}`)));
      verdict.textContent = `${clicks.length} click${clicks.length > 1 ? "s" : ""}. Shown is mask ${k + 1}${k === best ? ", which the network trusts most" : ""}.`;
      body.dataset.pixels = inside.reduce((a, b) => a + b);
    }
    pen.putImageData(picture, 0, 0);
    for (const {x, y, on} of clicks)
      for (const [radius, colour] of [[7, "#000"], [5, on ? "#fff" : "#e33"]]) {
        pen.beginPath();
        pen.arc(x, y, radius, 0, 7);
        pen.fillStyle = colour;
        pen.fill();
      }
  }

  shown.addEventListener("click", event => {
    const box = shown.getBoundingClientRect();
    clicks.push({x: (event.clientX - box.left) * width / box.width, y: (event.clientY - box.top) * height / box.height, on: !off.checked && !event.shiftKey});
    ask();
  });
  const clear = () => { clicks = []; ask(); };
  body.replaceChildren(
    shown,
    verdict,
    choices,
    make("p", {className: "live-bar"}, make("label", {}, off, " the click is off the object"),
      make("button", {type: "button", onclick: () => { clicks.pop(); ask(); }}, "Undo"),
      make("button", {type: "button", onclick: clear}, "Clear"),
      make("button", {type: "button", onclick: () => { at = (at + 1) % scenes.length; clear(); }}, "Another scene")),
  );
  say("Click on a part.");
  draw();
};
