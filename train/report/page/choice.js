// Which test the matrix and the videos show: the last one, which is the fusion if there is one.

let shownTest = data.tests.length - 1;
const testListeners = [];

function chooseTest(number) {
  shownTest = number;
  for (const select of document.querySelectorAll(".test-choice")) select.value = String(number);
  for (const listener of testListeners) listener();
}

for (const select of document.querySelectorAll(".test-choice")) {
  data.tests.forEach((name, number) => select.append(make("option", { value: number }, name)));
  select.value = String(shownTest);
  select.addEventListener("change", () => chooseTest(Number(select.value)));
}
