"use strict";
// The page of `gadkit export`: photographs in, a card for each out; `engine` computes.
const $ = id => document.getElementById(id);
const facts = JSON.parse($("facts").textContent), colours = JSON.parse($("colours").textContent);
const SIDE = 384; // pixels of a card's picture
const rows = []; // {path, score, li}
let line = facts.threshold; // the threshold in force; null: none yet
let ready = null, queue = Promise.resolve();

const written = score => String(+score.toPrecision(5));
const say = text => { $("status").textContent = text; };

/** The network, loaded at the first need. */
function loaded() {
  ready = ready || (async () => {
    say("Loading the network …");
    await engine.pause();
    const ort = await engine.start(...["module", "wasm"].map(id => $(id).textContent));
    const run = await engine.session(ort, await engine.unpacked($("graph").textContent));
    for (const id of ["module", "wasm", "graph"]) $(id).textContent = ""; // the page needs their memory
    return run;
  })();
  return ready;
}

/** Score files, or pictures of the camera as {name, source}, one after the other. */
function inspect(files) {
  const wanted = [...files].map(file => file instanceof Blob ? {name: file.name, source: file} : file);
  queue = queue.then(() => work(wanted)).catch(error => say(`Stopped: ${error.message || error}`)).finally(() => { $("progress").hidden = true; });
  return queue;
}

async function work(wanted) {
  const run = await loaded();
  $("progress").hidden = false;
  for (const [i, {name, source}] of wanted.entries()) {
    const at = share => { $("progress").value = (i + share) / wanted.length; };
    say(`${name} (${i + 1} of ${wanted.length})`);
    at(0);
    await engine.pause();
    let picture;
    try {
      picture = await engine.read(source);
    } catch (error) {
      refuse(name, /expected|large/.test(error.message) ? error.message : "no picture that this browser can read");
      continue;
    }
    try {
      const {score, map} = await engine.inspect(run, picture, facts, at);
      add(name, score, picture, map);
    } catch (error) {
      refuse(name, error.message || String(error));
    }
  }
  say(`${rows.length} photograph${rows.length === 1 ? "" : "s"} scored.`);
}

function refuse(name, why) {
  $("refused").hidden = false;
  $("refused").querySelector("ul").append(Object.assign(document.createElement("li"), {textContent: `${name}: ${why}`}));
}

