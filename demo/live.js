"use strict";
// The widgets of the book's pages.  Each is a figure with a still picture and a button; what it needs is loaded on a
// click, by script tags, for a page from a disk may load nothing else.
window.live = window.live || (() => {
  const base = document.currentScript.src.replace(/[^/]*$/, ""), asked = {}, sessions = {};

  /** Load a script that lies beside this one, once. */
  function load(name) {
    asked[name] = asked[name] || new Promise((done, failed) => {
      const script = Object.assign(document.createElement("script"), {src: `${base}${name}.js`, onload: done});
      script.onerror = () => failed(new Error(`${name}.js is not beside this book`));
      document.head.append(script);
    });
    return asked[name];
  }

  /** A session for the graph in a data file. */
  function session(name) {
    sessions[name] = sessions[name] || (async () => {
      await load("engine");
      const why = engine.missing();
      if (why) throw new Error(why);
      await Promise.all([load("runtime"), load(name)]);
      await engine.pause();
      const ort = await engine.start(live.data.runtime.module, live.data.runtime.wasm);
      return engine.session(ort, await engine.unpacked(live.data[name].graph));
    })();
    return sessions[name];
  }

  /** Make an element: its attributes, and what is in it. */
  function make(tag, attributes = {}, ...inside) {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) name in element ? element[name] = value : element.setAttribute(name, value);
    element.append(...inside);
    return element;
  }

  const floats = base64 => new Float32Array(engine.bytes(base64).buffer);

  /** The pixels of a picture in the data. */
  const pixels = async address => {
    const image = make("img", {src: address});
    await image.decode();
    return engine.read(image);
  };

  function canvas(width, height, label) {
    const found = make("canvas", {width, height});
    found.setAttribute("role", "img");
    found.setAttribute("aria-label", label);
    return found;
  }

  function begin() {
    for (const host of document.querySelectorAll("figure.live")) {
      const button = host.querySelector("button"), status = host.querySelector(".live-status");
      button.hidden = false;
      button.addEventListener("click", async () => {
        button.disabled = true;
        const say = text => { status.textContent = text; };
        try {
          say("Loading …");
          await load(host.dataset.live);
          await live.widgets[host.dataset.live](host.querySelector(".live-body"), say);
          button.remove();
        } catch (error) {
          say(error.message || String(error));
          button.disabled = false;
        }
      });
    }
  }

  document.readyState === "loading" ? document.addEventListener("DOMContentLoaded", begin) : begin();
  return {data: {}, widgets: {}, load, session, make, floats, pixels, canvas};
})();
