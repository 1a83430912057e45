// On paper everything is light, whatever the screen is, and all classes are there.

function redraw(onPaper) {
  printing = onPaper;
  for (const table of tables) table.setMedium(onPaper ? "paper" : "screen");
  if (matrix) matrix.draw();
}
window.addEventListener("beforeprint", () => redraw(true));
window.addEventListener("afterprint", () => redraw(false));
document.documentElement.dataset.ready = "yes";
