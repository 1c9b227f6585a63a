"use strict";
// A curve tells its figures where it is pointed at, touched, or walked along with the arrow keys.
for (const chart of document.querySelectorAll("svg.chart")) {
  const points = {
    x: chart.dataset.x.split(" ").map(Number),
    y: chart.dataset.y.split(" ").map(Number),
    told: chart.dataset.told.split("|"),
  };
  const readout = chart.closest("figure").querySelector(".readout");
  const last = readout.textContent;
  const [line, dot] = chart.querySelector(".reading").children;
  let at = points.x.length - 1;
  const read = (index) => {
    at = Math.max(0, Math.min(points.x.length - 1, index));
    line.setAttribute("x1", points.x[at]);
    line.setAttribute("x2", points.x[at]);
    dot.setAttribute("cx", points.x[at]);
    dot.setAttribute("cy", points.y[at]);
    chart.classList.add("read");
    readout.textContent = points.told[at];
  };
  const leave = () => {
    chart.classList.remove("read");
    readout.textContent = last;
  };
  const nearest = (event) => {
    const box = chart.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * chart.viewBox.baseVal.width;
    const y = ((event.clientY - box.top) / box.height) * chart.viewBox.baseVal.height;
    // Of points above each other the nearest one.
    const far = (index) => Math.abs(points.x[index] - x) + 1e-3 * Math.abs(points.y[index] - y);
    read(points.x.reduce((best, _, index) => (far(index) < far(best) ? index : best), 0));
  };
  chart.addEventListener("pointermove", nearest);
  chart.addEventListener("pointerdown", nearest);
  chart.addEventListener("pointerleave", leave);
  chart.addEventListener("blur", leave);
  chart.addEventListener("focus", () => { if (chart.matches(":focus-visible")) read(at); });
  chart.addEventListener("keydown", (event) => {
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (way) {
      event.preventDefault();
      read(at + way);
    }
  });
}
// A link to a step opens it.
const open = () => {
  const target = location.hash ? document.getElementById(location.hash.slice(1)) : null;
  if (target instanceof HTMLDetailsElement) target.open = true;
};
addEventListener("hashchange", open);
open();
