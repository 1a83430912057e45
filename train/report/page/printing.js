// On paper everything is light, whatever the screen is.

function redraw(onPaper) {
  printing = onPaper;
  if (matrix) matrix.draw();
}
window.addEventListener("beforeprint", () => redraw(true));
window.addEventListener("afterprint", () => redraw(false));
document.documentElement.dataset.ready = "yes";
