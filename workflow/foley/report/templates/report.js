"use strict";
document.documentElement.classList.add("js");

// Tables sort by their column when its heading is clicked; cells without a value stay last.
function sortBy(heading) {
  const table = heading.closest("table");
  const column = [...heading.parentNode.children].indexOf(heading);
  const numeric = heading.classList.contains("num") || heading.classList.contains("barcell");
  const was = heading.getAttribute("aria-sort");
  const descending = was ? was === "ascending" : numeric;
  for (const other of table.tHead.querySelectorAll("th")) other.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
  const key = (row) => {
    const cell = row.cells[column];
    const text = cell.dataset.v ?? cell.textContent.trim();
    return numeric ? (text === "" ? NaN : Number(text)) : text;
  };
  const rows = [...table.tBodies[0].rows].map((row) => [key(row), row]);
  const order = descending ? -1 : 1;
  rows.sort(([a], [b]) => {
    if (numeric) return Number.isNaN(a) || Number.isNaN(b) ? Number.isNaN(a) - Number.isNaN(b) : order * (a - b);
    return order * a.localeCompare(b, undefined, { numeric: true });
  });
  table.tBodies[0].append(...rows.map(([, row]) => row));
}
for (const heading of document.querySelectorAll(".sortable thead th")) {
  heading.tabIndex = 0;
  heading.addEventListener("click", () => sortBy(heading));
  heading.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" && event.key !== " ") return;
    event.preventDefault();
    sortBy(heading);
  });
}

// Of several panels one is shown, chosen in a list; without this script all are.
for (const group of document.querySelectorAll(".panels")) {
  const panels = [...group.querySelectorAll(":scope > .panel")];
  if (panels.length < 2) continue;
  const select = document.createElement("select");
  for (const panel of panels) select.add(new Option(panel.dataset.title));
  const show = () => panels.forEach((panel, number) => (panel.hidden = number !== select.selectedIndex));
  select.addEventListener("change", show);
  const label = document.createElement("label");
  label.className = "picker";
  label.append(group.dataset.label, select);
  group.prepend(label);
  show();
}

for (const gallery of document.querySelectorAll(".gallery")) {
  const cards = [...gallery.querySelectorAll(".card")];
  if (cards.length < 9) continue;
  const input = document.createElement("input");
  input.type = "search";
  const label = document.createElement("label");
  label.className = "picker";
  label.append("Find a class", input);
  gallery.querySelector(".cards").before(label);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    for (const card of cards) card.hidden = !card.dataset.name.toLowerCase().includes(wanted);
  });
}

// One clip at a time: comparing two sounds means hearing them one after the other.
document.addEventListener("play", (event) => {
  for (const audio of document.querySelectorAll("audio")) if (audio !== event.target) audio.pause();
}, true);
