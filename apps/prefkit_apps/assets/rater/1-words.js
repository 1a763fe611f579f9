// The rater's page. Its files are joined in the order of their names into one function, which
// Gradio calls once with `element` and `props`. Truth is on the server; what is kept here is what
// is on the screen and what was not sent yet. All html that is inserted was sanitised there
// (annotation/render.py); everything else goes in as text.
"use strict";

const root = element.querySelector(".pk");
const find = (selector) => root.querySelector(selector);
const all = (selector) => [...root.querySelectorAll(selector)];
const slot = (name) => root.querySelector('[data-slot="' + name + '"]');

// A remount must not leave two listeners that vote twice.
if (window.prefkitListeners) window.prefkitListeners.abort();
window.prefkitListeners = new AbortController();
const listening = { signal: window.prefkitListeners.signal };

let language = "en";

// The text of that name in the rater's language, {name} filled in from values.
function t(name, values) {
  const words = props.words[language] || {};
  const text = words[name] === undefined ? props.words.en[name] : words[name];
  return String(text).replace(/\{(\w+)\}/g, (_, key) => String(values[key]));
}

// Names of aspects that the project knows are translated; others are shown as they are written.
const aspectName = (aspect) =>
  (Object.hasOwn(props.words.en, "aspect_" + aspect) ? t("aspect_" + aspect) : aspect);

function speak(wanted) {
  const known = Object.keys(props.words);
  const asked = (wanted ? [wanted] : navigator.languages || []).map((one) => one.slice(0, 2));
  language = asked.find((one) => known.includes(one)) || "en";
  document.documentElement.lang = language;
  document.title = t("title");
  for (const node of all("[data-t]")) node.textContent = t(node.dataset.t);
  for (const node of all("[data-t-label]")) node.setAttribute("aria-label", t(node.dataset.tLabel));
}

const make = (tag, className, text) => {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

function say(text, isError) {
  const status = find(".pk-status");
  status.textContent = text;
  status.classList.toggle("pk-error", Boolean(isError));
}

// A private window may have no storage at all: then a reload loses what was not sent.
const kept = {
  read(key) {
    try { return localStorage.getItem(key); } catch { return null; }
  },
  write(key, value) {
    try { localStorage.setItem(key, value); return true; } catch { return false; }
  },
  drop(key) {
    try { localStorage.removeItem(key); } catch { /* nothing was kept */ }
  },
  keys(prefix) {
    try { return Object.keys(localStorage).filter((key) => key.startsWith(prefix)).sort(); }
    catch { return []; }
  },
};
