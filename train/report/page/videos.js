// The table of videos, with its filters.

let showVideos = () => {};

if (byId("videos-table")) {
  const { names, labels, tests } = data.videos;
  const test = () => tests[shownTest];
  const outcome = byId("videos-outcome");
  const trueClass = byId("videos-true");
  const predictedClass = byId("videos-predicted");
  const filter = byId("videos-filter");
  const lowered = names.map((name) => name.toLowerCase());
  const loweredClasses = data.classes.map((name) => name.toLowerCase());
  const thousandths = (value) => `${(value / 10).toFixed(1)}%`;

  const columns = [
    { label: "Video", value: (row) => names[row], fill: (cell, row) => cell.append(named(names[row])) },
    { label: "True class", value: (row) => data.classes[labels[row]], fill: (cell, row) => cell.append(named(data.classes[labels[row]])) },
    {
      label: "Predicted",
      value: (row) => data.classes[test().predicted[row]],
      fill: (cell, row) => {
        const right = test().predicted[row] === labels[row];
        cell.className = right ? "right" : "wrong";
        cell.append(named(data.classes[test().predicted[row]]));
      },
    },
    { label: "Confidence", number: true, value: (row) => test().confidence[row], fill: (cell, row) => { cell.textContent = thousandths(test().confidence[row]); } },
    { label: "Of the true class", number: true, value: (row) => test().own[row], fill: (cell, row) => { cell.textContent = thousandths(test().own[row]); } },
    { label: "Rank", number: true, value: (row) => test().rank[row], fill: (cell, row) => { cell.textContent = counted.format(test().rank[row]); } },
  ];

  const conditions = () => {
    const parts = [];
    if (outcome.value) parts.push(`${outcome.value} only`);
    if (trueClass.value) parts.push(`true class ${data.classes[trueClass.value]}`);
    if (predictedClass.value) parts.push(`predicted ${data.classes[predictedClass.value]}`);
    if (filter.value.trim()) parts.push(`like “${filter.value.trim()}”`);
    return parts.length ? `; ${parts.join(", ")}` : "";
  };
  const table = new SortedTable(byId("videos-table"), columns, {
    pageSize: 50,
    pager: byId("videos-pager"),
    caption: (range, total) => `${range} ${total === 1 ? "video" : "videos"} as ${data.tests[shownTest]} sees them${conditions()}`,
  });

  const update = () => {
    const { predicted } = test();
    const text = filter.value.trim().toLowerCase();
    const wanted = trueClass.value === "" ? null : Number(trueClass.value);
    const guessed = predictedClass.value === "" ? null : Number(predictedClass.value);
    const classFits = loweredClasses.map((name) => name.includes(text));
    const rows = [];
    for (let row = 0; row < labels.length; row += 1) {
      const right = predicted[row] === labels[row];
      if (outcome.value && right !== (outcome.value === "right")) continue;
      if (wanted !== null && labels[row] !== wanted) continue;
      if (guessed !== null && predicted[row] !== guessed) continue;
      if (text && !lowered[row].includes(text) && !classFits[labels[row]] && !classFits[predicted[row]]) continue;
      rows.push(row);
    }
    table.show(rows);
  };

  const set = (values) => {
    outcome.value = values.outcome ?? "";
    trueClass.value = String(values.label ?? "");
    predictedClass.value = String(values.predicted ?? "");
    filter.value = "";
    update();
  };
  showVideos = (label, predicted) => {
    set({ label, predicted });
    byId("videos-title").focus({ preventScroll: true });
    byId("videos").scrollIntoView({ behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth" });
  };

  for (const select of [trueClass, predictedClass]) {
    select.append(...matrix.byName.map((label) => make("option", { value: label }, data.classes[label])));
  }
  for (const select of [outcome, trueClass, predictedClass]) select.addEventListener("change", update);
  filter.addEventListener("input", calmly(update));
  byId("videos-reset").addEventListener("click", () => set({}));
  testListeners.push(update);
  update();
}
