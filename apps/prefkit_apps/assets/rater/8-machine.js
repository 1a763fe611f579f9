// What is on the screen and what comes next. The rater never waits for the server: the next pair
// is there already, the vote goes into the outbox, and the reply brings the pair after the next.

const DWELL_MS = 250; // a second press of the last pair's key must not vote on this one
const BEAT_MS = 60000;
const AWAY_MS = 30 * 60000;
const MOST_PAST = 50;

const S = {
  me: null,
  shown: null, // the pair in view
  queue: [], // pairs to come, ready to be shown
  set_aside: null, // what was in view when an old vote was opened
  past: [], // votes of this page that an undo can take back at once
  over: null, // the last word of the server where it had no pair: "waiting" or "done"
  undoing: false, // the server is asked which pair the undo brings back
  draft: null,
  reasonOpen: false,
  progress: null,
  readySince: 0,
};
let missedSince = 0;
let asksAgain = 0;

const isRevising = () => Boolean(S.shown && S.shown.pair.again);
const setState = (name) => { root.dataset.state = name; };
const itemsHeld = () => [S.shown, S.set_aside, ...S.queue].filter(Boolean);
const tokensHeld = () => [...itemsHeld().map((item) => item.pair.token),
  ...outbox.votes().map((entry) => entry.body.token)];

function take(reply) {
  if (reply.progress) {
    S.progress = reply.progress;
    showProgress(reply.progress);
  }
  for (const pair of reply.pairs || []) {
    const held = itemsHeld().find((item) => item.pair.task_id === pair.task_id);
    if (held) held.pair.token = pair.token;
    else if (!outbox.votes().some((entry) => entry.task === pair.task_id)) S.queue.push(prepare(pair));
  }
  if (reply.state) S.over = reply.state === "ready" ? null : reply;
  if (reply.guidelines !== versionShown()) loadGuidelines(reply.guidelines);
  if (!S.shown && !S.undoing) next(missedSince, true);
}

// Shows the next pair, or says why there is none.
function next(from, waited) {
  S.shown = S.queue.shift() || null;
  if (S.shown) {
    missedSince = 0;
    show(S.shown, from, waited, S.shown.draft);
    return;
  }
  missedSince = missedSince || from;
  root.dataset.task = "";
  if (outbox.votes().length || !S.over) setState("loading");
  else rest();
}

function show(item, from, waited, draft) {
  S.reasonOpen = false;
  openDraft(item, draft);
  paint(item, from, waited);
}

// There is nothing to judge now; others may hold what is left, and some of it may come back.
function rest() {
  missedSince = 0;
  setState(S.over.state);
  if (S.over.state === "done") find("#pk-h-done").focus({ preventScroll: true });
  clearTimeout(asksAgain);
  if (S.over.retry_s !== null) {
    asksAgain = setTimeout(() => { S.over = null; drain(); }, 1000 * Math.max(S.over.retry_s, 0.2));
  }
}

// What is in view comes again next, with what was written about it.
function putBack() {
  if (S.shown) S.queue.unshift({ ...S.shown, draft: S.draft });
  S.shown = null;
}

// Asks for pairs where there is none; false where that makes no sense.
async function askNext() {
  if (S.shown || S.queue.length) return false;
  if (S.over) { next(0, true); return false; }
  const reply = await insist("next");
  if (reply) take(reply);
  return Boolean(reply);
}

function choose(key, from) {
  if (!S.shown || root.dataset.state !== "ready" || performance.now() < S.readySince) return;
  if (outbox.isFull) { say(t("outbox_full"), true); return; }
  if (!editFits(key)) {
    say(t("edit_does_not_fit", { side: t(S.draft.edit.side), key: keyOf.edit }), true);
    return;
  }
  if (wantsReason(key)) {
    heldVote = key;
    openReason();
    say(t("why", { said: nameOf(key) }));
    return;
  }
  cast(key, from);
}

