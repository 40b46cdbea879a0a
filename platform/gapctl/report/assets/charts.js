"use strict";

// Draws the charts one after another, so that the page answers while it grows, and hands them out as files.
const Charts = (() => {
  const read = (id) => JSON.parse(document.getElementById(id).textContent);
  const { charts: specs, columns } = read("charts");
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

  const column = (number) => {
    const values = columns[number];
    return Array.isArray(values) ? (index) => values[index] : () => values.all;
  };
  const rowsOf = (table) => {
    const readers = Object.entries(table.columns).map(([name, number]) => [name, column(number)]);
    return Array.from({ length: table.length }, (_, index) =>
      Object.fromEntries(readers.map(([name, read]) => [name, read(index)])));
  };
  for (const spec of Object.values(specs)) {
    for (const [name, table] of Object.entries(spec.datasets)) spec.datasets[name] = rowsOf(table);
  }

  // Thousands of marks are drawn as one picture, which cannot follow the colours of the screen: it has those of paper.
  const MANY_MARKS = 1200;
  const isLarge = (spec) => Object.values(spec.datasets).reduce((sum, rows) => sum + rows.length, 0) > MANY_MARKS;
  const onWhite = (spec) => ({
    ...JSON.parse(JSON.stringify(spec).replace(/var\(--([a-z0-9-]+)\)/g, (_, name) => paper[name])),
    background: paper.surface,
  });

  // On paper two charts share a line; drawn anew for that width, they keep the size of their letters.
  const PAPER_COLUMN = 318, PAPER_HEIGHT = 180;
  // A legend stays as it is drawn, so that it must fit on paper too.
  const LEGEND_MARK = 28, LEGEND_LETTER = 7, LEGEND_MARGIN = 40;
  const legendColumns = (spec, width) => {
    const domains = (spec.layer || [spec]).map((layer) => layer.encoding?.color?.scale?.domain || []);
    const letters = Math.max(1, ...domains.flat().map((name) => String(name).length));
    return Math.max(1, Math.floor((Math.min(width, PAPER_COLUMN) - LEGEND_MARGIN) / (LEGEND_MARK + LEGEND_LETTER * letters)));
  };

  const forScreen = (spec, width) => {
    const config = { ...spec.config, legend: { ...spec.config.legend, columns: legendColumns(spec, width) } };
    // Vega would keep every wheel event to itself; only those that zoom are kept from the page, below.
    return { ...spec, config: { ...config, events: { defaults: { prevent: false } } } };
  };

  const zooms = (spec) => (spec.layer || []).some((layer) => layer.params);

  const views = new Map();
  const fit = (sizeOf) => {
    for (const [place, { view, height }] of views) {
      const size = sizeOf(place, height);
      if (place.closest(".panel")) view.width(size.width).height(size.height).run();
    }
  };
  const onPaper = () => fit(() => ({ width: PAPER_COLUMN, height: PAPER_HEIGHT }));
  const onScreen = () => fit((place, height) => ({ width: place.clientWidth, height }));

  const draw = async (place, onClick) => {
    const own = specs[place.dataset.chart];
    const spec = forScreen(isLarge(own) ? onWhite(own) : own, place.clientWidth);
    try {
      const { view } = await vegaEmbed(place, spec, { ...options, renderer: isLarge(own) ? "canvas" : "svg" });
      views.set(place, { view, height: view.height() });
      view.addEventListener("click", (event, item) => onClick(event, item));
      if (zooms(spec)) {
        const keep = (event) => { if (event.ctrlKey || event.metaKey) event.preventDefault(); };
        place.addEventListener("wheel", keep, { passive: false });
      }
    } catch (error) {
      place.textContent = `This chart could not be drawn: ${error.message}`;
    }
  };

  const drawAll = async (onClick) => {
    for (const place of document.querySelectorAll("[data-chart]")) {
      await draw(place, onClick);
      await new Promise((next) => setTimeout(next)); // lets the browser show it and answer its reader
    }
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
    const { autosize, ...spec } = onWhite(specs[name]);
    for (const layer of spec.layer || []) delete layer.params;
    return {
      ...spec,
      width: PAPER_WIDTH,
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

  // A place on an axis is only that of the level beside it.
  const shownBy = (name) =>
    Object.entries(specs[name].datasets).flatMap(([shows, rows]) => rows.map((row) => ({ shows, ...row })));
  const cell = (value) => {
    const text = value === null || value === undefined ? "" : String(value);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const asCsv = (name) => {
    const rows = shownBy(name);
    const columns = new Set(rows.flatMap(Object.keys));
    columns.delete("place");
    const lines = rows.map((row) => [...columns].map((column) => cell(row[column])).join(","));
    return [[...columns].join(","), ...lines].join("\r\n") + "\r\n";
  };

  return { drawAll, onPaper, onScreen, asSvg, asPng, asCsv };
})();
