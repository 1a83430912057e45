const tables = [];

/**
 * A table that sorts, and shows one page of its rows at a time.
 *
 * A column has: label; value(row), a number, text or null, to sort by; fill(cell, row), which puts
 * something into a cell; number: whether it is right-aligned and begins with the largest value.
 * On paper a page is paperSize rows long.
 */
class SortedTable {
  constructor(table, columns, { pageSize, paperSize = pageSize, pager = null, caption }) {
    tables.push(this);
    this.table = table;
    this.columns = columns;
    this.sizes = { screen: pageSize, paper: paperSize };
    this.pageSize = pageSize;
    this.caption = caption;
    this.rows = [];
    this.page = 0;
    this.sorted = null;
    this.descending = false;
    this.heads = columns.map((column, number) => this._head(column, number));
    this.body = make("tbody");
    table.append(make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    if (pager) this._addPager(pager);
  }

  _head(column, number) {
    const button = make("button", { type: "button" }, column.label);
    button.addEventListener("click", () => this.sortBy(number));
    return make("th", { scope: "col", class: column.number ? "number" : null }, button);
  }

  _addPager(pager) {
    this.back = make("button", { type: "button" }, "Previous");
    this.next = make("button", { type: "button" }, "Next");
    this.place = make("span", { "aria-live": "polite" });
    this.back.addEventListener("click", () => this._turn(-1));
    this.next.addEventListener("click", () => this._turn(1));
    pager.append(this.back, this.next, this.place);
  }

  _turn(pages) {
    this.page += pages;
    this._draw();
  }

  /** Sort by a column; by the same once more, the other way round. */
  sortBy(number, descending = null) {
    const usual = Boolean(this.columns[number].number);
    this.descending = descending ?? (this.sorted === number ? !this.descending : usual);
    this.sorted = number;
    this.heads.forEach((head, other) => {
      if (other !== number) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", this.descending ? "descending" : "ascending");
    });
    this.show(this.rows);
  }

  /** Be as long as on paper, or as on the screen. */
  setMedium(name) {
    if (this.pageSize === this.sizes[name]) return;
    const first = this.page * this.pageSize || 0;
    this.pageSize = this.sizes[name];
    this.page = Math.floor(first / this.pageSize);
    this._draw();
  }

  /** Show some rows, given by number. */
  show(rows) {
    this.rows = rows;
    this.page = 0;
    if (this.sorted !== null) this._sort();
    this._draw();
  }

  _sort() {
    const value = this.columns[this.sorted].value;
    const sign = this.descending ? -1 : 1;
    const keyed = this.rows.map((row) => [value(row), row]);
    keyed.sort(([a, first], [b, second]) => {
      if (a === null || b === null) return (a === null) - (b === null) || first - second;
      const order = typeof a === "string" ? collator.compare(a, b) : a - b;
      return sign * order || first - second;
    });
    this.rows = keyed.map(([, row]) => row);
  }

  _draw() {
    const total = this.rows.length;
    const pages = Math.max(Math.ceil(total / this.pageSize), 1);
    this.page = Math.min(Math.max(this.page, 0), pages - 1);
    const first = total ? this.page * this.pageSize || 0 : 0;
    const shown = this.rows.slice(first, first + this.pageSize);
    this.body.replaceChildren(...shown.map((row) => this._row(row)));
    if (!total) {
      const cell = make("td", { colspan: this.columns.length, class: "nothing" }, "Nothing fits.");
      this.body.replaceChildren(make("tr", {}, cell));
    }
    const range = pages > 1 ? `${counted.format(first + 1)} to ${counted.format(first + shown.length)} of ` : "";
    this.table.caption.textContent = this.caption(range + counted.format(total), total);
    if (this.place) {
      this.back.disabled = this.page === 0;
      this.next.disabled = this.page === pages - 1;
      this.place.textContent = `Page ${counted.format(this.page + 1)} of ${counted.format(pages)}`;
    }
  }

  _row(row) {
    const line = document.createElement("tr");
    this.columns.forEach((column, number) => {
      const cell = document.createElement(number ? "td" : "th");
      if (!number) cell.scope = "row";
      if (column.number) cell.className = "number";
      column.fill(cell, row);
      line.append(cell);
    });
    return line;
  }
}