function cast(key, from) {
  const { pair, painted_ms, next_ms } = S.shown;
  const body = { id: newId(), token: pair.token, key, active_ms: clock.read(), ...extras() };
  if (painted_ms !== undefined) Object.assign(body, { painted_ms, next_ms });
  if (guidelines) body.guidelines = guidelines.version;
  if (pair.again) body.replaces = pair.again;
  const held = { item: S.shown, draft: S.draft };
  outbox.add("vote", "votes", body, { task: pair.task_id }, held);
  kept.drop(DRAFT + S.me.id);
  heldVote = null;
  if (pair.again) {
    S.past = []; // what an undo brings back now is for the server to say
    S.queue.unshift(...[S.set_aside].filter(Boolean));
    S.set_aside = null;
  } else {
    S.past.push({ id: body.id, ...held });
    if (S.past.length > MOST_PAST) S.past.shift();
  }
  say(nameOf(key));
  next(from, false);
  drain();
}

function undo() {
  if (S.undoing || (root.dataset.state === "loading" && !S.past.length)) return;
  if (isRevising()) { leaveHistory(); return; }
  const last = S.past.pop();
  outbox.add("undo", "undo", { id: newId() }, { of: last ? last.id : null });
  putBack();
  if (last) {
    S.shown = last.item;
    show(last.item, 0, false, last.draft);
    say(t("undone"));
  } else {
    S.undoing = true;
    root.dataset.task = "";
    setState("loading");
  }
  drain();
}

// The server has done what an entry of the outbox asks for.
function onConfirmed(entry, reply) {
  if (entry.kind === "undo") onUndone(reply);
  if (entry.kind === "vote" || entry.kind === "undo") take(reply);
  if (entry.kind === "vote") {
    const said = nameOf(entry.body.key);
    const n = outbox.waiting;
    say(n ? t("saved_but", { said, n }) : t(reply.saved.late ? "saved_late" : "saved", { said }));
  }
}

// The pair that an undo brings back is in view already, unless only the server knew which it is.
function onUndone(reply) {
  const expected = !S.undoing;
  S.undoing = false;
  if (!reply.undone) {
    if (!expected) say(t("nothing_to_undo"));
    if (!S.shown) next(0, false);
    return;
  }
  const [back] = reply.pairs;
  const later = outbox.entries.some((entry) => entry.kind === "vote" || entry.kind === "undo");
  if (later || (S.shown && S.shown.pair.task_id === back.task_id)) return;
  putBack();
  S.queue = S.queue.filter((item) => item.pair.task_id !== back.task_id);
  S.shown = prepare(back);
  show(S.shown, 0, true);
  say(t("undone"));
}

// The server will not take an entry of the outbox: say so and take its word for what is next.
function onRefused(entry, fault) {
  S.past = S.past.filter((vote) => vote.id !== entry.body.id);
  if (entry.kind === "undo") S.undoing = false;
  if (![404, 409].includes(fault.status)) bringBack(entry);
  if (fault.said.pairs) take(fault.said);
  else if (entry.kind === "vote" || entry.kind === "undo") {
    S.over = null;
    if (!S.shown) next(0, false);
  }
  const isTwice = fault.status === 409 && entry.kind === "vote";
  say(isTwice ? t("voted_elsewhere") : t("refused", { why: fault.message }), true);
}

// What was said cannot be taken: its pair comes again next, with all that was written about it.
function bringBack({ item, draft }) {
  if (!item || itemsHeld().some((other) => other.pair.task_id === item.pair.task_id)) return;
  S.queue.unshift({ ...item, draft });
}

// An old vote, to be changed; Escape goes back to where the rater was.
async function revise(voteId) {
  panel("history").close();
  if (outbox.entries.length) { say(t("first_save", { n: outbox.waiting }), true); return; }
  const before = S.shown;
  let pair = null;
  try {
    pair = await ask("history/" + voteId);
  } catch (fault) {
    if (!isOut(fault)) say(whyOf(fault), true);
    return;
  }
  if (S.shown !== before || S.undoing) return; // the rater went on meanwhile
  if (!isRevising()) S.set_aside = S.shown && { ...S.shown, draft: S.draft };
  S.shown = prepare(pair);
  show(S.shown, 0, true, draftOf(pair));
  say(t("revising", { said: pair.key ? nameOf(pair.key) : "" }));
}

function leaveHistory() {
  S.shown = S.set_aside;
  S.set_aside = null;
  if (S.shown) show(S.shown, 0, false, S.shown.draft);
  else { next(0, false); drain(); }
  say(t("unchanged"));
}

function beat(options) {
  if (!outbox) return;
  const tokens = tokensHeld();
  if (tokens.length) ask("heartbeat", { tokens, hidden: document.hidden }, options).catch(() => {});
}
