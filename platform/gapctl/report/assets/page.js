"use strict";

(() => {
  const charts = JSON.parse(document.getElementById("charts").textContent);
  const options = {
    mode: "vega-lite",
    renderer: "svg",
    actions: false,
    defaultStyle: false,
    ast: true, // expressions are interpreted: no eval, which the page's own security policy forbids
    tooltip: { disableDefaultStyle: true, theme: "page" },
  };
  for (const place of document.querySelectorAll("[data-chart]")) {
    vegaEmbed(place, charts[place.dataset.chart], options).catch((error) => {
      place.textContent = `This chart could not be drawn: ${error.message}`;
    });
  }

  const meaning = document.querySelector("details.meaning");
  let opened = false;
  window.addEventListener("beforeprint", () => {
    opened = meaning !== null && !meaning.open;
    if (opened) meaning.open = true;
  });
  window.addEventListener("afterprint", () => {
    if (opened) meaning.open = false;
  });

  const keyOf = (row, column) => {
    const cell = row.children[column];
    return "value" in cell.dataset ? Number(cell.dataset.value) : cell.textContent;
  };
  const compare = (a, b) => {
    if (typeof a === "string") return a.localeCompare(b, "en", { numeric: true });
    return Number.isNaN(a) - Number.isNaN(b) || a - b;
  };
  const sort = (table, heading) => {
    const descending = heading.getAttribute("aria-sort") === "ascending";
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [keyOf(row, heading.cellIndex), row]);
    rows.sort(([a], [b]) => (Number.isNaN(a) || Number.isNaN(b) || !descending ? compare(a, b) : compare(b, a)));
    body.append(...rows.map(([, row]) => row));
    for (const other of heading.parentNode.cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.tHead.querySelectorAll("button")) {
      button.addEventListener("click", () => sort(table, button.closest("th")));
    }
  }
})();
