// Requests, and the outbox: what the rater did and the server has not confirmed, in order. Each
// entry has a key of its own in localStorage, under the rater's id: it survives a reload and a
// crash, and two tabs overwrite nothing of each other. Every entry has a UUID made at the key
// press, so sending it again changes nothing.

const API = "/api/v1/";
const MOST_WAITING = 200;
const SLOWEST_RETRY_MS = 15000;
const SLOWEST_REPLY_MS = 30000; // a connection that ended while the machine slept says nothing

// The server answered, and said no.
class Refused extends Error {
  constructor(status, said) {
    super(said.error || String(status));
    this.status = status;
    this.said = said;
  }
  // Whether sending it again can never help.
  get isFinal() { return [400, 404, 409, 413, 422].includes(this.status); }
}

async function ask(path, body, options) {
  // Whose page this is: somebody else may have logged in beside it, and the cookie is theirs.
  const headers = { "x-prefkit": S.me ? S.me.id : "1" };
  if (body) headers["content-type"] = "application/json";
  const sent = body ? { method: "POST", body: JSON.stringify(body) } : {};
  const giveUp = new AbortController();
  const patience = setTimeout(() => giveUp.abort(), SLOWEST_REPLY_MS);
  try {
    const reply = await fetch(API + path, { headers, signal: giveUp.signal, ...sent, ...options });
    const type = reply.headers.get("content-type") || "";
    if (type.includes("json")) {
      const said = await reply.json();
      if (reply.ok) return said;
      throw new Refused(reply.status, said);
    }
    if (!reply.ok && type.startsWith("text/plain")) {
      throw new Refused(reply.status, { error: await reply.text() });
    }
    // A page of a proxy, or of a network that wants a log-in: whatever its status, no word of the app.
    throw new Error("no answer of the app");
  } finally {
    clearTimeout(patience);
  }
}

const whyOf = (fault) => (fault instanceof Refused ? fault.message : t("no_answer"));

// Whether a fault is that the session ended; then on to the log-in.
function isOut(fault) {
  const ended = fault instanceof Refused && fault.status === 401;
  if (ended) location.assign("/login"); // what was not sent waits here for its rater
  return ended;
}

function newId() {
  if (crypto.randomUUID) return crypto.randomUUID();
  // Over plain http on a network there is no randomUUID.
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  bytes[6] = (bytes[6] & 15) | 64;
  bytes[8] = (bytes[8] & 63) | 128;
  const hex = [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

class Outbox {
  constructor(owner) {
    this.prefix = "prefkit.out." + owner + ".";
    this.entries = kept.keys(this.prefix).map((key) => this.read(key)).filter(Boolean);
  }

  read(key) {
    // Another tab may have sent it since.
    try { const entry = JSON.parse(kept.read(key)); return entry && { ...entry, key }; }
    catch { return null; }
  }

  get isFull() { return this.entries.length >= MOST_WAITING; }

  // kind: "vote", "undo", "flag" or "seen"; facts: what the page wants to know of it later; held:
  // the same, but for as long as the page lasts.
  add(kind, path, body, facts, held) {
    const last = this.entries.at(-1);
    const place = last ? Number(last.key.slice(this.prefix.length).split(".")[0]) + 1 : 0;
    const key = this.prefix + String(place).padStart(9, "0") + "." + body.id;
    const entry = { kind, path, body, ...facts };
    if (!kept.write(key, JSON.stringify(entry))) say(t("not_kept"), true);
    this.entries.push({ ...entry, ...held, key });
  }

  drop(entry) {
    kept.drop(entry.key);
    this.entries = this.entries.filter((other) => other.key !== entry.key);
  }

  // A vote that was refused takes its undo along, which would undo another one.
  dropWithUndo(entry) {
    const id = entry.body.id;
    this.entries.filter((other) => other.of === id).forEach((other) => this.drop(other));
    this.drop(entry);
  }

  get waiting() { return this.entries.filter((entry) => entry.kind !== "seen").length; }
  votes() { return this.entries.filter((entry) => entry.kind === "vote"); }
}

let outbox = null;
let draining = false;
let offlineFor = 0;

const pausing = new Set(); // those who wait before they ask again
const wake = () => pausing.forEach((goOn) => goOn());
async function pause(ms) {
  let goOn = null;
  const over = new Promise((done) => { goOn = done; setTimeout(done, ms); });
  pausing.add(goOn);
  await over;
  pausing.delete(goOn);
}

function bodyToSend(entry) {
  if (entry.kind !== "vote") return entry.body;
  return { ...entry.body, have: tokensHeld().filter((token) => token !== entry.body.token) };
}

// Says what waits, in order, and then asks what to show if nothing is there; one thing at a time, so
// that no answer is older than what was done before it. Ends when there is nothing more to say, or
// the session ended.
async function drain() {
  wake();
  if (!S.me || draining) return;
  draining = true;
  try {
    while (await (outbox.entries.length ? sendFirst() : askNext())) { /* and on */ }
  } finally {
    draining = false;
  }
}

// Tries the first that waits; false where it makes no sense to go on.
async function sendFirst() {
  const [entry] = outbox.entries;
  let reply = null;
  try {
    reply = await ask(entry.path, bodyToSend(entry));
  } catch (fault) {
    if (!(fault instanceof Refused && fault.isFinal)) return bear(fault);
    outbox.dropWithUndo(entry);
    onRefused(entry, fault);
    return true;
  }
  outbox.drop(entry);
  offlineFor = 0;
  onConfirmed(entry, reply);
  return true;
}

// After a fault that may pass: say so and wait. False where the session ended: on to the log-in.
async function bear(fault) {
  if (isOut(fault)) return false;
  const why = whyOf(fault);
  const n = outbox.waiting;
  say(n ? t("not_saved_yet", { why, n }) : t("trying_again", { why }), true);
  offlineFor += 1;
  await pause(Math.min(500 * 2 ** offlineFor, SLOWEST_RETRY_MS));
  return true;
}

// An answer to a question, however long it takes; null where the session ended.
async function insist(path) {
  for (;;) {
    try {
      const reply = await ask(path);
      offlineFor = 0;
      return reply;
    } catch (fault) {
      if (fault instanceof Refused && fault.isFinal) throw fault;
      if (!(await bear(fault))) return null;
    }
  }
}
