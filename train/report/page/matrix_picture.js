// Drawing a confusion matrix on a canvas, which stays quick with hundreds of classes.

const PALETTES = {
  light: {
    paper: "#ffffff", ink: "#1b1f24", quiet: "#59636e", grid: "#e6eaee",
    right: [[226, 238, 247], [0, 84, 140]], wrong: [[253, 232, 217], [176, 66, 0]],
  },
  dark: {
    paper: "#15181c", ink: "#e8ebee", quiet: "#a5aeb8", grid: "#2a3037",
    right: [[27, 48, 64], [120, 200, 255]], wrong: [[62, 41, 27], [255, 166, 97]],
  },
};
const FONT = '11px system-ui, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif';
const LEAST_CELL = 2;
const MOST_CELL = 64;
const LABELLED_CELL = 12; // px; in smaller cells names do not fit beside the rows
const NUMBERED_CELL = 24;
const MOST_LABEL = 130;
const GAMMA = 0.6; // small shares stay visible

const darkScheme = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const palette = () => PALETTES[darkScheme.matches && !printing ? "dark" : "light"];

function mixed([from, to], share) {
  const part = share ** GAMMA;
  return `rgb(${from.map((value, n) => Math.round(value + (to[n] - value) * part)).join(" ")})`;
}

/** Return a name that is no wider than some px, cut short if it must be. */
function shortened(context, name, width) {
  if (context.measureText(name).width <= width) return name;
  let length = name.length;
  while (length > 1 && context.measureText(`${name.slice(0, length)}…`).width > width) length -= 1;
  return `${name.slice(0, length)}…`;
}

/**
 * Draw a matrix and return where it lies: {left, top, cell}, in px.
 *
 * counts: (C x C) numbers, rows are true classes; totals: of the rows; shown: class ids in order.
 */
function drawMatrix(canvas, { counts, totals, shown, width }) {
  const context = canvas.getContext("2d");
  const colors = palette();
  const number = shown.length;
  const numClasses = totals.length;
  context.font = FONT;
  const names = shown.map((label) => data.classes[label]);
  const longest = Math.min(Math.max(0, ...names.map((name) => context.measureText(name).width)), MOST_LABEL);
  const margin = Math.min(Math.ceil(longest) + 10, Math.floor(width * 0.34));
  const labelled = (width - margin) / number >= LABELLED_CELL;
  const left = labelled ? margin : 1;
  const top = labelled ? margin : 1;
  const fitting = Math.floor((width - left - 1) / number);
  const cell = Math.max(Math.min(fitting, MOST_CELL), LEAST_CELL);
  const [wide, high] = [left + cell * number + 1, top + cell * number + 1];
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  canvas.width = wide * ratio;
  canvas.height = high * ratio;
  canvas.style.width = `${wide}px`;
  canvas.style.height = `${high}px`;
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.fillStyle = colors.paper;
  context.fillRect(0, 0, wide, high);
  context.fillStyle = colors.grid;
  if (cell >= 8) {
    for (let line = 0; line <= number; line += 1) {
      context.fillRect(left, top + line * cell, cell * number + 1, 1);
      context.fillRect(left + line * cell, top, 1, cell * number + 1);
    }
  } else {
    context.fillRect(left - 1, top - 1, cell * number + 2, 1);
    context.fillRect(left - 1, top - 1, 1, cell * number + 2);
    context.fillRect(left - 1, top + cell * number, cell * number + 2, 1);
    context.fillRect(left + cell * number, top - 1, 1, cell * number + 2);
  }
  const gap = cell >= 8 ? 1 : 0;
  context.font = FONT;
  context.textBaseline = "middle";
  context.textAlign = "center";
  shown.forEach((label, row) => {
    shown.forEach((predicted, column) => {
      const count = counts[label * numClasses + predicted];
      if (!count) return;
      const share = count / totals[label];
      context.fillStyle = mixed(label === predicted ? colors.right : colors.wrong, share);
      const [x, y] = [left + column * cell, top + row * cell];
      context.fillRect(x + gap, y + gap, cell - gap, cell - gap);
      if (cell >= NUMBERED_CELL) {
        context.fillStyle = share ** GAMMA > 0.55 ? colors.paper : colors.ink;
        context.fillText(String(count), x + cell / 2 + 0.5, y + cell / 2 + 1);
      }
    });
  });
  if (labelled) drawNames(context, names, { left, top, cell, margin, color: colors.quiet });
  return { left, top, cell };
}

/** Draw what the colours mean: shares of a row from 0 to 1, left to right. */
function drawLegends() {
  for (const canvas of document.querySelectorAll("canvas[data-legend]")) {
    const context = canvas.getContext("2d");
    for (let x = 0; x < canvas.width; x += 1) {
      context.fillStyle = mixed(palette()[canvas.dataset.legend], x / canvas.width);
      context.fillRect(x, 0, 1, canvas.height);
    }
  }
}

function drawNames(context, names, { left, top, cell, margin, color }) {
  context.fillStyle = color;
  names.forEach((name, place) => {
    const text = shortened(context, name, margin - 8);
    const middle = place * cell + cell / 2 + 0.5;
    context.textAlign = "right";
    context.fillText(text, left - 6, top + middle);
    context.save();
    context.translate(left + middle, top - 6);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillText(text, 0, 0);
    context.restore();
  });
}
