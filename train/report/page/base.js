"use strict";
// Names come from the data and are untrusted: they reach the page as text nodes, never as markup.

const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const counted = new Intl.NumberFormat("en");
const collator = new Intl.Collator("en", { numeric: true });

/** Return an element with attributes and children, which are nodes or texts. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** Return a name as an element that keeps its writing direction to itself. */
const named = (name) => make("bdi", {}, name);

const percent = (share) => (share === null ? "–" : `${(100 * share).toFixed(1)}%`);

const points = (gain) =>
  gain === null ? "–" : `${gain < 0 ? "−" : "+"}${(100 * Math.abs(gain)).toFixed(1)}`;

const plural = (number, noun, nouns = `${noun}s`) => `${counted.format(number)} ${number === 1 ? noun : nouns}`;

/** Call a function once things have been quiet for a moment. */
function calmly(call) {
  let timer = 0;
  return () => {
    clearTimeout(timer);
    timer = setTimeout(call, 80);
  };
}
