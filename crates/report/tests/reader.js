// Does what a reader of the report would do, and writes down what came of it.
"use strict";
addEventListener("load", () => {
  const seen = [];
  const say = (line) => seen.push(line);
  try {
    const charts = [...document.querySelectorAll("figure")];
    const buttons = [...document.querySelectorAll(".toggles button")];
    for (const button of buttons) {
      button.click();
      for (const chart of charts) {
        for (const svg of chart.querySelectorAll("svg")) {
          const hidden = (mark) => getComputedStyle(mark).visibility === "hidden";
          const marks = [...svg.querySelectorAll("[data-peer]")];
          const own = marks.filter((mark) => mark.dataset.peer === button.textContent);
          const others = marks.filter((mark) => mark.dataset.peer !== button.textContent);
          if (!own.length || !own.every(hidden) || others.some(hidden)) {
            say(`WRONG: ${button.textContent} does not hide in ${chart.id}`);
          }
          const stops = [...svg.querySelectorAll(".tip")].filter((mark) => mark.tabIndex === 0);
          if (stops.length !== 1 || hidden(stops[0])) say(`WRONG: Tab does not stop in ${chart.id}`);
        }
      }
      button.click();
    }
    say(`hidden and shown: ${buttons.length} peers`);

    for (const table of document.querySelectorAll("table.sortable")) {
      for (const button of table.querySelectorAll("thead button")) {
        const rows = table.tBodies[0].rows.length;
        button.click();
        button.click();
        const order = button.closest("th").getAttribute("aria-sort");
        if (order !== "descending" || table.tBodies[0].rows.length !== rows) {
          say(`WRONG: ${button.textContent} does not sort`);
        }
      }
    }
    const calls = [...document.querySelectorAll("#comparison table thead th")];
    const column = calls.findIndex((heading) => heading.textContent.startsWith("Throughput"));
    const values = [...document.querySelectorAll("#comparison table")][0].tBodies[0].rows;
    calls[column].querySelector("button").click();
    const sorted = [...values].map((row) => Number(row.cells[column].dataset.value));
    if (sorted.some((value, index) => index > 0 && value < sorted[index - 1])) {
      say(`WRONG: ${sorted} is not sorted`);
    }

    const tip = document.getElementById("tip");
    for (const chart of charts) {
      const svg = chart.querySelector("svg.wide");
      const marks = [...svg.querySelectorAll(".tip")];
      const texts = new Set();
      marks[0].focus();
      for (const mark of marks) {
        if (document.activeElement === mark && !tip.hidden && tip.textContent) texts.add(mark);
        const key = new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true });
        document.activeElement.dispatchEvent(key);
      }
      say(`${chart.id}: values ${marks.length} shown ${texts.size}`);
    }
    dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    say(`escape hides: ${tip.hidden}`);
    const first = document.querySelector("svg.wide .tip");
    first.dispatchEvent(new PointerEvent("pointermove", { clientX: 200, clientY: 300 }));
    if (tip.hidden) say("WRONG: the pointer shows nothing");
    if (document.documentElement.scrollWidth > innerWidth) say("WRONG: wider than the screen");
    say(`requests: ${performance.getEntriesByType("resource").length}`);
  } catch (error) {
    say(`WRONG: ${error}`);
  }
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = seen.join("\n");
  document.body.append(out);
});
