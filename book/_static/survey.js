/* Sorting and filtering for the survey's tables. Without this script they are plain tables with all their rows. */
(() => {
  const text = (cell) => cell.textContent.trim();
  const cellOf = (row, column) => [...row.cells].find((cell) => cell.dataset.column === column);

  /* Numbers by their value, words by the alphabet; what is unknown comes last either way. */
  function compare(a, b, numeric, sign) {
    const [missingA, missingB] = [a, b].map((value) => value === "unknown" || value === "–");
    if (missingA || missingB) return missingA - missingB;
    const [x, y] = [a, b].map(Number);
    if (numeric && !Number.isNaN(x) && !Number.isNaN(y)) return sign * (x - y);
    return sign * a.localeCompare(b, "en", { numeric: true });
  }

  function bringToLife(browser) {
    const form = browser.querySelector("form");
    const body = browser.querySelector("tbody");
    const headings = [...browser.querySelectorAll("thead th")];
    const rows = [...body.rows]; /* in the order of the page */
    const search = form.querySelector("input");
    const view = form.querySelector("[data-view]");
    const filters = [...form.querySelectorAll("select[data-column]")];
    const status = form.querySelector("[role=status]");

    function filter() {
      const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const row of rows) {
        const content = row.textContent.toLowerCase();
        const chosen = filters.every(
          (select) => !select.value || text(cellOf(row, select.dataset.column)) === select.value,
        );
        row.hidden = !(chosen && words.every((word) => content.includes(word)));
        shown += !row.hidden;
      }
      status.textContent = `${shown} of ${rows.length} rows`;
    }

    function choose() {
      const columns = view ? view.value.split(" ") : [];
      for (const cell of browser.querySelectorAll("th, td"))
        cell.hidden = columns.length > 0 && !columns.includes(cell.dataset.column);
    }

    function sort(heading) {
      const sign = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const column = heading.dataset.column;
      const numeric = heading.classList.contains("number");
      const value = new Map(rows.map((row) => [row, text(cellOf(row, column))]));
      body.append(...[...rows].sort((a, b) => compare(value.get(a), value.get(b), numeric, sign)));
    }

    for (const heading of headings) {
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      button.addEventListener("click", () => sort(heading));
      heading.append(button);
    }
    form.addEventListener("input", () => {
      filter();
      choose();
    });
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", () => {
      for (const heading of headings) heading.removeAttribute("aria-sort");
      body.append(...rows);
      setTimeout(() => {
        filter();
        choose();
      }); /* the fields are empty only after this event */
    });
    form.hidden = false;
    filter(); /* a browser may have kept what was typed */
    choose();
  }

  document.querySelectorAll(".survey-browser").forEach(bringToLife);
})();
