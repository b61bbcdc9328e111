"use strict";
// A network in the page: onnxruntime-web from what the page holds, photographs to pixels, maps to colours.  The same
// arithmetic as in gadkit: an antialiased filter whose weights are Pillow's and torch's, tiles and their blending.
const engine = (() => {
  // a module with one instruction of 128 bits: what onnxruntime's own WebAssembly needs
  const SIMD = new Uint8Array([0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 10, 1, 8, 0, 65, 0, 253, 15, 253, 98, 11]);

  /** Why a network can't run here, in words; empty where it can. */
  function missing() {
    if (typeof WebAssembly !== "object" || !WebAssembly.validate(SIMD)) return "This browser has no WebAssembly with SIMD, or it is switched off, so the network cannot run in this page. Any newer Firefox, Chrome, Edge or Safari (16.4) has it.";
    if (typeof DecompressionStream !== "function") return "This browser cannot unpack what the page carries. Any newer Firefox, Chrome, Edge or Safari (16.4) can.";
    return "";
  }

  function bytes(base64) {
    const text = atob(base64.trim()), found = new Uint8Array(text.length);
    for (let i = 0; i < text.length; i++) found[i] = text.charCodeAt(i);
    return found;
  }

  async function unpacked(base64) {
    const stream = new Blob([bytes(base64)]).stream().pipeThrough(new DecompressionStream("gzip"));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  }

  let runtime; // a promise of the library, once for a page

  /** onnxruntime-web, from its module and its packed WebAssembly, both in base64. */
  function start(module, wasm) {
    runtime = runtime || (async () => {
      const address = URL.createObjectURL(new Blob([bytes(module)], {type: "text/javascript"}));
      const ort = await import(address);
      ort.env.wasm.wasmBinary = (await unpacked(wasm)).buffer;
      ort.env.wasm.numThreads = 1; // more need a server that isolates the page
      ort.env.logLevel = "error";
      return ort;
    })();
    return runtime;
  }

  /** A session for a graph: a function of named arrays, each {data, dims}, that gives the named outputs. */
  async function session(ort, graph) {
    const held = await ort.InferenceSession.create(graph, {executionProviders: ["wasm"]});
    return async given => {
      const inputs = {};
      for (const [name, {data, dims}] of Object.entries(given)) inputs[name] = new ort.Tensor("float32", data, dims);
      return held.run(inputs);
    };
  }

  const FILTERS = {
    bilinear: [1, x => Math.max(0, 1 - Math.abs(x))],
    bicubic: [2, x => {
      x = Math.abs(x);
      return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0; // a = -0.5
    }],
  };

  /** For each of `to` places, where its inputs begin and what each of them weighs. */
  function taps(from, to, mode) {
    const [reach, filter] = FILTERS[mode], scale = from / to, wide = Math.max(scale, 1), support = reach * wide;
    return Array.from({length: to}, (_, i) => {
      const centre = scale * (i + 0.5), first = Math.max(Math.trunc(centre - support + 0.5), 0);
      const last = Math.min(Math.trunc(centre + support + 0.5), from), weights = new Float64Array(last - first);
      let sum = 0;
      for (let j = 0; j < weights.length; j++) sum += weights[j] = filter((j + first - centre + 0.5) / wide);
      return {first, weights: weights.map(w => w / sum)};
    });
  }

  /** An array of interleaved values (h, w, stride), of which the first `channels` count, as planes (channels, H, W). */
  function resampled(data, width, height, stride, channels, W, H, mode) {
    const half = new Float32Array(channels * height * W), out = new Float32Array(channels * H * W), across = taps(width, W, mode);
    for (let y = 0; y < height; y++) // row by row, as they lie in memory
      for (let x = 0; x < W; x++) {
        const {first, weights} = across[x], length = weights.length;
        for (let c = 0; c < channels; c++) {
          let sum = 0;
          for (let j = 0, at = (y * width + first) * stride + c; j < length; j++, at += stride) sum += weights[j] * data[at];
          half[(c * height + y) * W + x] = sum;
        }
      }
    taps(height, H, mode).forEach(({first, weights}, y) => {
      for (let c = 0; c < channels; c++)
        for (let x = 0; x < W; x++) {
          let sum = 0, at = (c * height + first) * W + x;
          for (let j = 0; j < weights.length; j++, at += W) sum += weights[j] * half[at];
          out[(c * H + y) * W + x] = sum;
        }
    });
    return out;
  }

  /** A plane smoothed by a Gaussian: its deviation is a share of each side, and it is four of them wide. */
  function smoothed(data, width, height, share) {
    let from = data, to = new Float32Array(data.length);
    for (const [length, step, count, stride] of [[width, 1, height, width], [height, width, width, 1]]) {
      const sigma = share * length, reach = Math.trunc(4 * sigma + 0.5), sum = new Float64Array(length);
      const kernel = Array.from({length: 2 * reach + 1}, (_, i) => Math.exp(-0.5 * ((i - reach) / sigma) ** 2));
      const total = kernel.reduce((a, b) => a + b);
      for (let k = 0; k < count; k++) {
        sum.fill(0);
        kernel.forEach((weight, i) => {
          for (let x = 0; x < length; x++) {
            const at = (((x + i - reach) % (2 * length)) + 2 * length) % (2 * length); // the line and its mirror image
            sum[x] += weight * from[k * stride + (at < length ? at : 2 * length - 1 - at) * step];
          }
        });
        for (let x = 0; x < length; x++) to[k * stride + x * step] = sum[x] / total;
      }
      [from, to] = [to, new Float32Array(data.length)];
    }
    return from;
  }

  /** A map {data, width, height, smooth} at another size, in which bilinear steps are smoothed where it asks for that. */
  function enlarged(map, width, height) {
    const fine = resampled(map.data, map.width, map.height, 1, 1, width, height, "bilinear");
    return map.smooth ? smoothed(fine, width, height, map.smooth) : fine;
  }

  /** The input of a graph, (1, 3, side, side) from 0 to 255, of {data, width, height} in RGBA. */
  function prepared({data, width, height}, side, mode) {
    const same = width === side && height === side, out = same ? new Float32Array(3 * side * side) : resampled(data, width, height, 4, 3, side, side, mode);
    if (same) for (let i = 0, n = side * side; i < n; i++) for (let c = 0; c < 3; c++) out[c * n + i] = data[4 * i + c];
    for (let i = 0; i < out.length; i++) out[i] = Math.min(255, Math.max(0, out[i]));
    return {data: out, dims: [1, 3, side, side]};
  }

  /** A part of a picture in RGBA. */
  function cropped({data, width}, top, left, height, wide) {
    const out = new Uint8ClampedArray(4 * height * wide);
    for (let y = 0; y < height; y++) out.set(data.subarray(4 * ((top + y) * width + left), 4 * ((top + y) * width + left + wide)), 4 * y * wide);
    return {data: out, width: wide, height};
  }

  const rounded = x => { // as Python rounds: a half to the even number
    const near = Math.round(x);
    return near - x === 0.5 && near % 2 ? near - 1 : near;
  };

  /** Where tiles begin along a length, and the weight of every pixel of each: at every place they add up to 1. */
  function tiles(length, size, overlap) {
    const step = Math.max(1, Math.floor(size * (1 - overlap))), count = Math.ceil((length - size) / step) + 1;
    const starts = Array.from({length: count}, (_, i) => rounded(i * (length - size) / Math.max(1, count - 1)));
    const tent = Array.from({length: size}, (_, i) => Math.min(i + 1, size - i)), total = new Float64Array(length);
    for (const start of starts) tent.forEach((w, i) => { total[start + i] += w; });
    return starts.map(start => ({start, weights: tent.map((w, i) => w / total[start + i])}));
  }

  const pause = () => new Promise(done => setTimeout(done)); // the page draws, and answers clicks

  /** The score of a picture, and its map {data, width, height, smooth}: one value a patch, or a pixel where there are tiles. */
  async function inspect(run, picture, facts, progress = () => {}) {
    const {side, resize} = facts.input, [rows, columns] = facts.output.maps, smooth = facts.smooth || 0;
    const once = async part => {
      const {scores, maps} = await run({pixels: prepared(part, side, resize)});
      return {score: scores.data[0], map: maps.data};
    };
    if (!facts.tiles) {
      const {score, map} = await once(picture);
      return {score, map: {data: Float32Array.from(map), width: columns, height: rows, smooth}};
    }
    const {size, overlap} = facts.tiles, {width, height} = picture, heat = new Float32Array(width * height);
    if (Math.min(width, height) < size) throw new Error(`expected at least ${size} x ${size} pixels, a tile, got ${height} x ${width}`);
    const down = tiles(height, size, overlap), across = tiles(width, size, overlap);
    let most = -Infinity, done = 0;
    for (const row of down)
      for (const column of across) {
        const {score, map} = await once(cropped(picture, row.start, column.start, size, size));
        const fine = enlarged({data: map, width: columns, height: rows, smooth}, size, size);
        for (let y = 0; y < size; y++)
          for (let x = 0, at = (row.start + y) * width + column.start; x < size; x++) heat[at + x] += fine[y * size + x] * row.weights[y] * column.weights[x];
        most = Math.max(most, score);
        progress(++done / (down.length * across.length));
        await pause();
      }
    return {score: most, map: {data: heat, width, height}};
  }

  /** Paint a map over a picture in RGBA, in place: the photograph turns grey, colour and opacity rise with the map. */
  function painted(pixels, map, {low, high, middle}, colours) {
    const {data, width, height} = pixels, heat = enlarged(map, width, height);
    const half = middle === null ? (low + high) / 2 : middle;
    for (let i = 0; i < heat.length; i++) {
      const level = heat[i] < half ? (heat[i] - low) / (half - low) / 2 : 0.5 + (heat[i] - half) / (high - half) / 2;
      const [r, g, b, opacity] = colours[Math.max(0, Math.min(colours.length - 1, Math.floor(level * colours.length)))];
      const grey = 0.7 * (0.2126 * data[4 * i] + 0.7152 * data[4 * i + 1] + 0.0722 * data[4 * i + 2]) * (1 - opacity);
      [r, g, b].forEach((value, c) => { data[4 * i + c] = grey + 255 * value * opacity; });
      data[4 * i + 3] = 255;
    }
    return pixels;
  }

  /** The pixels of a file or a video: upright, colours as stored, transparency on white. */
  async function read(source) {
    if (source instanceof ImageData) return source;
    const drawn = source instanceof Blob ? await createImageBitmap(source, {colorSpaceConversion: "none", premultiplyAlpha: "none"}) : source;
    const width = drawn.videoWidth || drawn.width, height = drawn.videoHeight || drawn.height;
    if (Math.min(width, height) < 2) throw new Error(`expected at least 2 x 2 pixels, got ${height} x ${width}`);
    const canvas = Object.assign(document.createElement("canvas"), {width, height});
    const pen = canvas.getContext("2d", {willReadFrequently: true, colorSpace: "srgb"});
    if (pen === null) throw new Error(`a photograph of ${height} x ${width} pixels is too large for this browser`);
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, width, height);
    pen.drawImage(drawn, 0, 0);
    return pen.getImageData(0, 0, width, height);
  }

  return {missing, bytes, unpacked, start, session, resampled, enlarged, prepared, tiles, inspect, painted, read, pause};
})();
