// Figures, tabs of figures, the dial of the samples, and tables that sort.
"use strict";

const stored = (id) => JSON.parse(document.getElementById(id).textContent);
const dark = matchMedia("(prefers-color-scheme: dark)");
const darker = Object.entries(stored("dark-colours"));
const figures = stored("figures");
const plots = [...document.querySelectorAll("[data-figure]")];
let printing = false;

// A figure in the page's colours and at the page's width.
function fitted(plot) {
  const described = figures[plot.dataset.figure];
  let text = JSON.stringify(described);
  if (dark.matches && !printing) for (const [light, other] of darker) text = text.replaceAll(light, other);
  const { data, layout, small, square, names } = JSON.parse(text);
  const width = printing ? Math.min(640, plot.clientWidth) : plot.clientWidth;
  const narrow = width < 520;
  const size = narrow || small ? 12 : 14;
  const perRow = Math.max(1, Math.floor(width / ((8 * size) / 14 * Math.max(0, ...names) + 60)));
  const rows = Math.ceil(names.length / perRow);
  const bottom = 52 + (small ? 17 : 21) * rows;
  const inner = square ? Math.min(width - 80, 420) : small ? 150 : narrow ? 250 : 360;
  for (const axis of [layout.xaxis, layout.yaxis]) {
    Object.assign(axis, { zeroline: false, automargin: true, nticks: small ? 5 : 8 });
    axis.title.standoff = 10;
  }
  if (square) Object.assign(layout.yaxis, { scaleanchor: "x", constrain: "domain" });
  for (const label of layout.annotations) label.font.size = size - 1;
  const family = getComputedStyle(document.documentElement).getPropertyValue("--font");
  return {
    data,
    layout: {
      ...layout,
      width,
      height: inner + bottom + 12,
      margin: { l: 8, r: 8, t: 12, b: bottom },
      font: { ...layout.font, family, size },
      paper_bgcolor: "transparent",
      plot_bgcolor: "transparent",
      hovermode: "closest",
      legend: { orientation: "h", x: 0, xanchor: "left", y: 0, yanchor: "bottom", yref: "container", maxheight: 30 * rows + 2, tracegroupgap: 0, font: { size: size - 1 } },
      dragmode: matchMedia("(pointer: coarse)").matches ? false : "zoom",
    },
  };
}

function draw(plot) {
  if (!plot.clientWidth) return; // in a tab that is not shown
  const { data, layout } = fitted(plot);
  Plotly.react(plot, data, layout, { displayModeBar: false, responsive: false });
  plot.dataset.width = plot.clientWidth;
}

if (plots.length) {
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries)
      if (isIntersecting && Number(target.dataset.width) !== target.clientWidth) draw(target);
  }, { rootMargin: "400px" });
  plots.forEach((plot) => seen.observe(plot));
  const drawn = () => plots.filter((plot) => plot.dataset.width);
  dark.addEventListener("change", () => drawn().forEach(draw));
  addEventListener("resize", () => drawn().forEach(draw));
  addEventListener("beforeprint", () => {
    printing = true;
    plots.forEach(draw);
  });
  addEventListener("afterprint", () => {
    printing = false;
    drawn().forEach(draw);
  });
}

for (const tabs of document.querySelectorAll("[role=tablist]")) {
  const buttons = [...tabs.querySelectorAll("[role=tab]")];
  const choose = (chosen) => buttons.forEach((button) => {
    const on = button === chosen;
    button.setAttribute("aria-selected", on);
    button.tabIndex = on ? 0 : -1;
    const panel = document.getElementById(button.getAttribute("aria-controls"));
    panel.hidden = !on;
    if (on) panel.querySelectorAll("[data-figure]").forEach(draw);
  });
  buttons.forEach((button, i) => {
    button.addEventListener("click", () => choose(button));
    button.addEventListener("keydown", ({ key }) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
      if (!step) return;
      const next = buttons[(i + step + buttons.length) % buttons.length];
      next.focus();
      choose(next);
    });
  });
}

for (const dial of document.querySelectorAll("input[data-dial]")) {
  const move = () => {
    for (const part of document.querySelectorAll("[data-at]")) part.hidden = part.dataset.at !== dial.value;
    dial.setAttribute("aria-valuetext", document.querySelector(`output [data-at="${dial.value}"]`).textContent);
  };
  dial.addEventListener("input", move);
  move(); // a browser that reloads keeps the dial where it was
}

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    headings.forEach((other) => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const value = (row) => row.cells[column].dataset.value;
    const compare = (a, b) => {
      const [x, y] = [value(a), value(b)];
      if (x === "" || y === "") return (x === "") - (y === ""); // gaps stay at the end
      const order = isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y;
      return down ? -order : order;
    };
    body.append(...[...body.rows].sort(compare));
  }));
}
