// The labelling page: one pair in view, one key a vote. Truth is on the server; this file holds
// only what is on the screen. All html it inserts was sanitised there (annotation/render.py).
"use strict";

const API = "/api/v1/";
const UNSENT = "prefkit-unsent"; // in localStorage: votes that were not answered yet
const DWELL_MS = 250; // a second press of the last pair's key must not vote on this one
const RETRY_MS = 2000;
const MOST_UNSENT = 200;
const WORDS = {
  1: "left much better", 2: "left better", 3: "left slightly better", 4: "tie",
  5: "right slightly better", 6: "right better", 7: "right much better",
  x: "both bad", i: "invalid", s: "skipped",
};

const root = element.querySelector(".pk");
const find = (selector) => root.querySelector(selector);
const slot = (name) => root.querySelector('[data-slot="' + name + '"]');
const status = find(".pk-status");
const dialog = find("dialog");

let pair = null;
let sending = false;
let readySince = 0;
let visibleMs = 0;
let visibleFrom = 0;

// A remount must not leave two listeners that vote twice.
if (window.prefkitListeners) window.prefkitListeners.abort();
window.prefkitListeners = new AbortController();
const listening = { signal: window.prefkitListeners.signal };

const setState = (name) => { root.dataset.state = name; };
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function say(text, isError) {
  status.textContent = text;
  status.classList.toggle("pk-error", Boolean(isError));
}

// Sends until the server has answered. The UUID in the body makes a repeat harmless. Where the
// session has ended, the page goes to the log-in and nothing comes back.
async function call(path, body) {
  const options = body
    ? { method: "POST", body: JSON.stringify(body),
        headers: { "content-type": "application/json", "x-prefkit": "1" } }
    : {};
  for (;;) {
    let reply = null;
    try {
      reply = await fetch(API + path, options);
    } catch {
      say("Not saved yet: the app does not answer. Trying again…", true);
      await pause(RETRY_MS);
      continue;
    }
    if (reply.status === 401) {
      location.assign("/login");
      return new Promise(() => {});
    }
    const type = reply.headers.get("content-type") || "";
    const value = type.includes("json") ? await reply.json() : { error: await reply.text() };
    if (reply.ok) return value;
    if (reply.status < 500) {
      throw Object.assign(new Error(value.error || reply.statusText), { status: reply.status });
    }
    say("Not saved yet: " + (value.error || reply.statusText) + ". Trying again…", true);
    await pause(RETRY_MS);
  }
}

function unsent() {
  return JSON.parse(localStorage.getItem(UNSENT) || "[]");
}

function keepUnsent(votes) {
  localStorage.setItem(UNSENT, JSON.stringify(votes.slice(-MOST_UNSENT)));
}

// A vote stays in the browser until it is answered: a reload or a log-in in between loses none.
async function sendVote(vote) {
  const others = () => unsent().filter((one) => one.id !== vote.id);
  keepUnsent([...others(), vote]);
  try {
    const state = await call("votes", vote);
    keepUnsent(others());
    return state;
  } catch (error) {
    // A token that was never given to this person is another's: theirs to send.
    if (error.status !== 404) keepUnsent(others());
    throw error;
  }
}

async function sendUnsent() {
  for (const vote of unsent()) {
    try {
      await sendVote(vote);
    } catch (error) {
      if (error.status === undefined) throw error;
    }
  }
}

function fill(target, turns, withRoles) {
  target.replaceChildren();
  for (const turn of turns) {
    if (withRoles) {
      const role = document.createElement("p");
      role.className = "pk-role";
      role.textContent = turn.role;
      target.append(role);
    }
    const body = document.createElement("div");
    body.className = "pk-turn";
    body.dir = "auto";
    body.innerHTML = turn.html || "<p><em>(empty)</em></p>";
    target.append(body);
  }
}

function showProgress(progress) {
  const total = progress.done + progress.left;
  const skipped = progress.skipped ? ", " + progress.skipped + " skipped" : "";
  find(".pk-count").textContent = progress.done + " of " + total + " done" + skipped;
  const track = find(".pk-track");
  track.setAttribute("aria-valuemax", String(Math.max(total, 1)));
  track.setAttribute("aria-valuenow", String(progress.done));
  find(".pk-fill").style.width = (total ? (100 * progress.done) / total : 0) + "%";
  root.dataset.done = String(progress.done);
  const judged = progress.done - progress.skipped;
  slot("done").textContent = progress.done === 0
    ? "There was nothing to judge."
    : "You have judged " + judged + (judged === 1 ? " pair" : " pairs") +
      (progress.skipped ? " and skipped " + progress.skipped : "") + ".";
}