function add(path, score, picture, map) {
  const li = document.createElement("li"), caption = Object.assign(document.createElement("p"), {className: "caption"});
  for (const [kind, text] of [["path", path], ["chip", ""], ["score", score.toFixed(4)]])
    caption.append(Object.assign(document.createElement("span"), {className: kind, textContent: text}));
  const shrink = Math.max(1, picture.width / SIDE, picture.height / SIDE);
  const width = Math.max(2, Math.round(picture.width / shrink)), height = Math.max(2, Math.round(picture.height / shrink));
  const planes = engine.resampled(picture.data, picture.width, picture.height, 4, 3, width, height, "bilinear");
  const small = new ImageData(width, height), pair = Object.assign(document.createElement("div"), {className: "pair"});
  for (let i = 0, n = width * height; i < n; i++) {
    for (let c = 0; c < 3; c++) small.data[4 * i + c] = planes[c * n + i];
    small.data[4 * i + 3] = 255;
  }
  for (const what of ["Photograph", "Anomaly map of"]) {
    const canvas = Object.assign(document.createElement("canvas"), {width, height});
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${what} ${path}` + (pair.children.length ? `, score ${score.toFixed(4)}` : ""));
    canvas.getContext("2d").putImageData(pair.children.length ? engine.painted(small, map, facts.scale, colours) : small, 0, 0);
    pair.append(canvas);
  }
  li.append(caption, pair);
  rows.push({path, score, li, at: rows.length});
  sort();
  moveTo(line);
}

const ends = () => {
  const all = [...rows.map(row => row.score), ...facts.normal, ...(facts.threshold === null ? [] : [facts.threshold])];
  const least = Math.min(...all), most = Math.max(...all), room = (most - least || Math.abs(most) || 1) * 0.03;
  return [least - room, most + room];
};
const verdict = score => line === null ? "" : score > line ? "anomalous" : "normal";

function moveTo(value) {
  line = value;
  $("controls").hidden = !rows.length;
  if (!rows.length) return;
  const [low, high] = ends(), over = rows.filter(row => row.score > line).length, above = facts.normal.filter(s => s > line).length;
  $("verdicts").textContent = line === null ? "No threshold yet: move the slider to draw one." : `${over} of ${rows.length} photographs above ${written(line)}` + (facts.normal.length
    ? `, and ${above} of ${facts.normal.length} good parts: expect about ${(100 * (above + 1) / (facts.normal.length + 1)).toFixed(0)}\u00a0% false alarms` : "");
  $("slider").value = line === null ? 1000 : Math.round(1000 * (line - low) / (high - low));
  $("slider").setAttribute("aria-valuetext", line === null ? "none" : written(line));
  if (document.activeElement !== $("line")) $("line").value = line === null ? "" : written(line);
  for (const {li, score} of rows) {
    li.className = verdict(score);
    li.querySelector(".chip").textContent = verdict(score);
  }
}

function sort() {
  const order = {high: (a, b) => b.score - a.score, new: (a, b) => b.at - a.at, path: (a, b) => a.path.localeCompare(b.path, undefined, {numeric: true})};
  $("cards").append(...[...rows].sort(order[$("sort").value]).map(row => row.li));
}

/** The table, as `gadkit detect` writes it; a name that a spreadsheet would take for a formula stays a name. */
function table() {
  const cell = text => /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  const named = path => /^[=+\-@\t\r]/.test(path) ? `'${path}` : path;
  const lines = [...rows].sort((a, b) => b.score - a.score).map(({path, score}) => [cell(named(path)), score, line === null ? "" : line, verdict(score)]);
  return ["path,score,threshold,verdict", ...lines.map(cells => cells.join(","))].join("\n") + "\n";
}

function save() {
  const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(new Blob([table()], {type: "text/csv"})), download: "scores.csv"});
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const video = document.querySelector("video");
let shots = 0;

async function camera() { // a page from a disk may not ask for the camera everywhere: then the system's own is asked
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment", width: {ideal: 1920}}});
    $("live").hidden = false;
  } catch {
    $("taken").click();
  }
}

function off() {
  for (const track of video.srcObject ? video.srcObject.getTracks() : []) track.stop();
  video.srcObject = null;
  $("live").hidden = true;
}

async function shoot() {
  if (video.videoWidth) inspect([{name: `camera ${++shots}`, source: await engine.read(video)}]);
}

function begin() {
  const why = engine.missing();
  $("missing").hidden = !why;
  $("missing").textContent = why;
  if (why) return;
  $("drop").hidden = false;
  $("choose").addEventListener("click", () => $("files").click());
  for (const id of ["files", "taken"])
    $(id).addEventListener("change", event => { inspect(event.target.files); event.target.value = ""; });
  $("camera").addEventListener("click", camera);
  $("shoot").addEventListener("click", shoot);
  $("off").addEventListener("click", off);
  document.addEventListener("dragover", event => { event.preventDefault(); $("drop").classList.add("over"); });
  document.addEventListener("dragleave", () => $("drop").classList.remove("over"));
  document.addEventListener("drop", event => {
    event.preventDefault();
    $("drop").classList.remove("over");
    inspect(event.dataTransfer.files);
  });
  $("slider").addEventListener("input", event => { const [low, high] = ends(); moveTo(low + (high - low) * event.target.value / 1000); });
  $("line").addEventListener("input", event => event.target.value !== "" && moveTo(+event.target.value));
  $("reset").addEventListener("click", () => moveTo(facts.threshold));
  $("sort").addEventListener("change", sort);
  $("csv").addEventListener("click", save);
  $("clear").addEventListener("click", () => { rows.length = 0; $("cards").replaceChildren(); $("refused").hidden = true; $("refused").querySelector("ul").replaceChildren(); moveTo(line); say(""); });
}

begin();
