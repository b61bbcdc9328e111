"use strict";
// A memory of good parts: add some, take some out, move the threshold, and see what it finds.
live.widgets.neighbours = async (body, say) => {
  const {make} = live, run = await live.session("eyes");
  await live.load("neighbours-data");
  const {facts, colours} = live.data.eyes, data = live.data["neighbours-data"], {side, resize} = facts.input, [rows, columns] = facts.output.maps;
  const n = rows * columns, encode = async address => {
    const picture = await live.pixels(address), {patches} = await run({pixels: engine.prepared(picture, side, resize)});
    return {picture, patches: Float32Array.from(patches.data), width: patches.data.length / n};
  };
  const all = [...data.good, ...data.new.map(one => one.picture)], seen = [];
  for (const [i, address] of all.entries()) {
    say(`Encoding part ${i + 1} of ${all.length} …`);
    await engine.pause();
    seen.push(await encode(address));
  }
  const good = seen.slice(0, data.good.length), fresh = seen.slice(data.good.length).map((one, i) => ({...one, kind: data.new[i].kind}));

  const known = new Map(); // distances of the patches of one part from the nearest patch of another, each once
  function apart(a, b) {
    if (!known.has(a)) known.set(a, new Map());
    if (!known.get(a).has(b)) known.get(a).set(b, distances(a.patches, b.patches, a.width));
    return known.get(a).get(b);
  }
  function distances(x, y, width) { // 1 - cos: all are unit vectors
    return Float32Array.from({length: n}, (_, i) => {
      const one = x.subarray(i * width, (i + 1) * width);
      let best = -2;
      for (let j = 0; j < n; j++) {
        let cosine = 0;
        for (let c = 0, at = j * width; c < width; c++, at++) cosine += one[c] * y[at];
        if (cosine > best) best = cosine;
      }
      return Math.max(0, 1 - best);
    });
  }
  const nearest = (part, memory) => memory.map(one => apart(part, one)).reduce((a, b) => a.map((value, i) => Math.min(value, b[i])));

  let memory = [good[0]], line = null;
  const verdict = make("p", {className: "live-verdict", role: "status"}), slider = make("input", {type: "range", min: 0, max: 1000, step: 1});
  slider.setAttribute("aria-label", "Threshold");
  const picks = good.map((one, i) => {
    const small = live.canvas(side, side, `Good part ${i + 1}`), button = make("button", {type: "button", className: "live-pick"}, small);
    small.getContext("2d").putImageData(one.picture, 0, 0);
    button.addEventListener("click", () => {
      memory = memory.includes(one) ? memory.filter(other => other !== one) : [...memory, one];
      if (!memory.length) memory = [one]; // without any there is nothing to compare with
      line = null;
      update();
    });
    return button;
  });
  const cards = fresh.map(({kind}) => {
    const heat = live.canvas(side, side, `Anomaly map of a part: ${kind}`), words = make("span");
    return {heat, words, figure: make("div", {className: "live-card"}, heat, words)};
  });
  const TOP = 0.65; // of distances, where the slider ends

  function update() {
    picks.forEach((button, i) => button.setAttribute("aria-pressed", memory.includes(good[i])));
    const held = memory.length > 1 ? memory.map(one => Math.max(...nearest(one, memory.filter(other => other !== one)))) : [];
    const maps = fresh.map(part => nearest(part, memory)), scores = maps.map(map => Math.max(...map));
    if (line === null) line = held.length ? Math.max(...held) : 0.3;
    slider.value = Math.round(1000 * line / TOP);
    cards.forEach(({heat, words, figure}, i) => {
      const picture = new ImageData(Uint8ClampedArray.from(fresh[i].picture.data), side, side);
      heat.getContext("2d").putImageData(engine.painted(picture, {data: maps[i], width: columns, height: rows}, data.scale, colours), 0, 0);
      words.textContent = `${fresh[i].kind}: ${scores[i].toFixed(3)}`;
      figure.dataset.verdict = scores[i] > line ? "anomalous" : "normal";
    });
    const bad = fresh.map(part => part.kind !== "good"), found = scores.filter((s, i) => bad[i] && s > line).length;
    const alarms = scores.filter((s, i) => !bad[i] && s > line).length, goods = bad.filter(b => !b).length;
    verdict.textContent = `${memory.length} good part${memory.length > 1 ? "s" : ""} remembered. Above the threshold ${line.toFixed(3)}: ${found} of ${bad.length - goods} defects, and ${alarms} of ${goods} new good parts. `
      + (held.length ? `Held out, the remembered parts score ${Math.min(...held).toFixed(3)} to ${Math.max(...held).toFixed(3)}.` : "One part alone sets no threshold: nothing says how a good part scores.");
    Object.assign(body.dataset, {scores: JSON.stringify(scores), line});
  }
  slider.addEventListener("input", () => { line = TOP * slider.value / 1000; update(); });
  say("Comparing …");
  await engine.pause();
  body.replaceChildren(
    make("p", {}, "The memory: click a good part to add it, or to take it out."),
    make("div", {className: "live-strip"}, ...picks),
    make("label", {}, "Threshold ", slider),
    verdict,
    make("div", {className: "live-strip live-cards"}, ...cards.map(card => card.figure)),
  );
  update();
  say("");
};
