"use strict";
// The page says all it has to say without this: it sorts, filters, enlarges, copies, and shows what is pointed at.

const make = (tag, words = "", values = {}) => Object.assign(document.createElement(tag), { textContent: words }, values);

// "linf 8/255" sorts by its number behind equal words; what is no number stands last
function key(cell) {
  const text = (cell.querySelector("a, span") ?? cell).textContent.trim();
  const parts = /^(.*?)(-?\d+(?:\.\d+)?(?:e[+-]?\d+)?)(?:\/(\d+))?/.exec(text);
  if (!parts) return { words: text, number: Infinity, text };
  return { words: parts[1], number: Number(parts[2]) / Number(parts[3] ?? 1), text };
}

function compared(a, b) {
  return a.words.localeCompare(b.words) || a.number - b.number || a.text.localeCompare(b.text);
}

function sortable(table) {
  const body = table.tBodies[0];
  const original = [...body.rows];
  for (const heading of table.tHead.rows[0].cells) {
    const button = make("button", heading.textContent, { type: "button" });
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const before = heading.getAttribute("aria-sort");
      const after = before === "ascending" ? "descending" : before === "descending" ? null : "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      const rows = [...original];
      if (after) {
        heading.setAttribute("aria-sort", after);
        const sign = after === "ascending" ? 1 : -1;
        const keys = new Map(rows.map((row) => [row, key(row.cells[heading.cellIndex])]));
        const last = (row) => heading.classList.contains("n") && keys.get(row).number === Infinity;
        rows.sort((a, b) => last(a) - last(b) || sign * compared(keys.get(a), keys.get(b)));
      }
      table.classList.toggle("sorted", Boolean(after));
      moved(table);
      body.append(...rows);
    });
  }
}

// a first entry that is said once a group is said again where rows do not stand as they were
const moved = (table) => table.classList.toggle("moved", table.matches(".sorted, .picked"));

function filterable(table, number) {
  const rows = [...table.tBodies[0].rows];
  if (rows.length < 8) return;
  const input = make("input", "", { type: "search", id: `filter${number}` });
  const count = make("output");
  count.setAttribute("for", input.id);
  const label = make("label", "rows with ");
  label.append(input);
  const bar = make("div", "", { className: "filter" });
  bar.append(label, count);
  const show = () => {
    const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const shown = rows.filter((row) => !row.hidden).length;
    count.textContent = words.length ? `${shown} of ${rows.length} rows shown` : `${rows.length} rows`;
    table.classList.toggle("picked", words.length > 0);
    moved(table);
  };
  input.addEventListener("input", show);
  input.setAttribute("aria-label", `rows with, in ${table.caption.textContent}`);
  table.parentElement.before(bar);
  show();
}

function enlarging(samples) {
  const dialog = document.body.appendChild(make("dialog"));
  dialog.setAttribute("aria-labelledby", "enlarged");
  const title = make("h2", "", { id: "enlarged" });
  const content = make("div");
  const tools = make("div", "", { className: "tools" });
  let at = 0;
  const show = (number) => {
    at = (number + samples.length) % samples.length;
    title.textContent = samples[at].getAttribute("aria-label");
    content.replaceChildren(...[...samples[at].querySelectorAll(".shots, .labels")].map((part) => part.cloneNode(true)));
    for (const button of content.querySelectorAll(".zoom")) button.replaceWith(...button.childNodes);
  };
  for (const [words, act] of [["previous", () => show(at - 1)], ["next", () => show(at + 1)], ["close", () => dialog.close()]]) {
    const button = make("button", words, { type: "button" });
    button.addEventListener("click", act);
    tools.append(button);
  }
  dialog.append(tools, title, content);
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(at - 1);
    if (event.key === "ArrowRight") show(at + 1);
  });
  dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
  samples.forEach((sample, number) => {
    for (const image of sample.querySelectorAll("img")) {
      const button = make("button", "", { type: "button", className: "zoom", title: "enlarge" });
      image.replaceWith(button);
      button.append(image);
      button.addEventListener("click", () => {
        show(number);
        dialog.showModal();
      });
    }
  });
}

function copying(line) {
  const command = line.querySelector("code");
  const button = make("button", "copy", { type: "button" });
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(command.textContent);
      button.textContent = "copied";
    } catch {
      getSelection().selectAllChildren(command); // where pages may not write: Ctrl-C does
      button.textContent = "selected";
    }
  });
  line.append(" ", button);
}

function pointing(plot) {
  const readout = plot.appendChild(make("output", "Point at a mark, or reach it by Tab, for its value.", { className: "readout" }));
  for (const point of plot.querySelectorAll(".point")) {
    point.setAttribute("tabindex", "0");
    for (const event of ["pointerenter", "focus"]) point.addEventListener(event, () => (readout.textContent = point.getAttribute("aria-label")));
  }
}

document.querySelectorAll("table.filtered").forEach(sortable);
document.querySelectorAll("table.filtered").forEach(filterable);
document.querySelectorAll(".next").forEach(copying);
document.querySelectorAll(".plot").forEach(pointing);
const samples = [...document.querySelectorAll(".sample")];
if (samples.length) enlarging(samples);
