// Reading curves out: at the pointer, or with the arrow keys.

for (const figure of document.querySelectorAll("figure.chart")) {
  const chart = data.curves[Number(figure.dataset.chart)];
  const svg = figure.querySelector("svg");
  const marker = figure.querySelector(".marker");
  const readout = figure.querySelector(".readout");
  const keys = [...readout.querySelectorAll(".key")];
  let place = chart.epochs.length - 1;

  const read = (number) => {
    place = Math.min(Math.max(number, 0), chart.epochs.length - 1);
    marker.setAttribute("x1", chart.xs[place]);
    marker.setAttribute("x2", chart.xs[place]);
    marker.setAttribute("visibility", "visible");
    const values = chart.series.flatMap((series, n) => [" ", keys[n], " ", make("b", {}, series.values[place])]);
    readout.replaceChildren(`epoch ${chart.epochs[place]}`, ...values);
  };
  const leave = () => {
    read(chart.epochs.length - 1);
    marker.setAttribute("visibility", "hidden");
  };

  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * svg.viewBox.baseVal.width;
    let nearest = 0;
    chart.xs.forEach((other, number) => {
      if (Math.abs(other - x) < Math.abs(chart.xs[nearest] - x)) nearest = number;
    });
    read(nearest);
  });
  svg.addEventListener("pointerleave", leave);
  figure.addEventListener("focus", () => readout.setAttribute("aria-live", "polite"));
  figure.addEventListener("blur", leave);
  figure.addEventListener("keydown", (event) => {
    const target = { ArrowLeft: place - 1, ArrowRight: place + 1, Home: 0, End: Infinity }[event.key];
    if (target === undefined) return;
    event.preventDefault();
    read(target);
  });
}
