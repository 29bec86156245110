// Does what a reader of the decision page would do, and writes down what came of it.
"use strict";
addEventListener("load", () => {
  const seen = [];
  const say = (line) => seen.push(line);
  try {
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
    const tip = document.getElementById("tip");
    const charts = [...document.querySelectorAll("figure")];
    for (const chart of charts) {
      const svg = chart.querySelector("svg.wide");
      if (!svg.getAttribute("aria-label")) say(`WRONG: ${chart.id} has no text`);
      const marks = [...svg.querySelectorAll(".tip")];
      const texts = new Set();
      marks[0].focus();
      for (const mark of marks) {
        if (document.activeElement === mark && !tip.hidden && tip.textContent) texts.add(mark);
        const key = new KeyboardEvent("keydown", { key: "ArrowRight", bubbles: true });
        document.activeElement.dispatchEvent(key);
      }
      if (!marks.length || texts.size !== marks.length) {
        say(`WRONG: ${chart.id} shows ${texts.size} of ${marks.length} values`);
      }
    }
    say(`charts: ${charts.length}`);
    dispatchEvent(new KeyboardEvent("keydown", { key: "Escape" }));
    say(`escape hides: ${tip.hidden}`);
    for (const link of document.querySelectorAll('a[href^="#"]')) {
      if (!document.querySelector(link.getAttribute("href"))) say(`WRONG: ${link.href} leads nowhere`);
    }
    if (document.documentElement.scrollWidth > innerWidth) say("WRONG: wider than the screen");
    const form = document.getElementById("what-if");
    const ask = (name, value) => {
      form.elements[name].value = value;
      form.dispatchEvent(new Event("input", { bubbles: true }));
      return [...document.querySelectorAll("#what-if-answers tr")].map((row) => row.textContent);
    };
    const measured = ask("price", "10");
    if (!measured.every((row) => row.includes("where it was measured"))) say(`WRONG: ${measured}`);
    if (!measured[1].includes("2.00 ms") && !measured[1].includes("2\u00a0ms")) say(`WRONG: ${measured[1]}`);
    const few = ask("backends", "3");
    if (!few.every((row) => row.includes("off the grid"))) say(`WRONG: ${few}`);
    const many = ask("backends", "300");
    if (!many.every((row) => row.includes("extrapolated: backends 300"))) say(`WRONG: ${many}`);
    ask("backends", "4");
    const flood = ask("rate", "90000");
    if (!flood.every((row) => row.includes("overloaded"))) say(`WRONG: ${flood}`);
    if (ask("rate", "0").length) say("WRONG: no rate, and an answer");
    say(`answers: ${measured.length}`);
    say(`requests: ${performance.getEntriesByType("resource").length}`);
  } catch (error) {
    say(`WRONG: ${error}`);
  }
  const out = document.createElement("pre");
  out.id = "seen";
  out.textContent = seen.join("\n");
  document.body.append(out);
});
