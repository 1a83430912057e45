// The failures of the extraction, and the settings that differ.

if (byId("failures-table")) {
  const column = (label, place, tag = "bdi") => ({
    label,
    value: (row) => data.failures[row][place],
    fill: (cell, row) => cell.append(make(tag, {}, data.failures[row][place])),
  });
  const columns = [
    column("Video", 0), column("Stage", 1), column("Reason", 2), column("Modalities", 3), column("Try it alone", 4, "code"),
  ];
  const table = new SortedTable(byId("failures-table"), columns, {
    pageSize: 25,
    paperSize: 1000,
    pager: data.failures.length > 25 ? byId("failures-pager") : null,
    caption: (range, total) => `${range} ${total === 1 ? "failure" : "failures"} of the extraction`,
  });
  const lowered = data.failures.map((row) => row.slice(0, 3).join("\n").toLowerCase());
  const filter = byId("failures-filter");
  const update = () => {
    const text = filter.value.trim().toLowerCase();
    table.show(lowered.flatMap((words, row) => (words.includes(text) ? [row] : [])));
  };
  filter.addEventListener("input", calmly(update));
  update();
}

const differing = byId("settings-differing");
if (differing) {
  differing.addEventListener("change", () => {
    byId("settings-table").classList.toggle("only-differing", differing.checked);
  });
}
