// The table of classes: accuracy in every test and what each gains.

/** Put a bar into a cell: from zero, or from the middle for gains, with its interval. */
function addBar(cell, value, low, high, reach = null) {
  if (value === null) return;
  const at = (number) => (reach === null ? number : (number / reach + 1) / 2);
  const clipped = (number) => Math.min(Math.max(at(number), 0), 1) * 100;
  const [start, end] = [clipped(reach === null ? 0 : Math.min(value, 0)), clipped(reach === null ? value : Math.max(value, 0))];
  const track = make("span", { class: reach === null ? "track" : value < 0 ? "track loss" : "track gain" });
  track.style.setProperty("--start", `${start}%`);
  track.style.setProperty("--end", `${end}%`);
  if (low !== null) {
    const whisker = make("i");
    whisker.style.left = `${clipped(low)}%`;
    whisker.style.width = `${clipped(high) - clipped(low)}%`;
    track.append(whisker);
    cell.title = reach === null ? `${percent(low)} to ${percent(high)}` : `${points(low)} to ${points(high)}`;
  }
  cell.append(track);
}

function classColumns() {
  const { videos, tests, gains } = data.columns;
  const main = tests[tests.length - 1];
  const plain = (label, values, text) => ({
    label, number: true, value: (row) => values[row], fill: (cell, row) => { cell.textContent = text(values[row]); },
  });
  const accuracies = tests.map((test, number) => ({
    label: data.tests[number],
    number: true,
    value: (row) => test.accuracy[row],
    fill: (cell, row) => {
      cell.textContent = percent(test.accuracy[row]);
      addBar(cell, test.accuracy[row], test.low[row], test.high[row]);
    },
  }));
  const gainColumns = gains.map((gain) => {
    const reach = Math.max(0.05, ...[gain.value, gain.low, gain.high].flat().map((value) => Math.abs(value ?? 0)));
    return {
      label: gain.name,
      number: true,
      value: (row) => gain.value[row],
      fill: (cell, row) => {
        cell.textContent = points(gain.value[row]);
        addBar(cell, gain.value[row], gain.low[row], gain.high[row], reach);
      },
    };
  });
  return [
    { label: "Class", value: (row) => data.classes[row], fill: (cell, row) => cell.append(named(data.classes[row])) },
    plain("Videos", videos, (value) => counted.format(value)),
    ...accuracies,
    ...gainColumns,
    plain("Precision", main.precision, percent),
    {
      label: "Mostly taken for",
      value: (row) => (main.taken_for[row] === null ? null : data.classes[main.taken_for[row]]),
      fill: (cell, row) => {
        if (main.taken_for[row] === null) return;
        cell.append(named(data.classes[main.taken_for[row]]), ` ${main.times[row]}×`);
      },
    },
  ];
}

if (byId("classes-table")) {
  const columns = classColumns();
  const table = new SortedTable(byId("classes-table"), columns, {
    pageSize: 100,
    paperSize: Infinity,
    pager: data.classes.length > 100 ? byId("classes-pager") : null,
    caption: (range, total) => `${range} ${total === 1 ? "class" : "classes"}; precision and confusions are those of ${data.tests[data.tests.length - 1]}`,
  });
  const filter = byId("classes-filter");
  const update = () => {
    const text = filter.value.trim().toLowerCase();
    table.show(data.classes.flatMap((name, label) => (name.toLowerCase().includes(text) ? [label] : [])));
  };
  filter.addEventListener("input", calmly(update));
  table.sortBy(1 + data.tests.length, false); // the last test, the worst class first
  update();
}
