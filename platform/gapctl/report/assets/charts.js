"use strict";

// Draws the charts one after another, so that the page answers while it grows, and hands them out as files.
const Charts = (() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const specs = read("charts");
  const { paper } = read("facts");
  const PAPER_WIDTH = 560;
  const SUBTITLE_LENGTH = 88;
  const options = {
    mode: "vega-lite",
    renderer: "svg",
    actions: false,
    defaultStyle: false,
    ast: true, // expressions are interpreted: no eval, which the page's own security policy forbids
    tooltip: { disableDefaultStyle: true, theme: "page" },
  };

  const forScreen = (spec, width) => {
    const config = { ...spec.config, legend: { ...spec.config.legend, columns: Math.max(2, Math.floor(width / 88)) } };
    // Vega would keep every wheel event to itself; only those that zoom are kept from the page, below.
    return { ...spec, config: { ...config, events: { defaults: { prevent: false } } } };
  };

  const draw = async (place, onClick) => {
    const spec = forScreen(specs[place.dataset.chart], place.clientWidth);
    try {
      const { view } = await vegaEmbed(place, spec, options);
      view.addEventListener("click", (event, item) => onClick(event, item));
      if (spec.params) {
        const keep = (event) => { if (event.ctrlKey || event.metaKey) event.preventDefault(); };
        place.addEventListener("wheel", keep, { passive: false });
        place.title = "";
      }
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
    }
  };

  const drawAll = async (onClick) => {
    for (const place of document.querySelectorAll("[data-chart]")) await draw(place, onClick);
    document.documentElement.dataset.drawn = "true";
  };

  const wrapped = (text) => {
    const lines = [];
    for (const part of text.split("\n")) {
      let line = "";
      for (const word of part.split(" ")) {
        if (line && line.length + word.length >= SUBTITLE_LENGTH) { lines.push(line); line = ""; }
        line += (line ? " " : "") + word;
      }
      lines.push(line);
    }
    return lines;
  };

  // A file has the colours of paper, a fixed width, and the words that the page has above the chart.
  const forFile = (name, title, caption) => {
    const coloured = JSON.stringify(specs[name]).replace(/var\(--([a-z0-9-]+)\)/g, (_, colour) => paper[colour]);
    const { params, autosize, ...spec } = JSON.parse(coloured);
    return {
      ...spec,
      width: PAPER_WIDTH,
      background: paper.surface,
      padding: 12,
      config: { ...spec.config, background: paper.surface },
      title: { text: title, subtitle: wrapped(caption), offset: 12 },
    };
  };

  const drawn = async (name, title, caption, render) => {
    const { view, finalize } = await vegaEmbed(document.createElement("div"), forFile(name, title, caption), options);
    try { return await render(view); } finally { finalize(); }
  };

  const asSvg = (name, title, caption) => drawn(name, title, caption, (view) => view.toSVG());
  const asPng = (name, title, caption) =>
    drawn(name, title, caption, async (view) => {
      const address = await view.toImageURL("png", 2);
      const bytes = Uint8Array.from(atob(address.split(",")[1]), (letter) => letter.charCodeAt(0));
      return new Blob([bytes], { type: "image/png" });
    });

  // The rows that say what they show; a place on an axis is only that of the level beside it.
  const rowsOf = (name) => {
    const { datasets = {} } = specs[name];
    const found = Object.values(datasets).filter((rows) => rows.length && "shows" in rows[0]);
    const order = (rows) => ["training", "evaluation"].includes(rows[0].shows) ? 0 : 1;
    return found.sort((one, other) => order(one) - order(other)).flat();
  };
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const asCsv = (name) => {
    const rows = rowsOf(name);
    const columns = new Set(["shows", ...rows.flatMap(Object.keys)]);
    columns.delete("place");
    const lines = rows.map((row) => [...columns].map((column) => cell(row[column])).join(","));
    return [[...columns].join(","), ...lines].join("\r\n") + "\r\n";
  };

  return { drawAll, asSvg, asPng, asCsv };
})();
