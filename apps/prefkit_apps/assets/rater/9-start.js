// What keys and clicks do, and how the page begins.

function act(action, from) {
  if (VOTES.includes(action)) { choose(action, from); return; }
  const deeds = {
    undo, send: () => leaveReason(from), fold: toggleFold, edit: openEdit, ask: startAsking, reason: openReason,
    diff: () => toggleMode("diff"), raw: () => toggleMode("raw"),
    flag: () => { if (S.draft) flag(!S.draft.flagged); },
    guidelines: openGuidelines, history: openHistory, help: () => togglePanel("help"),
    "log-out": logOut,
  };
  deeds[action]();
}

async function logOut() {
  try {
    await fetch("/logout", { method: "POST" });
    location.assign("/login");
  } catch {
    say(t("no_answer"), true);
  }
}

function onClick(event) {
  const button = event.target.closest("button");
  if (!button || !S.me) return;
  const { key, act: action, question, choice, rebind: changed, vote, close } = button.dataset;
  if (key) choose(key, event.timeStamp);
  else if (action) act(action, event.timeStamp);
  else if (question) answer(Number(question), Number(choice));
  else if (changed) startTaking(changed);
  else if (vote) revise(vote);
  else if (close) button.closest("dialog").close();
  else if (button.classList.contains("pk-more")) moreHistory(Number(button.dataset.before));
  else if (button.classList.contains("pk-reset")) resetKeys();
  else if (button.classList.contains("pk-keep-edit")) keepEdit();
  // A later Space or Enter must not press it again on a pair that came in between.
  if (event.detail > 0 && !button.closest("dialog")) button.blur();
}

// Ctrl+Enter in a field: what is written there is ready.
function onSubmit(event) {
  if (event.target.id === "pk-edit") keepEdit();
  else if (event.target.id === "pk-reason") leaveReason(event.timeStamp);
  else if (event.target.id === "pk-note") event.target.blur();
  else return;
  event.preventDefault();
}

function leaveReason(from) {
  find("#pk-reason").blur();
  const key = heldVote;
  if (key) choose(key, from);
}

// Escape leaves what one is in: a field, a question, an old vote. A dialog closes by itself.
function onEscape(event) {
  if (find("dialog[open]")) { taking = ""; return; }
  if (event.target.id === "pk-reason") leaveReason(event.timeStamp);
  else if (isTyping(event.target)) event.target.blur();
  else if (asking >= 0) { asking = -1; showDraft(); say(""); }
  else if (isRevising()) leaveHistory();
}

function onInput(event) {
  if (event.target.id !== "pk-reason" || !S.draft) return;
  S.draft.rationale = event.target.value;
  keepDraft();
}

function onVisibility() {
  clock.tick();
  if (!S.me) return;
  beat({ keepalive: true });
  if (!document.hidden) drain();
}

function listen() {
  document.addEventListener("keydown", (event) => { if (S.me) onKey(event); },
    { capture: true, ...listening });
  document.addEventListener("visibilitychange", onVisibility, listening);
  for (const name of ["pointermove", "wheel", "touchmove", "keydown"]) {
    document.addEventListener(name, () => clock.tick(), { passive: true, ...listening });
  }
  // Back from the log-in by the browser's button: this page is of another time.
  window.addEventListener("pageshow", (event) => event.persisted && location.reload(), listening);
  window.addEventListener("online", () => drain(), listening);
  darkSystem.addEventListener("change", paintTheme, listening);
  root.addEventListener("click", onClick, listening);
  root.addEventListener("change", onWish, listening);
  root.addEventListener("input", onInput, listening);
  const beating = setInterval(() => beat(), BEAT_MS);
  listening.signal.addEventListener("abort", () => clearInterval(beating));
  new ResizeObserver(() => {
    const height = find(".pk-bar").offsetHeight + "px";
    root.style.setProperty("--pk-bar", height);
    // What gets the focus must not come to lie under the bar.
    document.documentElement.style.scrollPaddingBottom = height;
  }).observe(find(".pk-bar"));
}

// Keys that were changed on this machine while the server could not be told.
function ownKeys(me) {
  const here = kept.read(CHANGES + me.id);
  try { return here === null ? me.keys : JSON.parse(here); } catch { return me.keys; }
}

async function start() {
  speak(null);
  bindKeys({});
  paintTheme();
  listen();
  outbox = new Outbox("nobody");
  const me = await insist("me");
  if (!me) return;
  S.me = me;
  outbox = new Outbox(me.id);
  bindKeys(ownKeys(me));
  translate();
  paintTheme();
  find('[name="locale"]').value = me.locale || "";
  find('[name="theme"]').value = me.theme || "";
  slot("command").textContent = me.next_command || "";
  find(".pk-next-command").hidden = !me.next_command;
  find('[data-act="log-out"]').hidden = !me.logs_out;
  find(".pk-to-lead").hidden = !me.leads;
  slot("name").textContent = me.name;
  // First what an earlier page could not send; the replies bring what to show.
  if (outbox.entries.length) drain();
  else refill();
  loadGuidelines();
}

start().catch((fault) => say(fault.message, true));
