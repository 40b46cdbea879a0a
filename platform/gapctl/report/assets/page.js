(() => {
  // Whatever is pinned can be read, followed and copied, also where there is no mouse to hover with.
  const pinned = document.createElement("div");
  pinned.id = "pinned";
  pinned.hidden = true;
  pinned.setAttribute("role", "dialog");
  pinned.setAttribute("aria-label", "Training");
  document.body.append(pinned);

  const rowOf = (trial) => document.getElementById(`trial-${trial}`);
  const showRow = (row) => {
    for (const other of document.querySelectorAll("tr.found")) other.classList.remove("found");
    row.classList.add("found");
    row.scrollIntoView({ block: "center" });
    unpin();
  };
  const button = (words, label, onClick) => {
    const made = document.createElement("button");
    made.type = "button";
    made.textContent = words;
    if (label) made.setAttribute("aria-label", label);
    made.addEventListener("click", onClick);
    return made;
  };
  const told = (tooltip) => {
    const list = document.createElement("dl");
    for (const [term, value] of Object.entries(tooltip)) {
      const [dt, dd] = [document.createElement("dt"), document.createElement("dd")];
      dt.textContent = term;
      dd.textContent = value;
      list.append(dt, dd);
    }
    return list;
  };
  const unpin = () => { pinned.hidden = true; };
  const place = (event) => {
    const width = pinned.offsetWidth, height = pinned.offsetHeight, edge = 8;
    const room = document.documentElement;
    const fit = (at, size, whole) => Math.max(edge, Math.min(at + edge, whole - size - edge));
    pinned.style.left = `${fit(event.clientX, width, room.clientWidth)}px`;
    pinned.style.top = `${fit(event.clientY, height, room.clientHeight)}px`;
  };
  const pin = (event, item) => {
    const trial = item && item.datum && item.datum.trial;
    if (!trial || typeof item.tooltip !== "object") { unpin(); return; }
    const actions = document.createElement("p");
    if (Runs.pageOf(trial)) actions.append(Runs.link(trial, "Open the run in MLflow"));
    if (item.datum.link) actions.append(Runs.linkTo(item.datum.link, "Open the page of its weights"));
    if (rowOf(trial)) actions.append(button("Show in the table", "", () => showRow(rowOf(trial))));
    pinned.replaceChildren(button("×", "Close", unpin), told(item.tooltip), actions);
    pinned.hidden = false;
    document.getElementById("vg-tooltip-element")?.classList.remove("visible");
    place(event);
  };
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") unpin(); });
  document.addEventListener("scroll", unpin, { passive: true });

  const tools = (panel) => {
    const name = panel.querySelector("[data-chart]").dataset.chart;
    const title = panel.querySelector("figcaption b").textContent;
    const caption = panel.querySelector("figcaption span").textContent;
    const kinds = {
      SVG: async () => Runs.save(`${name}.svg`, "image/svg+xml", await Charts.asSvg(name, title, caption)),
      PNG: async () => Runs.save(`${name}.png`, "image/png", await Charts.asPng(name, title, caption)),
      CSV: async () => Runs.save(`${name}.csv`, "text/csv", Charts.asCsv(name)),
    };
    const bar = document.createElement("p");
    bar.className = "tools";
    bar.append(...Object.entries(kinds).map(([kind, save]) => button(kind, `Download ${title} as ${kind}`, save)));
    panel.prepend(bar);
  };
  for (const panel of document.querySelectorAll(".panel")) tools(panel);
  Charts.drawAll(pin);

  // Paper cannot be unfolded.
  let folded = [];
  window.addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const details of folded) details.open = true;
    Charts.onPaper();
  });
  window.addEventListener("afterprint", () => {
    for (const details of folded) details.open = false;
    Charts.onScreen();
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
