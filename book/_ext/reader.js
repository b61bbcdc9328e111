/* Live code in a page of the book: its cells become editable and run on a kernel of the reader's own Jupyter server,
   which gave out the page and this script (reader_server.py).  Nothing here asks for any other address. */
"use strict";
(() => {
  const place = document.currentScript.dataset.page; // such as book/anomaly/winclip: cells run in its folder
  const make = (name, words = {}, ...inside) => {
    const element = Object.assign(document.createElement(name), words);
    element.append(...inside);
    return element;
  };
  const plain = (text) => text.replace(/\x1b\[[0-9;]*[A-Za-z]/g, "");

  async function ask(path, method = "GET", body = undefined, keepalive = false) {
    const mark = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
    const headers = { "Content-Type": "application/json", "X-XSRFToken": mark };
    const answer = await fetch(`/api/${path}`, { method, headers, keepalive, body: body && JSON.stringify(body) });
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${answer.statusText}`);
    return answer.status === 204 ? null : answer.json();
  }

  /* A kernel, by Jupyter's protocol of messages: one socket, and what waits for an answer by the message's id. */
  class Kernel {
    static async start(name, fell) {
      const kernel = new Kernel();
      kernel.fell = fell;
      kernel.waiting = new Map();
      kernel.session = crypto.randomUUID();
      kernel.id = (await ask("kernels", "POST", { name, path: place })).id;
      const address = `/api/kernels/${kernel.id}/channels?session_id=${kernel.session}`;
      kernel.socket = new WebSocket(location.origin.replace("http", "ws") + address);
      kernel.socket.onmessage = (event) => kernel.hear(JSON.parse(event.data));
      kernel.socket.onclose = () => kernel.end("The connection to the kernel has ended.");
      await new Promise((open, fail) => {
        kernel.socket.onopen = open;
        kernel.socket.onerror = () => fail(new Error("the kernel's socket did not open"));
      });
      return kernel;
    }

    run(code, show) {
      const header = {
        ...{ msg_id: crypto.randomUUID(), msg_type: "execute_request", session: this.session },
        ...{ username: "reader", version: "5.3", date: new Date().toISOString() },
      };
      const content = { code, silent: false, store_history: true, user_expressions: {} };
      Object.assign(content, { allow_stdin: false, stop_on_error: true });
      return new Promise((done, fail) => {
        this.waiting.set(header.msg_id, { show, done, fail, reply: null, idle: false });
        const message = { channel: "shell", header, parent_header: {}, metadata: {}, content, buffers: [] };
        this.socket.send(JSON.stringify(message));
      });
    }

    hear({ header, parent_header: parent, content }) {
      const state = content.execution_state;
      if (state === "dead" || state === "restarting") this.end("The kernel has died. Too little memory is often why.");
      const waits = this.waiting.get(parent?.msg_id);
      if (!waits) return;
      if (header.msg_type === "execute_reply") waits.reply = content.status;
      else if (header.msg_type === "status") waits.idle ||= state === "idle";
      else waits.show(header.msg_type, content);
      if (waits.reply && waits.idle) {
        this.waiting.delete(parent.msg_id);
        waits.done(waits.reply);
      }
    }

    end(why) {
      this.socket.onclose = null;
      this.socket.close();
      for (const waits of this.waiting.values()) waits.fail(new Error(why));
      this.waiting.clear();
      this.fell(why);
    }

    stop() {
      this.socket.onclose = null;
      this.socket.close();
      return ask(`kernels/${this.id}`, "DELETE", undefined, true);
    }
  }

  const markdown = (text) => {
    const blocks = text.trim().split(/\n\s*\n/);
    const shown = blocks.map((block) => (/^\s*\|/.test(block) ? table(block) : make("p", { textContent: block })));
    return make("div", {}, ...shown);
  };

  function table(text) {
    const rows = text.trim().split("\n").map((line) => line.replace(/^\||\|\s*$/g, "").split("|"));
    const lines = rows.filter((_, i) => i !== 1);
    const cells = (row, kind) => row.map((words) => make(kind, { textContent: words.trim().replace(/[`*]/g, "") }));
    const body = lines.map((row, i) => make("tr", {}, ...cells(row, i ? "td" : "th")));
    return make("table", { className: "table" }, ...body);
  }

  const picture = (src) => make("img", { src, alt: "What the cell drew when it was run in this page" });
  const SHOWN = {
    "text/html": (data) => make("div", { innerHTML: data }),
    "image/svg+xml": (data) => picture(`data:image/svg+xml,${encodeURIComponent(data)}`),
    "image/png": (data) => picture(`data:image/png;base64,${data}`),
    "image/jpeg": (data) => picture(`data:image/jpeg;base64,${data}`),
    "text/markdown": markdown,
    "text/plain": (data) => make("pre", { textContent: data }),
  };

  /* One cell of the page: its sources, its buttons, and the place of its output. */
  class Cell {
    constructor(element, number) {
      this.element = element;
      this.before = []; // sources that the page does not show
      this.ran = false;
      this.sources = [...element.querySelectorAll(".cell_input div.highlight pre")];
      this.first = this.sources.map((source) => source.innerHTML);
      for (const source of this.sources) this.open(source, number);
      this.button = make("button", { type: "button", textContent: "Run", title: "Run this cell (Shift+Enter)" });
      this.reset = make("button", { type: "button", textContent: "Undo my changes", hidden: true });
      this.reset.onclick = () => this.restore();
      this.says = make("span", { className: "reader-says" });
      this.says.setAttribute("role", "status");
      const bar = make("p", { className: "reader-bar" }, this.button, this.reset, this.says);
      element.querySelector(".cell_input").append(bar);
    }

    open(source, number) {
      source.contentEditable = "plaintext-only";
      source.spellcheck = false;
      const words = { role: "textbox", "aria-multiline": "true", "aria-label": `Code of cell ${number}, to be changed` };
      for (const [key, value] of Object.entries(words)) source.setAttribute(key, value);
      source.oninput = () => (this.reset.hidden = false);
      source.onkeydown = (event) => {
        event.stopPropagation(); // the page's own keys
        if (event.key === "Escape") source.blur(); // so that Tab leads on
        if (event.key === "Tab" && !event.shiftKey) {
          event.preventDefault();
          document.execCommand("insertText", false, "    ");
        }
        if (event.key === "Enter" && event.shiftKey) {
          event.preventDefault();
          this.button.click();
        }
      };
    }

    restore() {
      this.sources.forEach((source, i) => (source.innerHTML = this.first[i]));
      this.reset.hidden = true;
    }

    get code() {
      return this.sources.map((source) => {
        const copy = source.cloneNode(true); // `innerText` is empty where the source is folded away
        for (const line of copy.querySelectorAll("br")) line.replaceWith("\n");
        return copy.textContent;
      });
    }

    /* An empty place for the output, instead of the old one, whose caption stays. */
    clear() {
      const old = [...this.element.querySelectorAll(":scope > .cell_output")];
      const caption = this.element.querySelector(".cell_output figcaption");
      this.output = make("div", { className: "cell_output docutils container reader-output" });
      for (const place of old) place.remove();
      this.element.append(this.output);
      if (caption) this.output.append(make("figure", {}, caption));
    }

    show(type, content) {
      const last = this.output.querySelector(":scope > :nth-last-child(1 of :not(figure))");
      const add = (element) => this.output.insertBefore(element, this.output.querySelector(":scope > figure"));
      if (type === "stream") {
        const into = last?.dataset.stream === content.name ? last : add(make("pre"));
        into.dataset.stream = content.name;
        into.textContent = (into.textContent + plain(content.text)).replace(/[^\n]*\r(?!\n)/g, "");
      } else if (type === "error") {
        add(make("pre", { className: "reader-error", textContent: plain(content.traceback.join("\n")) }));
      } else if (type === "clear_output") {
        for (const element of this.output.querySelectorAll(":scope > :not(figure)")) element.remove();
      } else if (content.data) {
        const kind = Object.keys(SHOWN).find((name) => name in content.data);
        if (kind) add(SHOWN[kind]([content.data[kind]].flat().join("")));
      }
    }

    async run(kernel) {
      for (const source of this.before) await kernel.run(source, () => {});
      this.clear();
      this.element.setAttribute("aria-busy", "true");
      this.says.textContent = "running ...";
      const start = performance.now();
      try {
        let status = "ok";
        for (const source of this.code) {
          if (status === "ok") status = await kernel.run(source, (type, content) => this.show(type, content));
        }
        this.ran = status === "ok";
        this.says.textContent = `${this.ran ? "done" : "failed"} in ${((performance.now() - start) / 1000).toFixed(1)} s`;
      } catch (error) {
        this.says.textContent = error.message;
      }
      this.element.removeAttribute("aria-busy");
      return this.ran;
    }
  }

  /* The page: one kernel, started when the first cell runs. */
  class Page {
    constructor(cells) {
      this.cells = cells;
      this.queue = Promise.resolve();
      this.says = make("span");
      this.says.setAttribute("role", "status");
      this.names = make("select", { ariaLabel: "The kernel on which the cells of this page run" });
      this.names.onchange = () => this.restart();
      const button = (textContent, onclick) => make("button", { type: "button", textContent, onclick });
      this.bar = make("div", { className: "reader-bar reader-page" }, make("strong", { textContent: "Live code" }), this.names);
      this.bar.append(button("Run all", () => this.run(this.cells.at(-1))), button("Interrupt", () => this.interrupt()));
      this.bar.append(button("New kernel", () => this.restart()), this.says);
      for (const cell of cells) cell.button.onclick = () => this.run(cell, true);
      addEventListener("pagehide", () => this.forget());
    }

    async prepare() {
      const { default: usual, kernelspecs } = await ask("kernelspecs");
      for (const [value, { spec }] of Object.entries(kernelspecs)) {
        this.names.append(make("option", { value, textContent: spec.display_name, selected: value === usual }));
      }
      const answer = await fetch(`/live/notebooks/${place}.ipynb`);
      if (answer.ok) this.place((await answer.json()).cells);
      this.says.textContent = "Change a cell and run it. The cells above it run first.";
    }

    /* Sources that the page leaves out run before the cell that follows them. */
    place(written) {
      const text = (source) => [source].flat().join("").trim();
      let hidden = [];
      for (const { cell_type: type, metadata, source } of written) {
        if (type !== "code") continue;
        if (metadata.tags?.includes("remove-cell")) hidden.push(text(source));
        const cell = this.cells.find((each) => each.code.some((code) => code.trim() === text(source)));
        if (cell) [cell.before, hidden] = [[...cell.before, ...hidden], []];
      }
    }

    async kernel() {
      if (!this.running) {
        this.says.textContent = "The kernel is starting ...";
        this.running = await Kernel.start(this.names.value, (why) => this.lose(why));
        this.says.textContent = "The kernel is ready.";
      }
      return this.running;
    }

    lose(why) {
      this.running = null;
      for (const cell of this.cells) cell.ran = false;
      this.says.textContent = `${why} Run a cell to start anew.`;
    }

    /* Run a cell, and before it all above it that this kernel has not run; one after the other. */
    run(cell, again = false) {
      this.queue = this.queue.then(async () => {
        try {
          for (const each of this.cells.slice(0, this.cells.indexOf(cell) + 1)) {
            if ((each.ran && !(again && each === cell)) || (await each.run(await this.kernel()))) continue;
            this.says.textContent = "A cell has failed, and those below it have not run.";
            break;
          }
        } catch (error) {
          this.says.textContent = error.message;
        }
      });
      return this.queue;
    }

    async interrupt() {
      if (this.running) await ask(`kernels/${this.running.id}/interrupt`, "POST");
    }

    async restart() {
      const old = this.running;
      if (old) old.end("");
      this.lose("This page has no kernel now.");
      if (old) await ask(`kernels/${old.id}`, "DELETE");
    }

    forget() {
      if (this.running) this.running.stop();
      this.running = null;
      for (const cell of this.cells) cell.ran = false;
    }
  }

  const found = [...document.querySelectorAll("div.cell:has(.cell_input pre)")];
  if (!found.length) return;
  const page = new Page(found.map((element, i) => new Cell(element, i + 1)));
  const body = document.querySelector(".bd-article") ?? document.querySelector("[role=main]");
  body.querySelector("h1").after(page.bar);
  page.prepare().catch((error) => (page.says.textContent = error.message));
})();
