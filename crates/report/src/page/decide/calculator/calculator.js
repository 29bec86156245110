// Answers from the grid that the form carries: simulated points, and straight lines between
// them over load and over the logarithms of backends and connections.
"use strict";
(() => {
  const form = document.getElementById("what-if");
  const grid = JSON.parse(form.dataset.grid);
  const [loadText, body] = ["what-if-load", "what-if-answers"].map((id) => document.getElementById(id));
  const NEAR = 0.02;
  const isNear = (a, b) => Math.abs(a - b) <= NEAR * Math.max(Math.abs(a), Math.abs(b));

  const digits = (value) => {
    const size = Math.abs(value);
    if (size >= 1000) return Math.round(value).toLocaleString("en");
    return size === 0 ? "0" : String(Number(value.toPrecision(3)));
  };
  const UNITS = [["s", 1e9], ["ms", 1e6], ["µs", 1e3], ["ns", 1]];
  const unitOf = (ns) => UNITS.find(([, size]) => ns >= size) ?? UNITS[3];
  // Values as text, in one unit, which stands behind the last.
  const times = (...all) => {
    const [unit, size] = unitOf(all[all.length - 1]);
    return `${all.map((ns) => digits(ns / size)).join("–")}\u00a0${unit}`;
  };
  const shares = (...all) => `${all.map((part) => digits(100 * part)).join("–")}\u00a0%`;
  const plain = (...all) => all.map(digits).join("–");

  // Where a value lies on an axis: the point below, and how far it is to the next one.
  const place = (axis, value, scale) => {
    const at = axis.map(scale);
    const own = Math.min(Math.max(scale(value), at[0]), at[at.length - 1]);
    let low = 0;
    while (low < at.length - 2 && at[low + 1] <= own) low += 1;
    return [low, (own - at[low]) / (at[low + 1] - at[low])];
  };
  const isOn = (axis, value) => value >= axis[0] * 0.999 && value <= axis[axis.length - 1] * 1.001;

  // A figure, [low, value, high], between the eight cells around a setting.
  const figure = (cells, places, name) => {
    const [, backends, connections] = [grid.loads, grid.backends, grid.connections].map((axis) => axis.length);
    return [0, 1, 2].map((end) => {
      let sum = 0;
      for (let corner = 0; corner < 8; corner += 1) {
        let [index, weight] = [[], 1];
        places.forEach(([low, part], axis) => {
          const up = (corner >> axis) & 1;
          index.push(low + up);
          weight *= up ? part : 1 - part;
        });
        if (weight === 0) continue;
        const cell = cells[(index[0] * backends + index[1]) * connections + index[2]];
        sum += weight * Math.log(Math.max(cell[name][end], 1e-6));
      }
      return Math.exp(sum);
    });
  };

  // CPU per call at a message size, and whether that is within what was measured.
  const cost = (costs, bytes) => {
    if (!costs.length) return null;
    const next = costs.findIndex((one) => one.bytes >= bytes);
    if (costs.length === 1 || next === 0) return [costs[0].cpu_ns, costs[0].bytes === bytes];
    const high = next < 0 ? costs.length - 1 : next;
    const [a, b] = [costs[high - 1], costs[high]];
    const part = (bytes - a.bytes) / (b.bytes - a.bytes);
    return [a.cpu_ns.map((own, end) => own + part * (b.cpu_ns[end] - own)), next >= 0];
  };

  const wayAt = (ways, rate) => {
    const away = (way) => Math.abs(Math.log((way.rate ?? rate) / rate));
    return ways.reduce((best, way) => (best && away(best) <= away(way) ? best : way), null);
  };

  // Why an answer goes beyond what was measured.
  const beyond = (asked, connections, load) => {
    const most = (of) => Math.max(...grid.measured.map(of));
    const reasons = [];
    const check = (name, own, limit) => {
      if (own > limit * (1 + NEAR)) reasons.push(`${name} ${digits(own)}, measured up to ${digits(limit)}`);
    };
    check("load", load, most((one) => one.load));
    check("backends", asked.backends, most((one) => one.backends));
    check("connections", connections, most((one) => one.connections));
    if (!isNear(asked.service * 1e6, grid.service_ns)) {
      reasons.push(`service ${digits(asked.service)} ms, measured ${digits(grid.service_ns / 1e6)} ms`);
    }
    return reasons;
  };

  const standing = (asked, axes, load, connections) => {
    const reasons = beyond(asked, connections, load);
    const ends = [[grid.loads, "load"], [grid.backends, "backends"], [grid.connections, "connections a backend"]];
    ends.forEach(([axis, name], index) => {
      if (!isOn(axis, axes[index])) reasons.push(`${name} ${digits(axes[index])} is off the grid, and its edge is shown`);
    });
    if (reasons.length) return `extrapolated: ${reasons.join("; ")}`;
    const isMeasured = grid.measured.some(
      (one) => isNear(one.load, load) && one.backends === asked.backends && one.connections === connections,
    );
    return isMeasured ? "simulated where it was measured" : "interpolated";
  };

  const cell = (row, text, range) => {
    const own = row.insertCell();
    own.className = "num";
    own.textContent = text;
    if (range) {
      const small = document.createElement("small");
      small.textContent = range;
      own.append(small);
    }
  };
  const ranged = ([low, value, high], show) => {
    const isOne = show(low) === show(high);
    return [show(value), isOne ? "" : show(low, high)];
  };

  const answer = (choice, asked, load) => {
    const row = body.insertRow();
    const head = document.createElement("th");
    head.scope = "row";
    head.textContent = choice.peer;
    const policy = document.createElement("small");
    policy.textContent = choice.layer === "none" ? "no balancer" : choice.policy;
    head.append(policy);
    row.append(head);
    const connections = asked.clients * asked.each;
    const lines = choice.layer === "client" ? asked.clients : connections;
    const axes = [load, asked.backends, lines / asked.backends];
    const places = [
      place(grid.loads, axes[0], (value) => value),
      place(grid.backends, axes[1], Math.log),
      place(grid.connections, axes[2], Math.log),
    ];
    const of = (name) => figure(choice.cells, places, name);
    const busiest = of("busiest").map((part) => Math.min(part / asked.backends, 1));
    cell(row, ...ranged(busiest, shares));
    const used = load * asked.backends * busiest[1];
    const way = wayAt(choice.ways, asked.rate) ?? { p50_ns: 0, mean_ns: 0, p99_ns: 0 };
    const { p50_ns: p50, mean_ns: mean, p99_ns: p99 } = way;
    const added = {
      mean: [mean, mean, mean],
      p50: [Math.min(p50, mean), p50, Math.max(p50, mean)],
      p99: [p50, mean, p99],
    };
    for (const [name, onTheWay] of Object.entries(added)) {
      if (load >= 1 || used >= 1) {
        cell(row, "grows", `overloaded ${digits(Math.max(load, used))}\u00a0times`);
      } else {
        const all = of(name).map((own, end) => own * asked.service * 1e6 + onTheWay[end]);
        cell(row, ...ranged(all, times));
      }
    }
    const cpu = cost(choice.costs, asked.bytes);
    const cores = cpu?.[0].map((ns) => (asked.rate * ns) / 1e9);
    if (cores) {
      cell(row, ...ranged(cores, plain));
      cell(row, ...ranged(cores.map((own) => own * asked.price), plain));
    } else {
      cell(row, "–");
      cell(row, "–");
    }
    const text = standing(asked, axes, load, connections);
    const size = cpu && !cpu[1] ? "; CPU at this message size is extrapolated" : "";
    row.insertCell().textContent = text + size;
  };

  const update = () => {
    const asked = Object.fromEntries([...new FormData(form)].map(([name, text]) => [name, Number(text)]));
    body.replaceChildren();
    const wrong = ["rate", "clients", "each", "backends", "service"].find((name) => !(asked[name] > 0));
    if (wrong) {
      loadText.textContent = `${form.elements[wrong].labels[0].textContent}: a number above zero, please.`;
      return;
    }
    const load = (asked.rate * asked.service) / 1e3 / (asked.backends * grid.concurrency);
    loadText.textContent = `The backends are offered ${shares(load)} of what they can do.`;
    grid.choices.forEach((choice) => answer(choice, asked, load));
  };
  form.addEventListener("input", update);
  form.addEventListener("submit", (event) => event.preventDefault());
  update();
})();
