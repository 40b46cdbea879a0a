// Where MLflow shows the trainings, and what to do in a frame that may neither open pages nor save files.
const Runs = (() => {
  const { mlflow, pages } = JSON.parse(document.getElementById("facts").textContent);
  // MLflow shows a report in a frame of its own making, whose address begins with MLflow's.
  const host = /^blob:(https?:\/\/[^/]+)/.exec(location.href);
  const within = host && !(mlflow || "").startsWith(host[1]) ? host[1] : mlflow;
  let address = within;
  const confined = window.origin === "null" && window.self !== window.top;

  const pageOf = (trial) => (address && pages[trial] ? `${address.replace(/\/+$/, "")}/${pages[trial]}` : null);

  const offer = (title, said, content) => {
    const dialog = document.getElementById("offer");
    dialog.querySelector("h2").textContent = title;
    dialog.querySelector("p").textContent = said;
    dialog.querySelector("div").replaceChildren(content);
    dialog.showModal();
    if (content.select) content.select();
  };
  const written = (text, lines) => {
    const area = document.createElement("textarea");
    Object.assign(area, { value: text, readOnly: true, rows: lines });
    return area;
  };

  const open = (event, link) => {
    if (!confined) return;
    event.preventDefault();
    offer("Another page", "This frame may not open pages. Copy the address, or open the link from its context menu.", written(link.href, 2));
  };

  const linkTo = (href, words) => {
    const made = document.createElement("a");
    Object.assign(made, { href, target: "_blank", rel: "noopener", textContent: words });
    made.addEventListener("click", (event) => open(event, made));
    return made;
  };
  const link = (trial, words) => linkTo(pageOf(trial), words);

  const picture = (blob) => {
    const image = document.createElement("img");
    image.src = URL.createObjectURL(blob);
    return image;
  };
  const save = (name, type, content) => {
    const blob = content instanceof Blob ? content : new Blob([content], { type });
    if (confined) {
      const isText = type === "text/csv";
      const said = isText ? "This frame may not save files. Copy the rows," : "This frame may not save files. Save the picture from its context menu,";
      offer(name, `${said} or download the report and open it by itself.`, isText ? written(content, 14) : picture(blob));
      return;
    }
    const anchor = document.createElement("a");
    anchor.href = URL.createObjectURL(blob);
    anchor.download = name;
    anchor.click();
    setTimeout(() => URL.revokeObjectURL(anchor.href), 10_000);
  };

  const relink = () => {
    for (const anchor of document.querySelectorAll("a[data-trial]")) anchor.href = pageOf(anchor.dataset.trial) || anchor.href;
  };

  // A port that was taken, or a server that moved: the reader may say where MLflow is.
  const askFor = (place) => {
    const field = document.createElement("input");
    Object.assign(field, { type: "url", value: address, size: Math.max(22, address.length), spellcheck: false });
    field.setAttribute("aria-label", "MLflow's address");
    field.addEventListener("input", () => { address = field.value.trim(); relink(); });
    place.replaceChildren(field);
  };

  for (const anchor of document.querySelectorAll("a[data-trial]")) anchor.addEventListener("click", (event) => open(event, anchor));
  for (const place of document.querySelectorAll("[data-mlflow]")) askFor(place);
  relink();

  return { pageOf, link, linkTo, save };
})();
