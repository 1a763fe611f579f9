// The lead's page: numbers, plots and disputes as the server has them. Nothing is kept here.
// Html that is inserted as such was made by the server: sanitised texts, and plots in SVG.
"use strict";

const API = "/api/v1/";
const root = element.querySelector(".pl");
const status = root.querySelector(".pl-status");
const tabs = [...root.querySelectorAll("[data-tab]")];
let shown = "";
let reasons = [];
let isLead = true;

if (window.prefkitLead) window.prefkitLead.abort();
window.prefkitLead = new AbortController();
const listening = { signal: window.prefkitLead.signal };

// Elements: make("td", { class: "x", onclick: f }, "text", child, …). Text is never read as html.
function make(name, attributes, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes || {})) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return made;
}

// Over plain http on a network there is no randomUUID.
function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

const panel = (name) => root.querySelector("#pl-" + name);
const note = (...text) => make("p", { class: "pl-note" }, ...text);
const heading = (text) => make("h2", {}, text);

function say(text, isError) {
  status.textContent = text;
  status.classList.toggle("pl-error", Boolean(isError));
}

async function call(path, body) {
  const options = body
    ? { method: "POST", body: JSON.stringify(body), headers: { "content-type": "application/json", "x-prefkit": "1" } }
    : {};
  let reply;
  try {
    reply = await fetch(API + path, options);
  } catch {
    throw new Error("The app does not answer. Try again in a moment.");
  }
  if (reply.status === 401) { location.assign("/login"); throw new Error("Log in first."); }
  const type = reply.headers.get("content-type") || "";
  const value = type.includes("json") ? await reply.json() : { error: await reply.text() };
  if (!reply.ok) throw new Error(value.hint ? value.error + " (" + value.hint + ")" : value.error || reply.statusText);
  return value;
}

// Numbers

const count = (n) => n.toLocaleString("en-US").replaceAll(",", "\u202f");
const percent = (x) => (100 * x).toFixed(1) + "\u00a0%";
const plain2 = (x) => x.toFixed(2);

function estimate(found, write) {
  if (!found) return "–";
  const value = write(found.value);
  return found.low === null ? value : value + " [" + write(found.low) + ", " + write(found.high) + "]";
}

function share(found) {
  if (!found) return "–";
  return estimate({ value: found.n_hits / found.n, low: found.low, high: found.high }, percent) + " of " + count(found.n);
}

function facts(pairs) {
  return make("dl", {}, pairs.map(([name, value, small]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, value, small ? make("small", {}, small) : null))));
}

function figure(svg) {
  if (!svg) return null;
  const made = make("figure", { tabindex: "0" });
  made.innerHTML = svg;
  const drawn = made.querySelector("svg");
  made.setAttribute("aria-label", drawn.querySelector("title").textContent);
  made.setAttribute("role", "group");
  return made;
}

function table(caption, columns, rows) {
  const head = make("tr", {}, columns.map((column) => make("th", { scope: "col" }, column)));
  const body = rows.map((row) => make("tr", {}, row.map((cell, at) =>
    at === 0 ? make("th", { scope: "row" }, cell)
      : make("td", { class: typeof cell === "number" ? "pl-n" : null }, typeof cell === "number" ? count(cell) : cell))));
  return make("div", { class: "pl-scroll", tabindex: "0", role: "group", "aria-label": caption },
    make("table", { "aria-label": caption }, make("thead", {}, head), make("tbody", {}, body)));
}
