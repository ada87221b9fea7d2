"use strict";

for (const article of document.querySelectorAll(".pictured")) {
  const steps = article.querySelectorAll(".step");
  article.addEventListener("change", (event) => {
    steps.forEach((step, index) => { step.hidden = index !== Number(event.target.value); });
  });
}

const table = document.getElementById("case-table");
const body = table.tBodies[0];
const headers = [...table.tHead.rows[0].cells];

function compareCells(one, other, sign) {
  const [a, b] = [one.dataset.value, other.dataset.value];
  if (a === undefined) {
    return sign * one.textContent.trim().localeCompare(other.textContent.trim(), "en", { numeric: true });
  }
  // What has no value comes last in both directions.
  if (a === "" || b === "") {
    return (a === "") - (b === "");
  }
  return sign * (a - b);
}

headers.forEach((header, column) => {
  header.querySelector("button").addEventListener("click", () => {
    const ascending = header.getAttribute("aria-sort") !== "ascending";
    headers.forEach((each) => each.setAttribute("aria-sort", "none"));
    header.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => compareCells(a.cells[column], b.cells[column], sign)));
  });
});

const text = document.getElementById("filter-text");
const modality = document.getElementById("filter-modality");

function filterRows() {
  const wanted = text.value.toLowerCase();
  let shown = 0;
  for (const row of body.rows) {
    row.hidden = !row.textContent.toLowerCase().includes(wanted)
      || (modality.value !== "" && row.dataset.modality !== modality.value);
    shown += !row.hidden;
  }
  document.getElementById("filter-count").value = `${shown} of ${body.rows.length}`;
}

text.addEventListener("input", filterRows);
modality.addEventListener("change", filterRows);
filterRows();