function show(state) {
  showProgress(state.progress);
  pair = state.pairs[0] || null;
  if (!pair) {
    root.dataset.task = "";
    setState("done");
    find("#pk-h-done").focus({ preventScroll: true });
    // Others hold what is left: some of it may come back.
    if (state.retry_s !== null) {
      setTimeout(() => { if (!pair && !sending) load(); }, 1000 * state.retry_s);
    }
    return;
  }
  fill(slot("prompt"), pair.prompt, pair.prompt.length > 1 || pair.prompt[0].role !== "user");
  fill(slot("left"), pair.left, pair.left.length > 1);
  fill(slot("right"), pair.right, pair.right.length > 1);
  slot("prompt").scrollTop = 0;
  window.scrollTo(0, 0);
  root.dataset.task = pair.task_id;
  setState("painting");
  const shown = pair;
  requestAnimationFrame(() => requestAnimationFrame(() => {
    visibleMs = 0;
    visibleFrom = document.hidden ? 0 : performance.now();
    readySince = performance.now() + DWELL_MS;
    setTimeout(() => { if (pair === shown && !sending) setState("ready"); }, DWELL_MS);
  }));
}

function viewedMs() {
  const now = visibleFrom ? performance.now() - visibleFrom : 0;
  return Math.min(Math.round(visibleMs + now), 86400000);
}

async function exchange(send, said) {
  sending = true;
  setState("sending");
  try {
    const state = await send();
    sending = false;
    show(state);
    say(said(state));
  } catch (error) {
    sending = false;
    await load();
    say(error.message, true);
  }
}

function choose(key) {
  if (!pair || sending || root.dataset.state !== "ready" || performance.now() < readySince) return;
  const body = { id: crypto.randomUUID(), token: pair.token, key: key, active_ms: viewedMs() };
  exchange(() => sendVote(body), () => "Saved: " + WORDS[key]);
}

function undo() {
  if (sending || root.dataset.state === "loading") return;
  const said = (state) => (state.undone ? "Undone: judge this pair again" : "Nothing to undo");
  const body = { id: crypto.randomUUID() };
  exchange(() => call("undo", body), said);
}

async function logOut() {
  if (sending) return;
  try {
    await fetch("/logout", { method: "POST" });
    location.assign("/login");
  } catch {
    say("Not logged out: the app does not answer.", true);
  }
}

function toggleGuidelines() {
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

function act(name) {
  if (name === "undo") undo();
  else if (name === "guidelines") toggleGuidelines();
  else if (name === "log-out") logOut();
}

function isTyping(target) {
  return target instanceof Element &&
    (target.isContentEditable || ["INPUT", "TEXTAREA", "SELECT"].includes(target.tagName));
}

// Digits by their place (AZERTY types them with Shift), letters by what they write.
function keyOf(event) {
  const digit = /^(?:Digit|Numpad)([1-7])$/.exec(event.code);
  if (digit) return digit[1];
  return event.key.length === 1 ? event.key.toLowerCase() : "";
}

function onKey(event) {
  if (event.isComposing || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
  if (isTyping(event.target)) return;
  const key = keyOf(event);
  if (!(key in WORDS) && key !== "u" && key !== "g") return;
  if (dialog.open && key !== "g") return;
  event.preventDefault();
  event.stopPropagation();
  if (key === "u") undo();
  else if (key === "g") toggleGuidelines();
  else choose(key);
}

function onClick(event) {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.key) choose(button.dataset.key);
  else act(button.dataset.act);
  // A later Space or Enter must not press it again on a pair that came in between.
  if (event.detail > 0) button.blur();
}

function onVisibility() {
  if (document.hidden) {
    visibleMs += visibleFrom ? performance.now() - visibleFrom : 0;
    visibleFrom = 0;
  } else {
    visibleFrom = performance.now();
  }
}

async function load() {
  show(await call("next"));
}

async function start() {
  slot("command").textContent = props.next_command;
  find('[data-act="log-out"]').hidden = !props.accounts;
  new ResizeObserver(() => {
    root.style.setProperty("--pk-bar", find(".pk-bar").offsetHeight + "px");
  }).observe(find(".pk-bar"));
  document.addEventListener("keydown", onKey, { capture: true, ...listening });
  document.addEventListener("visibilitychange", onVisibility, listening);
  root.addEventListener("click", onClick, listening);
  // Back from the log-in by the browser's button: this page was left while it was sending.
  window.addEventListener("pageshow", (event) => event.persisted && location.reload(), listening);
  try {
    await sendUnsent();
    await load();
    slot("guidelines").innerHTML = (await call("guidelines")).html;
  } catch (error) {
    say(error.message, true);
  }
}

start();
