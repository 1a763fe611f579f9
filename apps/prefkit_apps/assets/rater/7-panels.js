// The panels: guidelines, the rater's own votes, help with keys, language and colours.

const SEEN = "prefkit.seen.";
const WISHES = "prefkit.wishes.";
let taking = ""; // the action whose new key is the next one pressed

const panel = (name) => find('dialog[data-panel="' + name + '"]');

function togglePanel(name) {
  const dialog = panel(name);
  if (dialog.open) { dialog.close(); return; }
  const open = find("dialog[open]");
  if (open) open.close();
  dialog.showModal();
}

// Guidelines. Their version is noted the first time that a rater opens them, and is that of every
// vote while they are the ones behind the button.
let guidelines = null;
let asksGuidelines = false;
const oldVersions = new Set();

const versionShown = () => (guidelines ? guidelines.version : "");

// The version in force is another than the one shown. Somebody who knows an older text is shown the
// new one: not over another panel or a half-written word, but then with a later reply.
async function loadGuidelines(version) {
  // Another process of the app may hear of a change some seconds later.
  if (asksGuidelines || oldVersions.has(version)) return;
  asksGuidelines = true;
  const read = await insist("guidelines").finally(() => { asksGuidelines = false; });
  if (!read || oldVersions.has(read.version)) return;
  const seen = kept.read(SEEN + S.me.id);
  const isNews = Boolean(seen) && seen !== read.version;
  if (isNews && (find("dialog[open]") || isTyping(document.activeElement))) return;
  if (guidelines) oldVersions.add(guidelines.version);
  guidelines = read;
  slot("guidelines").innerHTML = read.html;
  slot("version").textContent = t("version", { version: read.version });
  find(".pk-new").hidden = seen === read.version;
  if (isNews) openGuidelines();
}

function openGuidelines() {
  togglePanel("guidelines");
  if (!guidelines || kept.read(SEEN + S.me.id) === guidelines.version) return;
  kept.write(SEEN + S.me.id, guidelines.version);
  find(".pk-new").hidden = true;
  const body = { id: newId(), version: guidelines.version };
  outbox.add("seen", "guidelines/seen", body, {});
  drain();
}

// The rater's own votes, newest first; each can be looked at and changed.
let listing = 0; // the last question for them: an answer to one before it comes too late

function openHistory() {
  togglePanel("history");
  if (!panel("history").open) return;
  slot("history").replaceChildren();
  moreHistory(null);
}

async function moreHistory(before) {
  listing += 1;
  const own = listing;
  const more = find(".pk-more");
  more.hidden = true;
  let found = null;
  try {
    found = await ask("history?limit=30" + (before === null ? "" : "&before=" + before));
  } catch (fault) {
    if (own === listing && !isOut(fault)) slot("history").append(make("li", "pk-quiet", whyOf(fault)));
    return;
  }
  if (own !== listing) return;
  const time = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  for (const vote of found.votes) {
    const row = make("li");
    const button = make("button", "pk-plain", vote.key ? nameOf(vote.key) : vote.choice);
    button.type = "button";
    button.dataset.vote = vote.id;
    row.append(button, make("span", "pk-quiet", time.format(new Date(vote.at))));
    slot("history").append(row);
  }
  if (!slot("history").children.length) slot("history").append(make("li", "pk-quiet", t("history_none")));
  if (found.votes.length === 30) {
    more.hidden = false;
    more.dataset.before = String(found.votes.at(-1).before);
  }
}

// Help: every key, and a button to change it.
function buildHelp() {
  const rows = ACTIONS.map((action) => {
    // Roles: in two columns, as the style has it, a browser may no longer take it for a table.
    const row = make("tr");
    row.setAttribute("role", "row");
    row.append(make("th", "", nameOf(action)));
    row.firstChild.scope = "row";
    row.firstChild.setAttribute("role", "rowheader");
    const cell = make("td");
    cell.setAttribute("role", "cell");
    const button = make("button", "pk-plain pk-rebind");
    button.type = "button";
    button.dataset.rebind = action;
    button.append(make("kbd", "", keyOf[action]));
    button.setAttribute("aria-label", t("change_key", { action: nameOf(action), key: keyOf[action] }));
    cell.append(button);
    row.append(cell);
    return row;
  });
  slot("keys").replaceChildren(...rows);
}

function startTaking(action) {
  taking = action;
  sayInHelp(t("press_new_key", { action: nameOf(action) }));
}

function takeNewKey(key) {
  const holder = rebind(taking, key);
  if (holder !== null) {
    sayInHelp(t("key_taken", { key, action: nameOf(holder) }), true);
    return;
  }
  sayInHelp(t("key_changed", { key, action: nameOf(taking) }));
  const action = taking;
  taking = "";
  buildHelp();
  find('[data-rebind="' + action + '"]').focus();
}

function sayInHelp(text, isError) {
  const said = slot("said");
  said.textContent = text;
  said.classList.toggle("pk-error", Boolean(isError));
}

function resetKeys() {
  taking = "";
  bindKeys({});
  wish({ keys: {} });
  buildHelp();
  sayInHelp(t("keys_reset"));
}

// Language and colours: the browser's, until the rater says otherwise.
const darkSystem = window.matchMedia("(prefers-color-scheme: dark)");

function paintTheme() {
  const dark = S.me && S.me.theme ? S.me.theme === "dark" : darkSystem.matches;
  document.body.classList.toggle("dark", dark);
  document.documentElement.style.colorScheme = dark ? "dark" : "light";
}

// Everything that is written in the rater's language, written anew.
function translate() {
  speak(S.me.locale);
  buildQuestions();
  bindKeys(changedKeys());
  buildHelp();
  if (S.progress) showProgress(S.progress);
  if (guidelines) slot("version").textContent = t("version", { version: guidelines.version });
  if (S.draft) showDraft();
  for (const item of itemsHeld()) item.nodes = prepare(item.pair).nodes;
  if (S.shown) fill(S.shown);
}

// What the rater wishes holds here at once, and is kept on this machine until the account has it.
// One after another: two on their way at once may arrive the other way round.
let lastWish = Promise.resolve();
function wish(changes) {
  Object.assign(S.me, changes);
  const text = JSON.stringify({ ...wishesKept(S.me.id), ...changes });
  kept.write(WISHES + S.me.id, text);
  lastWish = lastWish.then(() => sendWishes(text));
}

async function sendWishes(text) {
  const place = WISHES + S.me.id;
  try {
    await ask("me", JSON.parse(text), { method: "PUT" });
  } catch (fault) {
    const isRefused = fault instanceof Refused && fault.isFinal;
    if (isRefused) kept.drop(place);
    if (!isOut(fault)) sayInHelp(isRefused ? t("refused", { why: whyOf(fault) }) : t("wish_not_kept"), true);
    return;
  }
  // What was wished since then is not yet with the account.
  if (kept.read(place) === text) kept.drop(place);
}

// What was wished on this machine while the server could not be told.
function wishesKept(id) {
  try { return JSON.parse(kept.read(WISHES + id)) || {}; } catch { return {}; }
}

function onWish(event) {
  if (!S.me) return;
  const { name, value } = event.target;
  if (name === "locale") { wish({ locale: value || null }); translate(); }
  else if (name === "theme") { wish({ theme: value || null }); paintTheme(); }
  else if (name === "pk-edit-side") chooseEditSide(value);
  else if (event.target.id === "pk-note") {
    S.draft.note = value;
    flag(true);
  }
}
