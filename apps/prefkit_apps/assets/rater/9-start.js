// What keys and clicks do, and how the page begins.

function act(action, from) {
  if (VOTES.includes(action)) { choose(action, from); return; }
  const deeds = {
    undo, send: () => leaveReason(from), fold: toggleFold, edit: openEdit, ask: startAsking, reason: openReason,
    diff: () => toggleMode("diff"), raw: () => toggleMode("raw"),
    flag: flagByHand,
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
  if (find("dialog[open]")) return;
  if (event.target.id === "pk-reason") leaveReason(event.timeStamp);
  else if (isTyping(event.target)) event.target.blur();
  else if (asking >= 0) { asking = -1; showDraft(); say(""); }
  else if (isRevising()) leaveHistory();
}

function onInput(event) {
  if (!S.draft) return;
  const { id, value } = event.target;
  if (id === "pk-reason") S.draft.rationale = value;
  else if (id === "pk-edit") S.draft.typed[editSide()] = value;
  else return;
  event.target.setCustomValidity("");
  keepDraft();
}

function onVisibility() {
  if (document.hidden) clock.tick();
  else clock.touch();
  if (!S.me) return;
  beat({ keepalive: true });
  if (!document.hidden) drain();
}

function listen() {
  document.addEventListener("keydown", (event) => { if (S.me) onKey(event); },
    { capture: true, ...listening });
  document.addEventListener("visibilitychange", onVisibility, listening);
  for (const name of ["pointermove", "wheel", "touchmove", "keydown"]) {
    document.addEventListener(name, () => clock.touch(), { passive: true, ...listening });
  }
  // Back from the log-in by the browser's button: this page is of another time.
  window.addEventListener("pageshow", (event) => event.persisted && location.reload(), listening);
  window.addEventListener("online", drain, listening);
  darkSystem.addEventListener("change", paintTheme, listening);
  root.addEventListener("click", onClick, listening);
  root.addEventListener("change", onWish, listening);
  root.addEventListener("input", onInput, listening);
  root.addEventListener("close", () => { taking = ""; }, { capture: true, ...listening });
  // A page that nobody sits at lets its pairs go to others.
  const beating = setInterval(() => { if (clock.untouched() < AWAY_MS) beat(); }, BEAT_MS);
  listening.signal.addEventListener("abort", () => clearInterval(beating));
  new ResizeObserver(() => {
    const height = find(".pk-bar").offsetHeight + "px";
    root.style.setProperty("--pk-bar", height);
    // What gets the focus must not come to lie under the bar.
    document.documentElement.style.scrollPaddingBottom = height;
  }).observe(find(".pk-bar"));
}

async function start() {
  speak(null);
  bindKeys({});
  paintTheme();
  listen();
  outbox = new Outbox("nobody");
  const found = await insist("me");
  if (!found) return;
  const unsent = wishesKept(found.id);
  const me = { ...found, ...unsent };
  S.me = me;
  outbox = new Outbox(me.id);
  if (Object.keys(unsent).length) wish(unsent);
  bindKeys(me.keys);
  translate();
  paintTheme();
  find('[name="locale"]').value = me.locale || "";
  find('[name="theme"]').value = me.theme || "";
  slot("command").textContent = me.next_command || "";
  find(".pk-next-command").hidden = !me.next_command;
  find('[data-act="log-out"]').hidden = !me.logs_out;
  find(".pk-to-lead").hidden = !me.leads;
  slot("name").textContent = me.name;
  drain(); // first what an earlier page could not send
}

start().catch((fault) => say(fault.message, true));
