// The confusion matrix: what it shows, how one moves in it, and the videos of a cell.

const LISTED_VIDEOS = 20;
const LISTED_CONFUSIONS = 12;

class Matrix {
  constructor() {
    this.canvas = byId("matrix");
    this.stage = this.canvas.parentElement;
    this.box = this.stage.parentElement;
    this.cursor = byId("matrix-cursor");
    this.cell = null; // [row, column]
    this.filter = byId("matrix-filter");
    this.order = byId("matrix-order");
    const numClasses = data.classes.length;
    this.totals = data.columns.videos;
    this.byName = data.classes.map((_, label) => label);
    this.byName.sort((a, b) => collator.compare(data.classes[a], data.classes[b]));
    this.counts = new Int32Array(numClasses * numClasses);
    this._listen();
    this.count();
  }

  _listen() {
    const { canvas } = this;
    this.filter.addEventListener("input", calmly(() => this.arrange()));
    this.order.addEventListener("change", () => this.arrange());
    canvas.addEventListener("pointermove", (event) => this.point(this._cellAt(event)));
    canvas.addEventListener("pointerleave", () => this.point(null));
    canvas.addEventListener("click", (event) => {
      this.point(this._cellAt(event));
      this.choose();
    });
    canvas.addEventListener("focus", () => this.cell ?? this.point([0, 0]));
    canvas.addEventListener("blur", () => this.point(null));
    canvas.addEventListener("keydown", (event) => this._key(event));
    window.addEventListener("resize", calmly(() => this.draw()));
    darkScheme.addEventListener("change", () => this.draw());
    testListeners.push(() => this.count());
  }

  /** Count anew, for the test that is shown. */
  count() {
    const { labels, tests } = data.videos;
    const { predicted } = tests[shownTest];
    const numClasses = data.classes.length;
    this.counts.fill(0);
    for (let video = 0; video < labels.length; video += 1) {
      this.counts[labels[video] * numClasses + predicted[video]] += 1;
    }
    this._listConfusions();
    byId("matrix-videos").replaceChildren();
    this.arrange();
  }

  /** Choose and order the classes. */
  arrange() {
    const { accuracy } = data.columns.tests[shownTest];
    const orders = {
      clustered: () => data.clustered,
      name: () => this.byName,
      id: () => data.classes.map((_, label) => label),
      accuracy: () => [...this.byName].sort((a, b) => (accuracy[a] ?? 2) - (accuracy[b] ?? 2)),
    };
    const wanted = this._filtered();
    this.shown = orders[this.order.value]().filter((label) => wanted === null || wanted.has(label));
    this.draw();
  }

  /** Return the classes that fit the filter and those that they are confused with; null for all. */
  _filtered() {
    const text = this.filter.value.trim().toLowerCase();
    if (!text) return null;
    const numClasses = data.classes.length;
    const fitting = new Set();
    data.classes.forEach((name, label) => {
      if (!name.toLowerCase().includes(text)) return;
      fitting.add(label);
      for (let other = 0; other < numClasses; other += 1) {
        if (this.counts[label * numClasses + other] || this.counts[other * numClasses + label]) fitting.add(other);
      }
    });
    return fitting;
  }

  draw() {
    drawLegends();
    this.point(null);
    this.canvas.hidden = !this.shown.length;
    if (!this.shown.length) {
      byId("matrix-cell").textContent = "No class has such a name.";
      return;
    }
    const { counts, totals, shown } = this;
    this.place = drawMatrix(this.canvas, { counts, totals, shown, width: this.box.clientWidth });
    const order = this.order.selectedOptions[0].textContent;
    this.canvas.setAttribute(
      "aria-label",
      `Confusion matrix of ${data.tests[shownTest]}, ${plural(shown.length, "class", "classes")}, ${order}`,
    );
  }

