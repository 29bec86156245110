// Sorts tables, hides and shows peers, and shows the values under the pointer.
// The page says everything without it.
"use strict";
(() => {
  // Tables: a click on a heading sorts, another one turns the order round.
  const valueOf = (row, index) => {
    const cell = row.cells[index];
    if (!cell) return null;
    const raw = cell.dataset.value ?? cell.textContent.trim();
    const number = Number(raw);
    return raw === "" || raw === "–" ? null : Number.isNaN(number) ? raw : number;
  };
  const compare = (a, b) => {
    if (a === null || b === null) return (a === null) - (b === null);
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), "en", { numeric: true });
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    const headings = [...table.tHead.rows[0].cells];
    headings.forEach((heading, index) => {
      if (heading.classList.contains("plain")) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...heading.childNodes);
      heading.append(button);
      button.addEventListener("click", () => {
        const down = heading.getAttribute("aria-sort") === "ascending";
        headings.forEach((other) => other.removeAttribute("aria-sort"));
        heading.setAttribute("aria-sort", down ? "descending" : "ascending");
        const body = table.tBodies[0];
        const rows = [...body.rows];
        rows.sort((a, b) => {
          const [x, y] = [valueOf(a, index), valueOf(b, index)];
          // Rows without a value stay at the end either way.
          return down && x !== null && y !== null ? compare(y, x) : compare(x, y);
        });
        body.append(...rows);
      });
    });
  }

  // What is folded away is printed too.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll(".evidence > details")) details.open = true;
  });

  // Charts: one stop for the Tab key each, and arrow keys from value to value.
  const valuesOf = (chart) =>
    [...chart.querySelectorAll(".tip")].filter((mark) => !mark.classList.contains("away"));
  const oneStop = (chart, at) => {
    const marks = valuesOf(chart);
    const stop = at ?? marks.find((mark) => mark.tabIndex === 0) ?? marks[0];
    for (const mark of chart.querySelectorAll(".tip")) mark.tabIndex = mark === stop ? 0 : -1;
  };
  const STEPS = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 };
  for (const chart of document.querySelectorAll("svg")) {
    chart.addEventListener("keydown", (event) => {
      const marks = valuesOf(chart);
      const at = marks.indexOf(document.activeElement);
      const last = marks.length - 1;
      const to = { Home: 0, End: last }[event.key] ?? at + (STEPS[event.key] ?? NaN);
      if (at < 0 || Number.isNaN(to)) return;
      event.preventDefault();
      const next = marks[Math.max(0, Math.min(last, to))];
      oneStop(chart, next);
      next.focus();
    });
  }

  // Peers: a button each.
  const toggles = document.querySelector(".toggles");
  if (toggles && toggles.children.length > 1) {
    for (const label of [...toggles.children]) {
      const name = label.dataset.toggle;
      const button = document.createElement("button");
      button.type = "button";
      button.className = label.className;
      button.textContent = name;
      button.setAttribute("aria-pressed", "true");
      button.addEventListener("click", () => {
        const shown = button.getAttribute("aria-pressed") !== "true";
        button.setAttribute("aria-pressed", String(shown));
        for (const mark of document.querySelectorAll("svg [data-peer]")) {
          if (mark.dataset.peer === name) mark.classList.toggle("away", !shown);
        }
        for (const chart of document.querySelectorAll("svg")) oneStop(chart);
      });
      label.replaceWith(button);
    }
    const hint = document.createElement("span");
    hint.className = "fine";
    hint.textContent = "Click to hide or show a peer; hover over a chart for values, or use Tab and arrow keys";
    toggles.append(hint);
    toggles.hidden = false;
  }

  // Values: what the browser would show after a while, shown at once, and for
  // the keyboard too.
  const tip = document.createElement("div");
  tip.id = "tip";
  tip.setAttribute("role", "tooltip");
  tip.hidden = true;
  document.body.append(tip);
  const show = (text, x, y) => {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
    tip.style.top = (y - box.height - 12 < 8 ? y + 18 : y - box.height - 12) + "px";
  };
  const hide = () => {
    tip.hidden = true;
  };
  for (const mark of document.querySelectorAll("svg .tip")) {
    const title = mark.querySelector("title");
    if (!title) continue;
    const text = title.textContent;
    title.remove();
    mark.addEventListener("pointermove", (event) => show(text, event.clientX, event.clientY));
    mark.addEventListener("pointerleave", hide);
    mark.setAttribute("aria-label", text);
    mark.addEventListener("focus", () => {
      const box = mark.getBoundingClientRect();
      show(text, box.left + box.width / 2, box.top);
    });
    mark.addEventListener("blur", hide);
  }
  // Paper can't be unfolded.
  addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
  for (const chart of document.querySelectorAll("svg")) oneStop(chart);
  addEventListener("keydown", (event) => {
    if (event.key === "Escape") hide();
  });
})();