  _cellAt(event) {
    const { left, top, cell } = this.place;
    const box = this.canvas.getBoundingClientRect();
    const column = Math.floor((event.clientX - box.left - left) / cell);
    const row = Math.floor((event.clientY - box.top - top) / cell);
    const inside = (place) => place >= 0 && place < this.shown.length;
    return inside(row) && inside(column) ? [row, column] : null;
  }

  /** Point at a cell, or at none, and say what it holds. */
  point(at) {
    this.cell = at;
    this.cursor.hidden = at === null;
    if (at === null) return;
    const [row, column] = at;
    const { left, top, cell } = this.place;
    this.cursor.style.left = `${left + column * cell}px`;
    this.cursor.style.top = `${top + row * cell}px`;
    this.cursor.style.width = this.cursor.style.height = `${cell + 1}px`;
    this._tell(this.shown[row], this.shown[column]);
  }

  _tell(label, predicted) {
    const count = this.counts[label * data.classes.length + predicted];
    const total = this.totals[label];
    const share = total ? ` (${percent(count / total)})` : "";
    const what = label === predicted ? ["right: "] : [" taken for ", named(data.classes[predicted]), ": "];
    const start = label === predicted ? [named(data.classes[label]), " "] : [named(data.classes[label])];
    byId("matrix-cell").replaceChildren(
      ...start, ...what, make("b", {}, `${counted.format(count)} of ${plural(total, "video")}${share}`),
    );
  }

  _key(event) {
    const [row, column] = this.cell ?? [0, 0];
    const last = this.shown.length - 1;
    const clamped = (place) => Math.min(Math.max(place, 0), last);
    const target = {
      ArrowUp: [row - 1, column], ArrowDown: [row + 1, column],
      ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
      Home: [row, 0], End: [row, last], PageUp: [row - 10, column], PageDown: [row + 10, column],
    }[event.key];
    if (target) this.point(target.map(clamped));
    else if (event.key === "Enter" || event.key === " ") this.choose();
    else if (event.key === "d") this.point([row, row]);
    else return;
    event.preventDefault();
    if (target) this.cursor.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** List the videos of the cell that is pointed at. */
  choose() {
    if (this.cell) this.list(this.shown[this.cell[0]], this.shown[this.cell[1]]);
  }

  list(label, predicted) {
    this._tell(label, predicted);
    const { names, labels, tests } = data.videos;
    const guesses = tests[shownTest].predicted;
    const found = [];
    for (let video = 0; video < labels.length; video += 1) {
      if (labels[video] === label && guesses[video] === predicted) found.push(video);
    }
    const items = found.slice(0, LISTED_VIDEOS).map((video) => make("li", {}, named(names[video])));
    const button = make("button", { type: "button" }, `Show ${plural(found.length, "video")} in the table`);
    button.addEventListener("click", () => showVideos(label, predicted));
    const more = found.length - items.length;
    byId("matrix-videos").replaceChildren(
      make("ul", { class: "names" }, ...items),
      ...(more > 0 ? [make("p", { class: "note" }, `and ${counted.format(more)} more`)] : []),
      ...(found.length ? [button] : []),
    );
  }

  _listConfusions() {
    const numClasses = data.classes.length;
    const pairs = [];
    this.counts.forEach((count, place) => {
      const [label, predicted] = [Math.floor(place / numClasses), place % numClasses];
      if (count && label !== predicted) pairs.push([count, label, predicted]);
    });
    pairs.sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const rows = pairs.slice(0, LISTED_CONFUSIONS).map(([count, label, predicted]) => {
      const button = make("button", { type: "button", class: "link" },
        named(data.classes[label]), " → ", named(data.classes[predicted]));
      button.addEventListener("click", () => this.list(label, predicted));
      return make("tr", {}, make("th", { scope: "row" }, button), make("td", { class: "number" }, counted.format(count)));
    });
    const table = byId("confusions");
    table.hidden = !rows.length;
    table.replaceChildren(table.caption, make("tbody", {}, ...rows));
  }
}

const matrix = byId("matrix") ? new Matrix() : null;
